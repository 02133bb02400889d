"""Units from single cells, and decoders that start from them."""

from dataclasses import replace

import torch
from tiny import tiny_model

from deixis.models.config import DEFAULT_LOSS_WEIGHTS
from deixis.models.decoders import Proposals
from deixis.models.decoders.box import moved_boxes
from deixis.models.decoders.proposals import outside_penalty
from deixis.models.objectives import Things, proposal_losses
from deixis.models.projector import CellProjector
from deixis.models.references import LatentReferences


def things_of_two_images() -> Things:
    """Three things on a 2 x 2 grid of cells, the last of them covering none."""
    cells = torch.tensor([[0, 0, -1, -1], [-1, 1, -1, -1]])
    boxes = torch.tensor([[0.5, 0.25, 1.0, 0.5], [0.75, 0.25, 0.5, 0.5], [0.1, 0.1, 0.01, 0.01]])
    masks = torch.zeros(3, 8, 8)
    masks[0, :4] = 1
    masks[1, :4, 4:] = 1
    return Things(cells, boxes, masks, torch.zeros(3, 0, dtype=torch.bool))


def perfect(things: Things) -> tuple[Proposals, torch.Tensor]:
    boxes = things.boxes[things.cells.clamp(min=0)]
    # one channel of pixels: high where anything is, so that an embedding of one finds it
    embeddings = torch.tensor([20.0, -10.0]).expand(2, 4, 2).clone()
    pixels = torch.stack([things.masks[0], things.masks[1]])[:, None]
    objectness = torch.where(things.cells >= 0, 12.0, -12.0)
    return Proposals.make(boxes, embeddings, objectness), pixels


def test_right_proposals_cost_nothing_and_things_without_cells_ask_for_nothing() -> None:
    things = things_of_two_images()
    proposals, pixels = perfect(things)
    loss, measures = proposal_losses(proposals, pixels, things, DEFAULT_LOSS_WEIGHTS)
    assert loss.item() < 1e-3
    assert measures["proposed_box_iou"].item() > 0.999
    assert measures["proposed_mask_iou"].item() > 0.999


def test_a_wrong_box_or_mask_costs() -> None:
    things = things_of_two_images()
    proposals, pixels = perfect(things)
    moved = proposals.boxes.clone()
    moved[1, 1, 0] -= 0.4
    box, _ = proposal_losses(replace(proposals, boxes=moved), pixels, things, DEFAULT_LOSS_WEIGHTS)
    mask, _ = proposal_losses(proposals, -pixels, things, DEFAULT_LOSS_WEIGHTS)
    assert box.item() > 0.5
    assert mask.item() > 0.5


def test_what_ground_proposes_is_not_scored() -> None:
    things = things_of_two_images()
    proposals, pixels = perfect(things)
    odd = proposals.boxes.clone()
    odd[0, 2:] = 0.9
    loss, _ = proposal_losses(replace(proposals, boxes=odd), pixels, things, DEFAULT_LOSS_WEIGHTS)
    assert loss.item() < 1e-3


def test_images_without_things_give_a_zero_with_gradients() -> None:
    boxes = torch.full((2, 4, 4), 0.5, requires_grad=True)
    embeddings = torch.zeros(2, 4, 2, requires_grad=True)
    nothing = Things(
        torch.full((2, 4), -1),
        torch.zeros(0, 4),
        torch.zeros(0, 8, 8),
        torch.zeros(0, 0, dtype=torch.bool),
    )
    loss, _ = proposal_losses(
        Proposals.make(boxes, embeddings, torch.full((2, 4), -30.0)),
        torch.zeros(2, 1, 8, 8),
        nothing,
        DEFAULT_LOSS_WEIGHTS,
    )
    loss.backward()
    assert loss.item() < 1e-6
    for given in (boxes, embeddings):
        assert given.grad is not None
        assert not given.grad.any()


def test_pixels_inside_a_box_lose_nothing_and_pixels_outside_more_with_distance() -> None:
    penalty = outside_penalty(torch.tensor([[0.25, 0.5, 0.5, 1.0]]), 16)[0]
    assert not penalty[:, :8].any()
    row = penalty[8, 8:]
    assert (row[1:] >= row[:-1]).all()
    assert 0 < row[0] < row[-1] <= 30
    empty = outside_penalty(torch.tensor([[0.5, 0.5, 0.0, 0.0]]), 16)
    assert torch.isfinite(empty).all()


def test_fresh_decoders_give_what_the_elected_cell_proposes() -> None:
    model, _ = tiny_model()
    seen = model.see(torch.rand(1, 3, 64, 64) * 2 - 1)
    states = torch.randn(1, 3, model.config.text_config.hidden_size)
    turns = torch.ones(1, 3, dtype=torch.long)
    units = model.decode(LatentReferences(states, turns.bool(), turns), seen)
    assert units.boxes is not None
    assert units.masks is not None
    assert seen.proposals is not None
    box, _ = seen.proposals.at(units.boxes.anchors[-1].elected)
    assert torch.equal(units.boxes.boxes, box)
    around, embedding = seen.proposals.at(units.masks.anchors[-1].elected)
    flat = embedding[..., :-1] @ seen.maps.pixels.flatten(2) + embedding[..., -1:]
    expected = flat.unflatten(2, (32, 32)) - outside_penalty(around, 32)
    torch.testing.assert_close(units.masks.logits, expected)


def test_moved_boxes_move_by_shares_of_their_size() -> None:
    box = torch.tensor([[[0.5, 0.5, 0.2, 0.4]]])
    moved = moved_boxes(box, torch.tensor([[[0.5, -0.25, 0.0, 100.0]]]))
    torch.testing.assert_close(moved[0, 0, :3], torch.tensor([0.6, 0.4, 0.2]))
    assert 1.5 < moved[0, 0, 3].item() < 1.7
    assert torch.equal(moved_boxes(box, torch.zeros(1, 1, 4)), box)


def test_image_tokens_from_cells_are_two_by_two_and_row_by_row() -> None:
    torch.manual_seed(0)
    projector = CellProjector(16, 24)
    cells = torch.randn(1, 16, 8, 8)
    changed = cells.clone()
    changed[0, :, 3, 5] += 1.0  # second row of tokens, third column
    differs = (projector(cells) - projector(changed))[0].abs().sum(-1) > 0
    assert differs.nonzero().flatten().tolist() == [1 * 4 + 2]

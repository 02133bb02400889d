"""Units from single cells, and what starts from them: decoders and image tokens."""

from dataclasses import replace

import pytest
import torch
from closeness import assert_same_outputs
from tiny import tiny_choice, tiny_model, tiny_tokenizer

from deixis.batch import Instances
from deixis.errors import ModelError
from deixis.models.config import DEFAULT_LOSS_WEIGHTS
from deixis.models.decoders import BoxDecoder, BoxPredictions, Proposals
from deixis.models.decoders.box import moved_boxes
from deixis.models.decoders.interface import Features
from deixis.models.decoders.layers import Anchor
from deixis.models.decoders.mask import MaskPredictions
from deixis.models.decoders.proposals import outside_penalty, proposal_losses
from deixis.models.pointing import PointingVLM
from deixis.models.positions import box_code
from deixis.models.projector import CellProjector, ObjectProjector
from deixis.models.references import LatentReferences
from deixis.training.build import model_config


def instances_of_two_images() -> Instances:
    """Three instances on a 2 x 2 grid of cells, the last of them covering none."""
    cells = torch.tensor([[0, 0, -1, -1], [-1, 1, -1, -1]])
    boxes = torch.tensor([[0.5, 0.25, 1.0, 0.5], [0.75, 0.25, 0.5, 0.5], [0.1, 0.1, 0.01, 0.01]])
    masks = torch.zeros(3, 8, 8, dtype=torch.uint8)
    masks[0, :4] = 1
    masks[1, :4, 4:] = 1
    return Instances(cells, boxes, masks, torch.zeros(3, 0, dtype=torch.bool))


def perfect(instances: Instances) -> tuple[Proposals, torch.Tensor]:
    boxes = instances.boxes[instances.cells.clamp(min=0)]
    # one channel of pixels: high where anything is, so that an embedding of one finds it
    embeddings = torch.tensor([20.0, -10.0]).expand(2, 4, 2).clone()
    pixels = instances.masks[:2, None].float()
    objectness = torch.where(instances.cells >= 0, 12.0, -12.0)
    return Proposals.make(boxes, embeddings, objectness), pixels


def test_right_proposals_cost_nothing_and_instances_without_cells_ask_for_nothing() -> None:
    instances = instances_of_two_images()
    proposals, pixels = perfect(instances)
    loss, measures = proposal_losses(proposals, pixels, instances, DEFAULT_LOSS_WEIGHTS)
    assert loss.item() < 1e-3
    assert measures["proposed_box_iou"].item() > 0.999
    assert measures["proposed_mask_iou"].item() > 0.999


def test_a_wrong_box_or_mask_costs() -> None:
    instances = instances_of_two_images()
    proposals, pixels = perfect(instances)
    moved = proposals.boxes.clone()
    moved[1, 1, 0] -= 0.4
    box, _ = proposal_losses(
        replace(proposals, boxes=moved), pixels, instances, DEFAULT_LOSS_WEIGHTS
    )
    mask, _ = proposal_losses(proposals, -pixels, instances, DEFAULT_LOSS_WEIGHTS)
    assert box.item() > 0.5
    assert mask.item() > 0.5


def test_what_ground_proposes_is_not_scored() -> None:
    instances = instances_of_two_images()
    proposals, pixels = perfect(instances)
    odd = proposals.boxes.clone()
    odd[0, 2:] = 0.9
    loss, _ = proposal_losses(
        replace(proposals, boxes=odd), pixels, instances, DEFAULT_LOSS_WEIGHTS
    )
    assert loss.item() < 1e-3


def test_images_without_instances_give_a_zero_with_gradients() -> None:
    boxes = torch.full((2, 4, 4), 0.5, requires_grad=True)
    embeddings = torch.zeros(2, 4, 2, requires_grad=True)
    nothing = Instances(
        torch.full((2, 4), -1),
        torch.zeros(0, 4),
        torch.zeros(0, 8, 8, dtype=torch.uint8),
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
    boxes, masks = (units.units[unit].decoded for unit in ("box", "mask"))
    assert isinstance(boxes, BoxPredictions)
    assert isinstance(masks, MaskPredictions)
    assert seen.proposals is not None
    box, _ = seen.proposals.at(boxes.anchors[-1].elected)
    assert_same_outputs(boxes.boxes, box)
    around, embedding = seen.proposals.at(masks.anchors[-1].elected)
    flat = embedding[..., :-1] @ seen.maps.pixels.flatten(2) + embedding[..., -1:]
    expected = flat.unflatten(2, (32, 32)) - outside_penalty(around, 32)
    torch.testing.assert_close(masks.logits, expected)


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


def row_of_boxes(*boxes: tuple[float, float, float, float]) -> torch.Tensor:
    return torch.tensor([boxes])


def test_a_thing_of_many_cells_outvotes_one_cell_of_another() -> None:
    """Three cells agree on one box with 0.6 of the attention; a single one has 0.4."""
    same, other = (0.3, 0.3, 0.2, 0.2), (0.8, 0.8, 0.2, 0.2)
    proposals = Proposals.make(
        row_of_boxes(same, other, same, same), torch.zeros(1, 4, 1), torch.zeros(1, 4)
    )
    logits = torch.tensor([[[0.2, 0.4, 0.2, 0.2]]]).log()
    elected, votes = proposals.elect(logits)
    assert elected.item() in {0, 2, 3}
    assert votes.item() == pytest.approx(0.6)


def test_objects_are_the_likeliest_instances_once_each_and_from_left_to_right() -> None:
    boxes = row_of_boxes(
        (0.7, 0.5, 0.2, 0.2),
        (0.2, 0.5, 0.2, 0.2),
        (0.71, 0.5, 0.2, 0.2),  # the first again, from another cell
        (0.5, 0.1, 0.2, 0.2),
    )
    objectness = torch.tensor([[3.0, 1.0, 2.9, 2.0]])
    proposals = Proposals.make(boxes, torch.zeros(1, 4, 1), objectness)
    assert proposals.objects(3).tolist() == [[1, 3, 0]]
    assert proposals.objects(2).tolist() == [[3, 0]]
    # asked for more than there are, it gives each cell once
    assert sorted(proposals.objects(4)[0].tolist()) == [0, 1, 2, 3]


def test_objects_of_an_image_do_not_depend_on_its_neighbours() -> None:
    torch.manual_seed(0)
    boxes = torch.rand(3, 16, 4) * 0.5 + 0.1
    proposals = Proposals.make(boxes, torch.zeros(3, 16, 1), torch.randn(3, 16))
    together = proposals.objects(5)
    for index in range(3):
        alone = Proposals.make(
            boxes[index : index + 1], torch.zeros(1, 16, 1), proposals.objectness[index, None]
        )
        assert torch.equal(alone.objects(5)[0], together[index])


def test_a_token_of_a_thing_changes_with_its_looks_and_its_place() -> None:
    torch.manual_seed(0)
    projector = ObjectProjector(16, 24, cell_grid=4, objects=2)
    cells = torch.randn(1, 16, 4, 4)
    boxes = torch.full((1, 16, 4), 0.1)
    boxes[0, :, 0] = torch.arange(16) / 16
    objectness = torch.full((1, 16), -9.0)
    objectness[0, [3, 12]] = 4.0
    proposals = Proposals.make(boxes, torch.zeros(1, 16, 1), objectness)
    tokens = projector(cells, proposals)
    assert tokens.shape == (1, 2 + 16, 24)
    moved = boxes.clone()
    moved[0, 12, 1] = 0.4
    elsewhere = projector(cells, Proposals.make(moved, torch.zeros(1, 16, 1), objectness))
    changed = (tokens - elsewhere)[0].abs().sum(-1) > 1e-6
    assert changed.nonzero().flatten().tolist() == [1]
    other = cells.clone()
    other[0, :8, 0, 3] += 1  # cell 3: the first thing, and one of sixteen parts of the whole
    changed = (tokens - projector(other, proposals))[0].abs().sum(-1) > 1e-6
    assert changed.nonzero().flatten().tolist() == [0, 2 + 3]


def test_box_codes_tell_boxes_apart_and_stay_small() -> None:
    torch.manual_seed(0)
    boxes = torch.rand(200, 4)
    codes = box_code(boxes)
    apart = torch.cdist(codes, codes) + torch.eye(200) * 9
    assert codes.abs().max() <= 1
    assert apart.min() > 0.1


def test_later_steps_add_to_where_earlier_ones_attended() -> None:
    model, _ = tiny_model()
    seen = model.see(torch.rand(1, 3, 64, 64) * 2 - 1)
    states = torch.randn(1, 2, model.config.text_config.hidden_size)
    turns = torch.ones(1, 2, dtype=torch.long)
    latent = LatentReferences(states, turns.bool(), turns)
    decoder, given = model.decoders["box"], Features(seen.maps, seen.proposals)
    assert isinstance(decoder, BoxDecoder)
    before = decoder(latent, given).anchors
    last = decoder.trunk.anchors[-1]
    assert isinstance(last, Anchor)
    with torch.no_grad():  # a last step that says nothing of its own
        for layer in (last.query, last.place):
            layer.weight.zero_()
            layer.bias.zero_()
    after = decoder(latent, given).anchors
    torch.testing.assert_close(after[-1].logits, before[-2].logits)
    assert not torch.allclose(before[-1].logits, before[-2].logits)


def test_tokens_of_instances_need_proposals() -> None:
    choice = replace(tiny_choice(), proposals=False)
    with pytest.raises(ModelError, match="proposals"):
        PointingVLM(model_config(choice, tiny_tokenizer(), []))


@pytest.mark.parametrize("tokens_from", ["encoder", "cells"])
def test_image_tokens_come_from_where_the_configuration_says(tokens_from: str) -> None:
    choice = replace(tiny_choice(), tokens_from=tokens_from)  # type: ignore[arg-type]  # one of them
    config = model_config(choice, tiny_tokenizer(), [])
    seen = PointingVLM(config).see(torch.rand(2, 3, 64, 64))
    assert seen.tokens.shape == (2 * config.image_tokens, 48)


def test_places_count_however_large_features_grow() -> None:
    """Cells grow a hundredfold in training; positions added to them as they were, drowned."""
    model, _ = tiny_model()
    seen = model.see(torch.rand(1, 3, 64, 64) * 2 - 1)
    states = torch.randn(1, 2, model.config.text_config.hidden_size)
    turns = torch.ones(1, 2, dtype=torch.long)
    latent = LatentReferences(states, turns.bool(), turns)
    masks, rows = torch.ones(1, 32, 32), torch.zeros(1, dtype=torch.long)
    cells = torch.randn_like(seen.maps.cells)
    small, large = (
        model.decoders["box"](latent, Features(replace(seen.maps, cells=each), seen.proposals))
        .anchors[-1]
        .logits
        for each in (cells, cells * 100)
    )
    torch.testing.assert_close(small, large, atol=1e-3, rtol=1e-3)
    regions = model.region_encoder(cells, masks, rows)
    torch.testing.assert_close(
        regions, model.region_encoder(cells * 100, masks, rows), atol=1e-3, rtol=1e-3
    )

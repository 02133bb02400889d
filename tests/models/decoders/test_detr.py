"""Decoders with the layers of REF-VLM's public code, against Hugging Face's modules."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from models.decoders import official
from models.decoders.small import gradients_are_finite
from models.test_published import DECODER, PYRAMID, WIDTH, refvlm
from torch import Tensor, nn
from torch.nn import functional
from transformers.loss.loss_for_object_detection import sigmoid_focal_loss

from deixis.errors import ModelError
from deixis.models.decoders import DecoderConfig, DetrBoxDecoder, DetrMaskDecoder
from deixis.models.decoders.detr import PyramidMap
from deixis.models.decoders.interface import Features
from deixis.models.decoders.keypoints import KeypointConfig, KeypointDecoder, KeypointTruth
from deixis.models.decoders.maskformer_pixel import MaskFormerPixelDecoder
from deixis.models.decoders.pixel import PixelFeatures
from deixis.models.positions import detr_positions
from deixis.models.published import REFVLM, match_keys
from deixis.models.references import LatentReferences

SHAPE: dict[str, Any] = {
    "width": DECODER,
    "heads": 2,
    "hidden": 24,
    "layers": 2,
    "anchored": False,
    "design": "detr",
}
GRIDS = (16, 8, 4, 3)


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return official.lively(refvlm())


def pyramid_of(rows: int) -> tuple[Tensor, ...]:
    dice = torch.Generator().manual_seed(1)
    return tuple(
        torch.randn(rows, width, grid, grid, generator=dice)
        for width, grid in zip(PYRAMID, GRIDS, strict=True)
    )


def states_of(rows: int, count: int) -> Tensor:
    return torch.randn(rows, count, WIDTH, generator=torch.Generator().manual_seed(2))


def asked(states: Tensor, turns: Tensor | None = None) -> LatentReferences:
    filled = torch.ones(states.shape[:2], dtype=torch.bool)
    return LatentReferences(states, filled, filled.long() if turns is None else turns)


def with_published(module: nn.Module, published: dict[str, Tensor], part: str) -> nn.Module:
    """Return a module with imported weights; only the quality estimates are added by deixis."""
    shapes = {key: tuple(value.shape) for key, value in published.items()}
    report = match_keys(REFVLM, shapes)
    assert report.complete
    tensors = {one.name: published[one.key] for one in report.mapped if one.part == part}
    missing, unexpected = module.load_state_dict(tensors, strict=False)
    assert tensors
    assert not unexpected
    assert all(name.startswith(("quality.", "estimate.")) for name in missing)
    return module.eval()


def box_decoder(published: dict[str, Tensor]) -> DetrBoxDecoder:
    config = DecoderConfig(**SHAPE, num_queries=5)
    module = with_published(DetrBoxDecoder(config, WIDTH, PYRAMID), published, "box_decoder")
    assert isinstance(module, DetrBoxDecoder)
    return module


def pixel_decoder(published: dict[str, Tensor]) -> MaskFormerPixelDecoder:
    module = MaskFormerPixelDecoder(
        PYRAMID, cell_level=3, pixel_level=0, cell_width=DECODER, pixel_width=32, width=32
    )
    loaded = with_published(module, published, "pixel_decoder")
    assert isinstance(loaded, MaskFormerPixelDecoder)
    return loaded


def keypoint_decoder(published: dict[str, Tensor]) -> KeypointDecoder:
    config = KeypointConfig(
        **SHAPE, joint_layers=2, from_box=False, levels=2, num_queries=4, loss="code"
    )
    module = with_published(KeypointDecoder(config, WIDTH, PYRAMID), published, "pose_decoder")
    assert isinstance(module, KeypointDecoder)
    return module


def features_of(rows: int, published: dict[str, Tensor] | None = None) -> Features:
    pyramid = pyramid_of(rows)
    blank = PixelFeatures(torch.zeros(rows, 1, 1, 1), torch.zeros(rows, 1, 1, 1))
    maps = blank if published is None else pixel_decoder(published)(pyramid)
    return Features(maps, pyramid=pyramid)


@torch.no_grad()
def test_boxes_are_those_of_the_public_code(published: dict[str, Tensor]) -> None:
    states = states_of(2, 3)
    found = box_decoder(published)(asked(states), features_of(2))
    state = official.below(published, "visual_decoder.box.")
    _, expected = official.boxes(state, states, pyramid_of(2))
    official.close(found.boxes, expected[:, :3])
    # the compared outputs depend on the image
    _, blind = official.boxes(state, states, [level * 0 for level in pyramid_of(2)])
    assert (expected - blind).abs().max() > 0.01


@torch.no_grad()
def test_masks_are_those_of_the_public_code(published: dict[str, Tensor]) -> None:
    config = DecoderConfig(**SHAPE, num_queries=3)
    decoder = with_published(DetrMaskDecoder(config, WIDTH, 32), published, "mask_decoder")
    states = states_of(2, 2)
    found = decoder(asked(states), features_of(2, published))
    state = official.below(published, "visual_decoder.mask.")
    expected = official.masks(state, states, pyramid_of(2))
    official.close(found.logits, expected[:, :2])


@torch.no_grad()
def test_bodies_are_those_of_the_public_code(published: dict[str, Tensor]) -> None:
    states = states_of(2, 3)
    found = keypoint_decoder(published)(asked(states), features_of(2))
    state = official.below(published, "visual_decoder.pose.")
    expected = official.bodies(state, states, pyramid_of(2))
    official.close(found.boxes[0], expected["first"][:, :3])
    official.close(found.boxes[1], expected["box"][:, :3])
    official.close(found.positions, expected["joints"][:, :3])
    official.close(found.visibility, expected["visible"][:, :3])


@torch.no_grad()
def test_losses_of_bodies_are_those_of_the_public_code(published: dict[str, Tensor]) -> None:
    decoder, count = keypoint_decoder(published), 3
    found = decoder(asked(states_of(1, count)), features_of(1))
    dice = torch.Generator().manual_seed(5)
    joints = torch.rand(count, 17, 2, generator=dice)
    visible = torch.randint(0, 3, (count, 17), generator=dice)
    target = torch.rand(count, 4, generator=dice) * 0.4 + 0.2
    even, known = torch.ones(count), torch.ones(count, dtype=torch.bool)
    truth = KeypointTruth(joints, visible, even * 0.1, target, known, even)
    scored = decoder.losses(found, truth, known[None])

    def box_loss(boxes: Tensor) -> Tensor:
        apart = (boxes - target).abs().sum() / count
        overlap = official.generalized_iou(boxes, target).diag()
        loss: Tensor = 5 * apart + 2 * (1 - overlap).sum() / count
        return loss

    predicted, logits = found.positions[0], found.visibility[0].flatten(0, 1)
    seen = functional.one_hot((visible.flatten() > 0).long(), 2).float()
    expected = (
        box_loss(found.boxes[1][0])
        + 0.5 * box_loss(found.boxes[0][0])
        + 2 * (predicted - joints).abs()[visible > 0].sum() / count
        + 2 * nn.PairwiseDistance(p=2)(predicted, joints).mean()
        # the focal loss of the public code is a sum over joints, a mean over the two levels
        + sigmoid_focal_loss(logits, seen, count)
    )
    quality = decoder.config.quality * scored.parts["quality"]
    assert scored.loss.item() - quality.item() == pytest.approx(expected.item(), rel=1e-5)
    # references of a group are matched by their boxes only
    members = torch.tensor([[0, 1, 2]])
    cost = decoder.costs(found, truth, known[None], members)[0]
    boxes = found.boxes[1][0]
    overlap = official.generalized_iou(boxes, target)
    pairs = 5 * torch.cdist(boxes, target, p=1) + 2 * (1 - overlap)
    official.close(cost, pairs)


@torch.no_grad()
def test_turns_of_a_row_equal_turns_asked_alone(published: dict[str, Tensor]) -> None:
    decoder, states = box_decoder(published), states_of(1, 5)
    turns = torch.tensor([[1, 1, 3, 3, 3]])
    together = decoder(asked(states, turns), features_of(1)).boxes
    for own in (slice(0, 2), slice(2, 5)):
        alone = decoder(asked(states[:, own]), features_of(1)).boxes
        official.close(together[:, own], alone)


@torch.no_grad()
def test_padding_and_neighbours_change_nothing(published: dict[str, Tensor]) -> None:
    decoder, states = keypoint_decoder(published), states_of(2, 4)
    filled = torch.tensor([[True, True, True, False], [True, False, False, False]])
    wide = LatentReferences(states * filled[..., None], filled, filled.long())
    together = decoder(wide, features_of(2))
    one = Features(features_of(2).maps, pyramid=tuple(level[1:] for level in pyramid_of(2)))
    alone = decoder(asked(states[1:, :1]), one)
    official.close(together.positions[1, :1], alone.positions[0])


@torch.no_grad()
def test_predictions_without_references_keep_their_shapes(published: dict[str, Tensor]) -> None:
    nobody = replace(asked(states_of(2, 3)), filled=torch.zeros(2, 3, dtype=torch.bool))
    boxes = box_decoder(published)(nobody, features_of(2))
    assert boxes.boxes.shape == (2, 3, 4)
    bodies = keypoint_decoder(published)(nobody, features_of(2))
    assert bodies.positions.shape == (2, 3, 17, 2)
    config = DecoderConfig(**SHAPE, num_queries=3)
    masks = DetrMaskDecoder(config, WIDTH, 32)(nobody, features_of(2, published))
    assert masks.logits.shape == (2, 3, 16, 16)


def test_more_references_than_queries_are_refused(published: dict[str, Tensor]) -> None:
    message = "asks for 6 units of type box, their decoder has 5 queries"
    with pytest.raises(ModelError, match=message):
        box_decoder(published)(asked(states_of(1, 6)), features_of(1))
    message = "asks for 5 units of type keypoint, their decoder has 4 queries"
    with pytest.raises(ModelError, match=message):
        keypoint_decoder(published)(asked(states_of(1, 5)), features_of(1))
    # each turn has three references, fewer than the five queries
    turns = torch.tensor([[1, 1, 1, 2, 2, 2]])
    found = box_decoder(published)(asked(states_of(1, 6), turns), features_of(1))
    assert found.boxes.shape == (1, 6, 4)


def test_gradients_reach_every_parameter_that_decodes(published: dict[str, Tensor]) -> None:
    decoder = box_decoder(published).train()
    found = decoder(asked(states_of(2, 3)), features_of(2))
    (found.boxes.sum() + found.quality.sum()).backward()
    # these decoders have no votes
    decoder.get_submodule("quality.sureness").requires_grad_(False)
    assert gradients_are_finite(decoder)


def test_states_are_dropped_in_training_alone() -> None:
    torch.manual_seed(0)
    config = DecoderConfig(**SHAPE, num_queries=5, dropout=0.5)
    decoder, given = DetrBoxDecoder(config, WIDTH, PYRAMID), features_of(1)
    first, second = (decoder(asked(states_of(1, 2)), given).boxes for _ in range(2))
    assert not torch.equal(first, second)
    decoder.eval()
    first, second = (decoder(asked(states_of(1, 2)), given).boxes for _ in range(2))
    assert torch.equal(first, second)


@torch.no_grad()
def test_a_pyramid_is_mapped_as_if_it_were_one_map() -> None:
    torch.manual_seed(0)
    mapped, pyramid = PyramidMap(PYRAMID, 8), pyramid_of(2)
    state = {f"in_proj_visual_feats.{key}": x for key, x in mapped.state_dict().items()}
    expected = official.resize_concat(state, pyramid).flatten(2).transpose(1, 2)
    official.close(mapped(pyramid), expected)


@pytest.mark.parametrize(("grid", "width"), [(3, 8), (24, 256)])
def test_positions_are_those_of_detr(grid: int, width: int) -> None:
    expected = official.positions(grid, width)
    official.close(detr_positions(grid, width), expected)


def test_published_weights_load_at_their_size() -> None:
    levels = (192, 384, 768, 1024)
    with torch.device("meta"):
        boxes = DetrBoxDecoder(DecoderConfig.refvlm("box", "code"), 4096, levels)
        masks = DetrMaskDecoder(DecoderConfig.refvlm("mask", "code"), 4096, 256)
        bodies = KeypointDecoder(KeypointConfig.refvlm("code"), 4096, levels)
        pixels = MaskFormerPixelDecoder(
            levels, cell_level=3, pixel_level=0, cell_width=256, pixel_width=256
        )
    parts = {
        "box_decoder": boxes,
        "mask_decoder": masks,
        "pose_decoder": bodies,
        "pixel_decoder": pixels,
    }
    sizes: dict[str, dict[str, tuple[int, ...]]] = {
        part: {key: tuple(value.shape) for key, value in module.state_dict().items()}
        for part, module in parts.items()
    }
    rows = [row for group in REFVLM.groups.values() for row in group if row.part in parts]
    # the numbers of layers and levels are read from the weights
    published = {}
    for row in rows:
        numbers = range(6) if "layers.*" in row.key else [0]
        for number in numbers:
            shape = sizes[row.part].get(row.name.replace("*", str(number)))
            if shape is not None:
                published[row.key.replace("*", str(number))] = shape
    report = match_keys(REFVLM, published)
    assert report.missing == ["projector"]
    assert not report.mismatched
    assert not report.unmapped
    assert not report.unlike_released
    placed = {(one.part, one.name) for one in report.mapped}
    left = {
        (part, key)
        for part, state in sizes.items()
        for key in state
        if not key.startswith(("quality.", "estimate."))
    }
    assert placed == left


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"anchored": True}, "design detr: expected anchored false"),
        ({"width": 18}, "design detr: expected a width divisible by 4, got 18"),
        ({"design": "deixis", "dropout": 0.1}, "design deixis: expected dropout 0, got 0.1"),
    ],
)
def test_fields_that_do_not_fit_a_design_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        DecoderConfig(**{**SHAPE, **changes})
    with pytest.raises(ModelError, match=message):
        KeypointConfig(**{**SHAPE, "joint_layers": 2, "from_box": False, "levels": 2, **changes})


@pytest.mark.parametrize("changes", [{"joint_layers": 3}, {"from_box": True}, {"levels": 3}])
def test_a_keypoint_decoder_of_the_design_detr_has_its_shape(changes: dict[str, Any]) -> None:
    fields = {**SHAPE, "joint_layers": 2, "from_box": False, "levels": 2, **changes}
    with pytest.raises(ModelError, match="expected as many joint_layers as layers, from_box false"):
        KeypointConfig(**fields)

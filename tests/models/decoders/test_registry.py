"""Units by name: what is decoded, what comes back undecoded, and what stays as it was."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from jaxtyping import Bool, Float, Int
from models.decoders.segmenters import tiny_sam2
from models.decoders.small import (
    FINE,
    GRID,
    LANGUAGE,
    PIXELS,
    SHAPE,
    features,
    generator,
    references,
    some_boxes,
)
from tiny import tiny_model
from torch import Tensor

from deixis.errors import ModelError
from deixis.geometry import Box, DepthMap, ImageSize, Keypoints, Letterbox, Mask, Point
from deixis.inference.predictor import _Placer
from deixis.models.config import DEFAULT_LOSS_WEIGHTS
from deixis.models.decoders import BoxDecoder, DecoderConfig, MaskDecoder
from deixis.models.decoders import registry as units
from deixis.models.decoders.interface import Features, UnitDecoder, UnitLoss
from deixis.models.decoders.placing import points_at_source
from deixis.models.decoders.plain import BoxTruth, BoxUnits, MaskTruth, MaskUnits
from deixis.models.decoders.registry import BUILDERS, UnitDecoders, Widths, build_decoder
from deixis.models.objectives import DecodedUnits, Truth, cell_coverage, match_truth, unit_losses
from deixis.models.references import LatentReferences
from deixis.structures import UnitType

SIZE = ImageSize(40, 64)
WIDTHS = Widths(LANGUAGE, PIXELS)


def all_decoders() -> UnitDecoders:
    torch.manual_seed(0)
    names = [UnitType.BOX, UnitType.MASK, UnitType.KEYPOINT, UnitType.DEPTH]
    return UnitDecoders(tuple(build_decoder(name, SHAPE, WIDTHS) for name in names))


def test_every_decoder_is_built_from_plain_data_and_is_a_unit_decoder() -> None:
    for name in BUILDERS:
        config = {
            "location": {"width": 16},
            "segmenter": {"segmenter": tiny_sam2().config.to_dict(), "at_once": 4},
        }.get(name, SHAPE)
        assert isinstance(build_decoder(name, config, WIDTHS), UnitDecoder), name


def test_references_come_back_with_their_units_and_what_nothing_decodes_undecoded() -> None:
    decoders, asked = all_decoders(), references([1, 2])
    with torch.no_grad():
        decoded = decoders.decode(asked, features(2))
    # random masks may be empty, which is another matter
    masks = decoded["mask"]
    assert hasattr(masks, "logits")
    decoded["mask"] = replace(masks, logits=masks.logits.abs() + 1)  # type: ignore[type-var]
    names = ("box", "mask", "keypoint", "depth", "point", "cuboid")
    found, problems = decoders.reference(decoded, names, 1, 1, SIZE)
    assert problems == ()
    assert [type(unit) for unit in found.units] == [
        *(Box, Mask, Keypoints, DepthMap),
        *(type(None), type(None)),
    ]
    chances = [float(one.quality[1, 1].sigmoid()) for one in decoded.values()]
    assert found.score == pytest.approx(sum(chances) / 4)
    unknown, problems = decoders.reference(decoded, ("cuboid", "point"), 0, 0, SIZE)
    assert unknown.units == (None, None)
    assert unknown.score is None
    assert problems == ()


def test_what_is_not_sound_is_a_problem_and_not_an_error() -> None:
    decoders, asked = all_decoders(), references([2])
    decoded: Any = decoders.decode(asked, features(1))
    boxes = decoded["box"].boxes.detach().clone()
    boxes[0, 1] = torch.nan
    decoded["box"] = replace(decoded["box"], steps=(boxes,))
    found, problems = decoders.reference(decoded, ("box", "depth"), 0, 1, SIZE)
    assert found.units[0] is None
    assert isinstance(found.units[1], DepthMap)
    assert [problem.code for problem in problems] == ["unit_unsound"]
    assert problems[0].message.startswith("reference 1: ")


def test_decoders_are_given_the_references_that_want_them_at_their_positions() -> None:
    decoders, asked = all_decoders(), references([3, 2])
    wanted = {
        "depth": torch.tensor([[False, True, False], [False, False, True]]),
        "keypoint": asked.filled,
    }
    with torch.no_grad():
        decoded: Any = decoders.decode(asked, features(2), wanted=wanted)
        whole: Any = decoders.decode(asked, features(2))
    # a place that holds no reference wants nothing
    assert decoded["depth"].index.tolist() == [[-1, 0, -1], [-1, -1, -1]]
    assert len(decoded["depth"].logs) == 1
    positions = decoded["keypoint"].positions[asked.filled]
    assert torch.allclose(positions, whole["keypoint"].positions[asked.filled], atol=1e-6)


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ModelError, match="unit decoder 'cuboid': expected one of"):
        build_decoder("cuboid", {}, WIDTHS)
    with pytest.raises(ModelError, match=r"unit decoder 'depth': .*unexpected keyword.*'colour'"):
        build_decoder("depth", {"colour": 3}, WIDTHS)
    box = build_decoder("box", SHAPE, WIDTHS)
    with pytest.raises(ModelError, match="each unit type once"):
        UnitDecoders((box, build_decoder("location", {"width": 16}, WIDTHS)))


@dataclass(frozen=True)
class Places:
    points: Float[Tensor, "b q 2"]
    quality: Float[Tensor, "b q"]


class PointDecoder(torch.nn.Module):
    """All that a new unit type takes: the centre of the state, so to say."""

    unit = UnitType.POINT.value

    def __init__(self, language_width: int) -> None:
        super().__init__()
        self.place = torch.nn.Linear(language_width, 3)

    def forward(self, references: LatentReferences, features: Features) -> Places:
        assert features.maps is not None
        numbers = self.place(references.states)
        return Places(numbers[..., :2].sigmoid(), numbers[..., 2])

    def costs(
        self,
        decoded: Places,
        truth: Tensor,
        filled: Bool[Tensor, "b q"],
        members: Int[Tensor, "g most"],
    ) -> Float[Tensor, "g most most"]:
        index = members.clamp(min=0)
        return torch.cdist(decoded.points[filled][index], truth[index])

    def losses(self, decoded: Places, truth: Tensor, filled: Bool[Tensor, "b q"]) -> UnitLoss:
        return UnitLoss((decoded.points[filled] - truth).abs().mean(), {}, {})

    def to_unit(self, decoded: Places, row: int, position: int, size: ImageSize) -> Point:
        x, y = points_at_source(decoded.points[row, position], size).tolist()
        return Point(x, y)


def test_a_new_unit_type_is_one_class_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILDERS, "point", lambda _, widths: PointDecoder(widths.language))
    decoder = units.build_decoder("point", {}, WIDTHS)
    assert isinstance(decoder, UnitDecoder)
    decoders, asked = UnitDecoders((decoder,)), references([1])
    found, _ = decoders.reference(decoders.decode(asked, features(1)), ("point",), 0, 0, SIZE)
    assert isinstance(found.units[0], Point)
    assert found.score is not None


def truth_of(count: int) -> Truth:
    dice = generator(4)
    masks = (torch.rand(count, FINE, FINE, generator=dice) > 0.6).float()
    has_mask = torch.tensor([True, False, True, True, False])[:count]
    has_box = torch.tensor([True, True, False, True, False])[:count]
    groups = torch.tensor([[0, 1], [2, -1], [3, 4]])
    weights = torch.rand(count, generator=dice) + 0.5
    return Truth(some_boxes(count), has_box, masks, has_mask, groups, weights)


@pytest.mark.parametrize("anchored", [True, False])
def test_losses_of_boxes_and_masks_are_those_of_the_composite_model(
    anchored: bool,  # noqa: FBT001
) -> None:
    torch.manual_seed(0)
    config = DecoderConfig(**SHAPE, anchored=anchored)
    box, mask = BoxDecoder(config, LANGUAGE), MaskDecoder(config, LANGUAGE, PIXELS)
    asked, given, truth = references([3, 2]), features(2), truth_of(5)
    boxes, masks = BoxUnits(box)(asked, given), MaskUnits(mask)(asked, given)
    units = DecodedUnits(asked, boxes, masks)
    expected, measures = unit_losses(units, truth, DEFAULT_LOSS_WEIGHTS)
    pixels = masks.logits[asked.filled].flatten(1)
    order = match_truth(units, truth, DEFAULT_LOSS_WEIGHTS, pixels)
    coverage = cell_coverage(boxes.anchors, truth, torch.arange(5))
    placed = truth.has_box | truth.has_mask
    box_truth = BoxTruth(truth.boxes, truth.has_box, truth.weights, placed, coverage)
    mask_truth = MaskTruth(truth.masks, truth.has_mask, truth.weights, placed, coverage)
    first = BoxUnits(box).losses(boxes, box_truth.take(order), asked.filled)
    second = MaskUnits(mask).losses(masks, mask_truth.take(order), asked.filled)
    assert first.loss.item() == pytest.approx(expected["box"].item(), rel=1e-5)
    assert second.loss.item() == pytest.approx(expected["mask"].item(), rel=1e-5)
    assert first.measures["box_iou"].item() == pytest.approx(measures["box_iou"].item())
    assert second.measures["mask_iou"].item() == pytest.approx(measures["mask_iou"].item())


def test_wrapped_decoders_keep_their_parameters_and_their_units() -> None:
    model, _ = tiny_model()
    assert isinstance(model.box_decoder, BoxDecoder)
    assert isinstance(model.mask_decoder, MaskDecoder)
    before = list(model.state_dict())
    decoders = UnitDecoders((BoxUnits(model.box_decoder), MaskUnits(model.mask_decoder)))
    assert list(model.state_dict()) == before
    width = model.config.text_config.hidden_size
    states = torch.randn(1, 3, width, generator=generator(1))
    filled = torch.ones(1, 3, dtype=torch.bool)
    asked = LatentReferences(states, filled, filled.long())
    with torch.no_grad():
        seen = model.see(torch.rand(1, 3, 64, 64, generator=generator(2)))
        expected = model.decode(asked, seen)
        decoded = decoders.decode(asked, Features(seen.maps, seen.proposals))
    placer = _Placer(expected, 0, Letterbox(SIZE, 64))
    for position in range(3):
        found, _ = decoders.reference(decoded, ("box", "mask"), 0, position, SIZE)
        box, mask = placer.unit(position, "box"), placer.unit(position, "mask")
        assert found.score == pytest.approx(placer.score(position, ("box", "mask")))
        assert found.units[1] == mask
        assert isinstance(box, Box) == isinstance(found.units[0], Box)
        if isinstance(box, Box) and isinstance(found.units[0], Box):
            assert found.units[0].as_array() == pytest.approx(box.as_array(), abs=1e-4)
    assert GRID

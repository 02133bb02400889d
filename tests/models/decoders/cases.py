"""Every unit decoder with random truth, for tests of all decoders."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from models.decoders.segmenters import SIDE, tiny_sam, tiny_sam2
from models.decoders.small import (
    FINE,
    LANGUAGE,
    LEVELS,
    PIXELS,
    SHAPE,
    features,
    generator,
    rows_of,
    some_boxes,
)
from torch import Tensor, nn

from deixis.models.decoders import (
    BoxDecoder,
    DecoderConfig,
    DetrBoxDecoder,
    DetrMaskDecoder,
    MaskDecoder,
)
from deixis.models.decoders.depth import DepthConfig, DepthDecoder, DepthTruth
from deixis.models.decoders.interface import EncodedImages, Features
from deixis.models.decoders.keypoints import KeypointConfig, KeypointDecoder, KeypointTruth
from deixis.models.decoders.location import LocationConfig, LocationDecoder, LocationTruth
from deixis.models.decoders.placed import PlacedTruth
from deixis.models.decoders.prompted import PromptedConfig, PromptedMaskDecoder, PromptedTruth


@dataclass(frozen=True)
class Case:
    """A decoder (``module`` holds its parameters), features of some rows, and truth."""

    build: Callable[[], Any]
    features: Callable[[int], Features]
    rows: Callable[[Features, list[int]], Features]
    truth: Callable[[int], Any]
    outputs: Callable[[Any, Tensor], list[Tensor]]


def module_of(decoder: Any) -> nn.Module:
    module = decoder if isinstance(decoder, nn.Module) else decoder.decoder
    assert isinstance(module, nn.Module)
    return module


def known(count: int) -> Tensor:
    return torch.ones(count, dtype=torch.bool)


def weights(count: int) -> Tensor:
    return torch.rand(count, generator=generator(8)) + 0.5


def keypoint_truth(count: int, joints: int) -> KeypointTruth:
    dice = generator(3)
    return KeypointTruth(
        torch.rand(count, joints, 2, generator=dice),
        torch.randint(0, 3, (count, joints), generator=dice),
        torch.rand(count, generator=dice) * 0.1 + 0.01,
        some_boxes(count),
        known(count),
        weights(count),
    )


def depth_truth(count: int) -> DepthTruth:
    values = torch.rand(count, 2 * FINE, 2 * FINE, generator=generator(4)) * 12
    values[:, :5] = 0
    return DepthTruth(values, torch.arange(count) % 2 == 1, known(count), weights(count))


def location_truth(count: int) -> LocationTruth:
    low = torch.rand(count, 2, generator=generator(6)) * 0.5
    return LocationTruth(torch.cat([low, low + 0.3], dim=1), known(count), weights(count))


def prompted_truth(count: int) -> PromptedTruth:
    masks = torch.rand(count, 24, 24, generator=generator(7)) > 0.6
    inside = torch.ones_like(masks)
    inside[:, 20:] = False
    return PromptedTruth(masks & inside, inside, known(count), weights(count))


def placed_truth(count: int) -> PlacedTruth:
    masks = (torch.rand(count, FINE, FINE, generator=generator(10)) > 0.6).to(torch.uint8)
    extents = torch.tensor([0.0, 0.25, 1.0, 0.75]).expand(count, 4)
    slots = torch.arange(count)
    return PlacedTruth(
        some_boxes(count), masks, slots, known(count), known(count), extents, weights(count)
    )


def placed(build: Callable[[DecoderConfig], Any], output: str, **changes: Any) -> Case:
    """Return a case of boxes or masks; ``proposals`` among the changes adds them to the features."""
    proposals = changes.pop("proposals", False)
    config = DecoderConfig(**{**SHAPE, **changes})
    return Case(
        seeded(lambda: build(config)),
        partial(features, proposals=proposals),
        rows_of,
        placed_truth,
        lambda d, filled: [getattr(d, output)[filled], d.quality[filled]],
    )


def boxes(**changes: Any) -> Case:
    return placed(lambda config: BoxDecoder(config, LANGUAGE), "boxes", **changes)


def masks(**changes: Any) -> Case:
    return placed(lambda config: MaskDecoder(config, LANGUAGE, PIXELS), "logits", **changes)


def encoded_of(build: Callable[[], Any]) -> Callable[[int], Features]:
    def make(rows: int) -> Features:
        images = torch.randn(rows, 3, SIDE, SIDE, generator=generator(9))
        return Features(features(rows).maps, images=build().see(images))

    return make


def encoded_rows(given: Features, rows: list[int]) -> Features:
    assert given.images is not None
    details = tuple(each[rows] for each in given.images.details)
    images = EncodedImages(given.images.embeddings[rows], details)
    return Features(rows_of(given, rows).maps, images=images)


def seeded(build: Callable[[], Any]) -> Callable[[], Any]:
    def make() -> Any:
        torch.manual_seed(0)
        return build()

    return make


def prompted(segmenter: Callable[[], Any], loss: str = "paper") -> Case:
    config = PromptedConfig(loss=loss, at_once=2)  # type: ignore[arg-type]  # checked by beartype
    build = seeded(lambda: PromptedMaskDecoder(config, segmenter(), LANGUAGE))
    return Case(
        build,
        encoded_of(build),
        encoded_rows,
        prompted_truth,
        lambda d, filled: [d.logits, d.quality[filled]],
    )


def keypoints(**changes: Any) -> Case:
    config = KeypointConfig(**{**SHAPE, "joint_layers": 2, **changes})
    joints = 14 if config.skeleton == "crowdpose" else 17
    return Case(
        seeded(lambda: KeypointDecoder(config, LANGUAGE, tuple(LEVELS))),
        features,
        rows_of,
        lambda count: keypoint_truth(count, joints),
        lambda d, filled: [
            d.positions[filled],
            d.visibility[filled],
            d.boxes[0][filled],
            d.boxes[1][filled],
            d.quality[filled],
        ],
    )


DETR: dict[str, Any] = {"anchored": False, "design": "detr"}

CASES = {
    "box": boxes(),
    "box-proposals": boxes(proposals=True),
    "box-plain": boxes(anchored=False),
    "box-detr": placed(
        lambda config: DetrBoxDecoder(config, LANGUAGE, tuple(LEVELS)), "boxes", **DETR
    ),
    "mask": masks(),
    "mask-proposals": masks(proposals=True),
    "mask-plain": masks(anchored=False),
    "mask-detr": placed(lambda config: DetrMaskDecoder(config, LANGUAGE, PIXELS), "logits", **DETR),
    "keypoint": keypoints(),
    "keypoint-refvlm": keypoints(anchored=False, from_box=False, levels=2, skeleton="crowdpose"),
    "keypoint-code": keypoints(anchored=False, from_box=False, levels=2, loss="code"),
    "keypoint-detr": keypoints(
        anchored=False, from_box=False, levels=2, loss="code", design="detr", joint_layers=1
    ),
    "depth": Case(
        seeded(lambda: DepthDecoder(DepthConfig(**SHAPE), LANGUAGE, PIXELS)),
        features,
        rows_of,
        depth_truth,
        lambda d, filled: [d.logs, d.quality[filled]],
    ),
    "location": Case(
        seeded(lambda: LocationDecoder(LocationConfig(width=16), LANGUAGE)),
        features,
        rows_of,
        location_truth,
        lambda d, filled: [d.corners[filled], d.quality[filled]],
    ),
    "location-code": Case(
        seeded(lambda: LocationDecoder(LocationConfig(width=16, loss="code"), LANGUAGE)),
        features,
        rows_of,
        location_truth,
        lambda d, filled: [d.corners[filled], d.quality[filled]],
    ),
    "sam": prompted(tiny_sam),
    "sam2": prompted(tiny_sam2, loss="code"),
}

"""The batch itself: rows of tokens and pixels, with all that is known of them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from deixis.batch.references import References
from deixis.batch.regions import Regions, RegionTruth


@dataclass(frozen=True, slots=True)
class Instances:
    """Every instance that is annotated in the images of a batch, asked about or not.

    ``cells`` says which instance the centre of each cell shows, -1 for none. ``concepts`` says
    which of the words that the model learns from cells hold for an instance. Boxes are as in
    `References`, masks lie at the resolution of the pixel features.
    """

    cells: Int[Tensor, "b cells"]
    boxes: Float[Tensor, "m 4"]
    masks: UInt8[Tensor, "m mh mw"]
    concepts: Bool[Tensor, "m known"]


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of rows; a row is one image and the turns about it.

    ``turns`` is 0 for what every turn of a row sees (image), 1, 2, … for turns, -1 for padding.
    ``independent`` rows hide turns from one another. ``positions`` are rotary positions.
    ``framed_pixels`` are the images as a segmenter takes them, where the model has one. ``frames``
    says how many of the pictures in ``pixel_values`` are the frames of each row's video, 0 for a
    row with an image; it is None where all have one. ``region_truth`` is there for models whose
    region encoder is aligned. ``extents`` say where on the canvas each row's image lies: x1 y1 x2
    y2 in [0, 1]; what is around it is padding. They are None where images fill it.
    """

    pixel_values: Float[Tensor, "pictures 3 canvas canvas"]
    input_ids: Int[Tensor, "b t"]
    labels: Int[Tensor, "b t"]
    label_weights: Float[Tensor, "b t"]
    positions: Int[Tensor, "b t"]
    turns: Int[Tensor, "b t"]
    independent: Bool[Tensor, " b"]
    regions: Regions
    references: References
    instances: Instances
    framed_pixels: Float[Tensor, "b 3 side side"] | None = None
    frames: Int[Tensor, " b"] | None = None
    region_truth: RegionTruth | None = None
    extents: Float[Tensor, "b 4"] | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """Move every tensor."""
        moved = {f.name: _moved(getattr(self, f.name), device) for f in fields(self)}
        return replace(self, **moved)


def _moved(value: Any, device: torch.device | str) -> Any:
    """Move every tensor inside nested dataclasses and mappings; anything else stays."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {name: _moved(each, device) for name, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        moved = {f.name: _moved(getattr(value, f.name), device) for f in fields(value)}
        return replace(value, **moved)
    return value

"""The batch: rows of tokens and pixels, with their truth."""

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
    """All annotated instances in the images of a batch, whether a question mentions them or not.

    ``cells`` is the index of the instance at the centre of each cell, -1 without one. ``concepts``
    masks the model's concepts that hold for an instance. Boxes are cxcywh in [0, 1] of the canvas;
    masks cover the canvas at the resolution of the pixel features.
    """

    cells: Int[Tensor, "b cells"]
    boxes: Float[Tensor, "m 4"]
    masks: UInt8[Tensor, "m mh mw"]
    concepts: Bool[Tensor, "m known"]


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of rows; a row is one image and the turns about it.

    ``turns`` is the turn of each token: 0 for tokens that every turn sees (the image), 1, 2, … for
    turns, -1 for padding. Turns of ``independent`` rows do not see one another. ``positions`` are
    rotary positions. ``framed_pixels`` are the images in the segmenter's frame, for models with a
    segmenter. ``frames`` is the number of video frames of each row in ``pixel_values``, 0 for a row
    with an image; None if all rows have images. ``region_truth`` is given for models whose region
    encoder is aligned. ``extents`` are the boxes of the images on the canvas, x1 y1 x2 y2 in
    [0, 1], with padding around; None if images fill the canvas.
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
        """Return the batch with every tensor on ``device``."""
        moved = {f.name: _moved(getattr(self, f.name), device) for f in fields(self)}
        return replace(self, **moved)


def _moved(value: Any, device: torch.device | str) -> Any:
    """Move the tensors inside nested dataclasses and mappings; other values stay."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {name: _moved(each, device) for name, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        moved = {f.name: _moved(getattr(value, f.name), device) for f in fields(value)}
        return replace(value, **moved)
    return value

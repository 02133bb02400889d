"""The segments of a COCO panoptic picture by their ids, for formats that refer to them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deixis.data.sources.base import BadRecord
from deixis.data.sources.fields import as_integer, required
from deixis.data.sources.panoptic import PanopticCategory
from deixis.data.sources.segment_pictures import Segments, read_colours
from deixis.geometry import Box, ImageSize, Mask
from deixis.structures import Instance

Masks = Mapping[int, tuple[Mask, Box]]
"""Pixels and box of each segment, by its id."""


def panoptic_masks(folder: Path, name: object, size: ImageSize) -> Masks:
    """Read a picture of segments; an id is ``red + 256 green + 65536 blue``, 0 is no segment.

    Raises:
        BadRecord: The picture is missing, damaged or of another size than its image.
    """
    colours = read_colours(folder, name).astype(np.uint32)
    numbers = colours[:, :, 0] + 256 * colours[:, :, 1] + 65536 * colours[:, :, 2]
    segments = Segments.from_numbers(numbers)
    if segments.size != size:
        raise BadRecord("mask_damaged", f"segments are of {segments.size}, the image of {size}")
    return {number: found for number, found in segments.masks().items() if number}


def segment_instance(
    fields: Mapping[str, Any], masks: Masks, category: PanopticCategory | None
) -> Instance:
    """The instance of a record of ``segments_info``, with the box around its pixels.

    Raises:
        BadRecord: It has no pixels, or no category.
    """
    number = as_integer(required(fields, "id"), "id")
    if category is None:
        raise BadRecord("unknown_category", f"category of segment {number}")
    if number not in masks:
        raise BadRecord("mask_empty", f"segment {number} has no pixels")
    mask, box = masks[number]
    return Instance(
        category=category.name,
        box=box,
        mask=mask,
        attributes=() if category.is_thing else ("stuff",),
        crowd=as_integer(fields.get("iscrowd", 0), "iscrowd") == 1,
    )

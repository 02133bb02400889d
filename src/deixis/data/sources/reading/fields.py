"""Checked reading of record fields: an invalid value raises an error that names it."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deixis.data.sources.base import BadRecord, Part
from deixis.data.sources.reading.frames import current_frame
from deixis.data.sources.reading.inside import check_inside
from deixis.data.sources.reading.streaming import Unparsed, parse_json
from deixis.errors import GeometryError
from deixis.geometry import Box, CodedMask, ImageSize, Mask
from deixis.geometry.boxes import BoxLayout
from deixis.geometry.checks import shown

OVERSHOOT_PIXELS, OVERSHOOT_SHARE = 1.0, 0.005
"""A box may exceed its image by one pixel or this share of the side (rounding); it is clipped."""

TEXT_LIMIT = 65_536

CROWDS = ("iscrowd", "isgroupof", "is_group_of", "IsGroupOf", "group_of", "is_crowd")
DOUBTFUL = ("ignore", "difficult", "isdifficult", "is_difficult")
"""The accepted values of flags."""


def record(part: Part) -> Mapping[str, Any]:
    """Return the JSON object in the payload of a part.

    Raises:
        BadRecord: The payload is not JSON, or not an object.
    """
    return as_object(parse_json(part.payload), "record")


def single(parts: Sequence[Part]) -> Part:
    """Return the only part of an image.

    Raises:
        BadRecord: The image has several parts (``duplicate_image``).
    """
    if len(parts) > 1:
        places = f"{parts[0].place}, {parts[1].place}"
        raise BadRecord("duplicate_image", f"{len(parts)} records of one image: {places}")
    return parts[0]


def as_object(value: object, name: str) -> Mapping[str, Any]:
    """Return the value, which has to be a JSON object."""
    if not isinstance(value, dict):
        raise BadRecord("bad_record", f"{name}: expected an object, got {shown(value)}")
    return value


def as_list(value: object, name: str) -> Sequence[Any]:
    """Return the value, which has to be a list."""
    if not isinstance(value, list):
        raise BadRecord("bad_record", f"{name}: expected a list, got {shown(value)}")
    return value


def as_text(value: object, name: str, *, empty: bool = False) -> str:
    """Return the value, which has to be a text, without surrounding whitespace."""
    if not isinstance(value, str) or isinstance(value, Unparsed):
        raise BadRecord("bad_record", f"{name}: expected a text, got {shown(value)}")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise BadRecord("bad_encoding", f"{name}: not text that can be written") from None
    text = value.strip()
    if not text and not empty:
        raise BadRecord("bad_text", f"{name}: expected a text, got an empty one")
    if len(text) > TEXT_LIMIT:
        raise BadRecord(
            "bad_text", f"{name}: {len(text)} characters, at most {TEXT_LIMIT} expected"
        )
    if "\x00" in text:
        raise BadRecord("bad_text", f"{name}: holds a NUL character")
    return text


def text_field(fields: Mapping[str, Any], name: str, *, empty: bool = False) -> str:
    """Return the text of a required field."""
    return as_text(required(fields, name), name, empty=empty)


def required(fields: Mapping[str, Any], name: str) -> Any:
    """Return the value of a required field."""
    if name not in fields:
        raise BadRecord("bad_record", f"{name}: missing")
    return fields[name]


def as_number(value: object, name: str) -> float:
    """Return the value, which has to be a finite number; bools and quoted numbers are refused."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRecord("bad_number", f"{name}: expected a number, got {shown(value)}")
    # false for NaN too, and for integers that no float can hold
    if not -1e15 <= value <= 1e15:
        raise BadRecord("bad_number", f"{name}: expected a finite number, got {shown(value)}")
    return value


def as_integer(value: object, name: str) -> int:
    """Return the value, which has to be an integer; ``3.0`` is accepted."""
    number = as_number(value, name)
    if number != int(number):
        raise BadRecord("bad_number", f"{name}: expected an integer, got {shown(value)}")
    return int(number)


def flagged(fields: Mapping[str, Any], names: Sequence[str]) -> bool:
    """Return whether any of the flags is 1 or true; missing, null, 0 and false count as unset.

    Raises:
        BadRecord: A flag has another value.
    """
    for name in names:
        value = fields.get(name)
        if value is None or isinstance(value, bool):
            found = value is True
        else:
            found = as_integer(value, name) != 0
        if found:
            return True
    return False


def as_key(value: object, name: str) -> str:
    """Return an image or annotation id, an integer or non-empty text, as text."""
    if isinstance(value, str):
        return as_text(value, name)
    return str(as_integer(value, name))


def sortable(key: str) -> str:
    """Return an id as text; numeric ids are padded so that they sort as numbers."""
    return key.rjust(20, "0") if key.isascii() and key.isdigit() else key


def image_size(width: object, height: object) -> ImageSize:
    """Return the size from two positive integers, or the size of the current frame if it has one."""
    try:
        size = ImageSize(as_integer(height, "height"), as_integer(width, "width"))
        size.check_area()
    except GeometryError as error:
        raise BadRecord("bad_number", f"size: {error}") from None
    return current_frame().size or size


def read_box(
    values: object, size: ImageSize, notes: dict[str, int], *, layout: BoxLayout = "xywh"
) -> Box:
    """Return a box in pixels; it may exceed the image by a tolerance and is clipped to it.

    Raises:
        BadRecord: The box has no extent, lies outside the image, is not four numbers, or looks like
            fractions.
    """
    numbers = [as_number(value, "box") for value in as_list(values, "box")]
    if len(numbers) != 4:
        raise BadRecord("bad_record", f"box: expected 4 numbers, got {len(numbers)}")
    if layout == "xyxy":
        x1, y1, x2, y2 = numbers
    elif layout == "cxcywh":
        x1, y1 = numbers[0] - numbers[2] / 2, numbers[1] - numbers[3] / 2
        x2, y2 = numbers[0] + numbers[2] / 2, numbers[1] + numbers[3] / 2
    else:
        x1, y1, x2, y2 = numbers[0], numbers[1], numbers[0] + numbers[2], numbers[1] + numbers[3]
    if not (x1 < x2 and y1 < y2):
        raise BadRecord("box_degenerate", f"box {shown(values)} ({layout}) has no extent")
    width, height = size.width, size.height
    if x2 <= 1 and y2 <= 1 and x1 >= 0 and y1 >= 0 and width * height > 16:
        raise BadRecord(
            "box_layout", f"box {shown(values)} looks like fractions, expected pixels ({layout})"
        )
    if x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height:
        return Box(x1, y1, x2, y2)
    across = max(OVERSHOOT_PIXELS, OVERSHOOT_SHARE * width)
    down = max(OVERSHOOT_PIXELS, OVERSHOOT_SHARE * height)
    if x1 < -across or y1 < -down or x2 > width + across or y2 > height + down:
        raise BadRecord("box_outside", f"box {shown(values)} ({layout}) leaves its {size} image")
    notes["box_clipped"] = notes.get("box_clipped", 0) + 1
    try:
        return Box(x1, y1, x2, y2).clip(size)
    except GeometryError as error:
        raise BadRecord("box_outside", str(error)) from None


def inside_box(edges: list[float], size: ImageSize, notes: dict[str, int]) -> Box:
    """Return a box in pixels that the file gives as fractions of the sides; it may be tiny.

    Raises:
        BadRecord: The box has no extent, or lies outside the image.
    """
    x1, y1, x2, y2 = edges
    if 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1:
        return Box(x1, y1, x2, y2)
    return read_box(edges, size, notes, layout="xyxy")


def read_mask(segmentation: object, size: ImageSize) -> Mask:
    """Return the mask of a COCO ``segmentation``; it is checked now and rasterised on first use.

    Raises:
        BadRecord: The segmentation is damaged, or of another size.
    """
    try:
        return CodedMask(segmentation, size)
    except GeometryError as error:
        raise BadRecord("mask_damaged", str(error)) from None


def mask_box(mask: Mask) -> Box:
    """Return the bounding box of a mask, for sources without boxes.

    Raises:
        BadRecord: The mask is empty.
    """
    try:
        return mask.to_box()
    except GeometryError as error:
        raise BadRecord("mask_empty", str(error)) from None


def image_path(folder: Path, name: object, notes: dict[str, int] | None = None) -> Path:
    """Return the path of an image from its annotated name; the path stays inside the folder.

    Backslashes between folders, as on Windows, are read as slashes unless a file name has them;
    ``notes`` counts them as ``backslashes``. The file need not exist.

    Raises:
        BadRecord: The name is empty or not a valid file name, is absolute, or leads out of the
            folder directly or by a link.
    """
    text = as_text(name, "file name")
    pieces = text.replace("\\", "/").split("/")
    if (
        text.startswith(("/", "\\"))
        or ".." in pieces
        or all(piece in {"", "."} for piece in pieces)
        or (len(text) > 1 and text[1] == ":")
        or len(text) > 1024
        or any(ord(character) < 32 for character in text)
        or max(len(piece.encode()) for piece in pieces) > 255
    ):
        raise BadRecord("path_escape", f"file name {shown(text)} is not inside the image folder")
    if "\\" in text and not os.path.lexists(folder / text):
        text = text.replace("\\", "/")
        if notes is not None:
            notes["backslashes"] = notes.get("backslashes", 0) + 1
    path: Path = folder / text
    check_inside(path, folder)
    return path

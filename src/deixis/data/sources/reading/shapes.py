"""Geometry from the shapes of annotation tools: polygons, ellipses and turned boxes.

Coordinates are pixels of the picture. A shape may exceed the picture by the tolerance of boxes
(`deixis.data.sources.reading.fields.read_box`) and is clipped.
"""

from collections.abc import Sequence
from math import ceil, cos, floor, hypot, radians, sin

import numpy as np
from jaxtyping import Bool

from deixis.data.sources.base import BadRecord
from deixis.data.sources.reading.fields import as_list, as_number, read_box
from deixis.errors import GeometryError
from deixis.geometry import Box, CodedMask, ImageSize, Mask, OrientedBox
from deixis.geometry.checks import VERTEX_LIMIT, shown

LEAST_TURN = 1e-4
"""Tolerance in degrees: a box turned by less, modulo 360, is upright; tools write 1e-7 and 360."""


def count(notes: dict[str, int], note: str) -> None:
    """Count a note, which is not a problem."""
    notes[note] = notes.get(note, 0) + 1


def category_name(label: str) -> str:
    """Return a label as words, with blanks for underscores."""
    return label.replace("_", " ")


def point_list(value: object, name: str = "points") -> list[float]:
    """Return points ``[[x, y], …]`` as ``[x, y, x, y, …]``.

    Raises:
        BadRecord: The value is not a list of number pairs, is empty, or has more than 10,000 points.
    """
    pairs = as_list(value, name)
    if not 1 <= len(pairs) <= VERTEX_LIMIT:
        raise BadRecord(
            "mask_damaged", f"{name}: expected 1 to {VERTEX_LIMIT} points, got {len(pairs)}"
        )
    flat: list[float] = []
    for pair in pairs:
        numbers = as_list(pair, "point")
        if len(numbers) != 2:
            raise BadRecord("mask_damaged", f"point {shown(pair)}: expected two numbers")
        flat += [float(as_number(number, "point")) for number in numbers]
    return flat


def around(flat: Sequence[float], size: ImageSize, notes: dict[str, int]) -> Box:
    """Return the box around points ``[x, y, x, y, …]``.

    Raises:
        BadRecord: The box has no extent, or leaves the picture.
    """
    xs, ys = flat[0::2], flat[1::2]
    return read_box([min(xs), min(ys), max(xs), max(ys)], size, notes, layout="xyxy")


def outlined(
    polygons: Sequence[list[float]], size: ImageSize, notes: dict[str, int]
) -> tuple[Mask, Box]:
    """Return the union of polygons ``[x, y, x, y, …]``, and the box around them.

    Raises:
        BadRecord: A polygon has fewer than three points, or the polygons leave the picture or cover
            no pixel.
    """
    try:
        mask = CodedMask(list(polygons), size)
    except GeometryError as error:
        raise BadRecord("mask_damaged", str(error)) from None
    box = around([value for polygon in polygons for value in polygon], size, notes)
    if mask.is_empty:
        raise BadRecord("mask_empty", f"polygons {shown(list(polygons))} cover no pixel")
    return mask, box


def elliptic(
    centre: tuple[float, float],
    radii: tuple[float, float],
    degrees: float,
    size: ImageSize,
    notes: dict[str, int],
) -> tuple[Mask, Box]:
    """Return the mask and box of an ellipse that is turned clockwise about its centre.

    The mask has the pixels whose centres lie in the ellipse.

    Raises:
        BadRecord: A radius is not positive, the ellipse leaves the picture, or no pixel centre lies
            in it.
    """
    (cx, cy), (rx, ry) = centre, radii
    if not (rx > 0 and ry > 0):
        raise BadRecord("box_degenerate", f"ellipse of radii {shown(rx)} and {shown(ry)}")
    across, along = cos(radians(degrees)), sin(radians(degrees))
    half = hypot(rx * across, ry * along), hypot(rx * along, ry * across)
    edges = [cx - half[0], cy - half[1], cx + half[0], cy + half[1]]
    box = read_box(edges, size, notes, layout="xyxy")
    left, top = floor(box.x1), floor(box.y1)
    ys, xs = np.mgrid[top : ceil(box.y2), left : ceil(box.x2)] + 0.5
    dx, dy = xs - cx, ys - cy
    inside = ((dx * across + dy * along) / rx) ** 2 + ((dy * across - dx * along) / ry) ** 2 <= 1
    array = np.zeros(tuple(size), np.bool_)
    array[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return nonempty(array, "ellipse"), box


def nonempty(array: Bool[np.ndarray, "height width"], name: str) -> Mask:
    """Return the mask of an array.

    Raises:
        BadRecord: The array has no pixel set.
    """
    if not array.any():
        raise BadRecord("mask_empty", f"{name} covers no pixel")
    return Mask(array)


def pasted(
    patch: Bool[np.ndarray, "h w"], left: int, top: int, size: ImageSize
) -> Bool[np.ndarray, "height width"]:
    """Return the pixels of a smaller mask, placed in a picture.

    Raises:
        BadRecord: The mask leaves the picture by more than a pixel.
    """
    height, width = patch.shape
    if left < -1 or top < -1 or left + width > size.width + 1 or top + height > size.height + 1:
        raise BadRecord(
            "mask_damaged", f"{width}x{height} pixels at ({left}, {top}) leave the {size} image"
        )
    array = np.zeros(tuple(size), np.bool_)
    rows = slice(max(top, 0), min(top + height, size.height))
    columns = slice(max(left, 0), min(left + width, size.width))
    array[rows, columns] = patch[
        rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]
    return array


def oriented_box(values: object) -> OrientedBox:
    """Return the oriented box of four corners ``[x1, y1, …, x4, y4]``.

    Raises:
        BadRecord: The value is not eight numbers, or the box has no area.
    """
    numbers = [float(as_number(value, "corner")) for value in as_list(values, "corners")]
    try:
        return OrientedBox.from_flat(numbers)
    except GeometryError as error:
        raise BadRecord("box_degenerate", str(error)) from None


def box_around(oriented: OrientedBox, size: ImageSize, notes: dict[str, int]) -> Box:
    """Return the upright box around an oriented box, clipped to the picture.

    Raises:
        BadRecord: The centre of the oriented box lies outside the picture, or the whole box does.
    """
    x, y = oriented.as_array().mean(axis=0).tolist()
    if not (0 <= x <= size.width and 0 <= y <= size.height):
        raise BadRecord("box_outside", f"turned box around ({x:g}, {y:g}) leaves its {size} image")
    try:
        whole = oriented.to_box()
        inside = whole.clip(size)
    except GeometryError as error:
        raise BadRecord("box_degenerate", str(error)) from None
    if inside != whole:
        count(notes, "box_clipped")
    return inside


def turned_box(
    edges: Sequence[float], degrees: float, size: ImageSize, notes: dict[str, int]
) -> tuple[Box, OrientedBox | None]:
    """Return the box and oriented box of ``x1 y1 x2 y2``, turned clockwise about its centre.

    The oriented box is None if the box is upright.

    Raises:
        BadRecord: The box has no extent, or leaves the picture.
    """
    turn = degrees % 360
    if min(turn, 360 - turn) < LEAST_TURN:
        return read_box(list(edges), size, notes, layout="xyxy"), None
    try:
        oriented = OrientedBox.turned(Box(*edges), degrees)
    except GeometryError as error:
        raise BadRecord("box_degenerate", str(error)) from None
    return box_around(oriented, size, notes), oriented

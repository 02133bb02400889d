"""Boxes in pixels with exclusive right and bottom edges: one ``Box``, or an array ``[n 4]``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from jaxtyping import Bool, Float

from deixis.errors import GeometryError
from deixis.geometry.checks import checked_coordinate, checks_itself, shown
from deixis.geometry.size import ImageSize

BoxLayout = Literal["xyxy", "xywh", "cxcywh"]
"""Two corners; left, top, width, height; or centre, width, height."""

_BOX_FIELDS = {
    "xyxy": ("x1", "y1", "x2", "y2"),
    "xywh": ("x", "y", "width", "height"),
    "cxcywh": ("center x", "center y", "width", "height"),
}
_Number = TypeVar("_Number", float, np.ndarray)


@checks_itself
@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle ``x1 <= x < x2``, ``y1 <= y < y2`` in pixels; never empty.

    It may lie outside its image; ``clip`` and ``check_inside`` relate it to one.

    Raises:
        GeometryError: A coordinate is not a finite number, or a side is not positive.
    """

    x1: float
    y1: float
    x2: float
    y2: float

    def __post_init__(self) -> None:
        for name in ("x1", "y1", "x2", "y2"):
            value = checked_coordinate(getattr(self, name), f"box {name}")
            object.__setattr__(self, name, value)
        if not self.x1 < self.x2:
            raise GeometryError(f"box {self}: expected x2 > x1, got {self.x2} and {self.x1}")
        if not self.y1 < self.y2:
            raise GeometryError(f"box {self}: expected y2 > y1, got {self.y2} and {self.y1}")

    def __str__(self) -> str:
        return f"({self.x1}, {self.y1}, {self.x2}, {self.y2})"

    @property
    def width(self) -> float:
        """Size in x."""
        return self.x2 - self.x1

    @property
    def height(self) -> float:
        """Size in y."""
        return self.y2 - self.y1

    @property
    def area(self) -> float:
        """Area in square pixels."""
        return self.width * self.height

    @property
    def center(self) -> tuple[float, float]:
        """The centre ``(x, y)``."""
        return (self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2

    def as_array(self) -> Float[np.ndarray, " 4"]:
        """The corners ``x1 y1 x2 y2`` as float64."""
        return np.array((self.x1, self.y1, self.x2, self.y2))

    @classmethod
    def from_array(cls, corners: Float[np.ndarray, " 4"]) -> "Box":
        """Make a box from ``x1 y1 x2 y2``.

        Raises:
            GeometryError: The corners do not make a box.
        """
        return cls(*corners.tolist())

    @classmethod
    def from_xywh(
        cls, x: float | int, y: float | int, width: float | int, height: float | int
    ) -> "Box":
        """Make a box from left, top, width and height.

        Raises:
            GeometryError: A number is not finite, or a side is not positive.
        """
        return cls.from_annotation((x, y, width, height), layout="xywh")

    @classmethod
    def from_annotation(cls, values: object, *, layout: BoxLayout = "xywh") -> "Box":
        """Read a box from an annotation and check it.

        Args:
            values: A list of four numbers, in pixels.
            layout: The meaning of the numbers.

        Raises:
            GeometryError: ``values`` is not a list of four finite numbers, or a side is not positive.
        """
        if not isinstance(values, list | tuple) or len(values) != 4:
            raise GeometryError(
                f"box: expected a list of 4 numbers ({layout}), got {shown(values)}"
            )
        names = _BOX_FIELDS[layout]
        a, b, c, d = (
            checked_coordinate(value, f"box {name}")
            for value, name in zip(values, names, strict=True)
        )
        if layout != "xyxy" and (c <= 0 or d <= 0):
            raise GeometryError(
                f"box {(a, b, c, d)} ({layout}): expected a positive width and height, got {c} and {d}"
            )
        return cls(*_to_corners(a, b, c, d, layout))

    def to_xywh(self) -> tuple[float, float, float, float]:
        """Left, top, width, height."""
        return self.x1, self.y1, self.width, self.height

    def clip(self, size: ImageSize) -> "Box":
        """Return the part inside an image of ``size``.

        Raises:
            GeometryError: The box lies wholly outside the image.
        """
        x1, y1 = max(self.x1, 0.0), max(self.y1, 0.0)
        x2, y2 = min(self.x2, float(size.width)), min(self.y2, float(size.height))
        if not (x1 < x2 and y1 < y2):
            raise GeometryError(f"box {self} (xyxy) lies wholly outside a {size} image")
        return Box(x1, y1, x2, y2)

    def check_inside(self, size: ImageSize) -> None:
        """Check that no part lies outside an image of ``size``.

        Raises:
            GeometryError: A part of the box lies outside.
        """
        if self.x1 < 0 or self.y1 < 0 or self.x2 > size.width or self.y2 > size.height:
            raise GeometryError(f"box {self} (xyxy) does not fit a {size} image")


def _to_corners(
    a: _Number, b: _Number, c: _Number, d: _Number, layout: BoxLayout
) -> tuple[_Number, _Number, _Number, _Number]:
    if layout == "xywh":
        return a, b, a + c, b + d
    if layout == "cxcywh":
        return a - c / 2, b - d / 2, a + c / 2, b + d / 2
    return a, b, c, d


def stack_boxes(boxes: Sequence[Box]) -> Float[np.ndarray, "n 4"]:
    """Return boxes as rows of ``x1 y1 x2 y2`` (float64); no boxes give ``[0 4]``."""
    return np.array([(box.x1, box.y1, box.x2, box.y2) for box in boxes], np.float64).reshape(-1, 4)


def convert_boxes(
    boxes: Float[np.ndarray, "n 4"], from_: BoxLayout, to: BoxLayout
) -> Float[np.ndarray, "n 4"]:
    """Return the same boxes in another layout, in a new array."""
    x1, y1, x2, y2 = _to_corners(boxes[:, 0], boxes[:, 1], boxes[:, 2], boxes[:, 3], from_)
    if to == "xywh":
        return np.stack((x1, y1, x2 - x1, y2 - y1), axis=1)
    if to == "cxcywh":
        return np.stack(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), axis=1)
    return np.stack((x1, y1, x2, y2), axis=1)


def clip_boxes(boxes: Float[np.ndarray, "n 4"], size: ImageSize) -> Float[np.ndarray, "n 4"]:
    """Return xyxy boxes with each coordinate moved into the image.

    A box wholly outside gets area 0 on the edge; ``Box.clip`` raises instead.
    """
    height, width = size
    limits = np.array((width, height, width, height), boxes.dtype)
    clipped: Float[np.ndarray, "n 4"] = np.clip(boxes, boxes.dtype.type(0), limits)
    return clipped


def box_area(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    """Return the area of xyxy boxes; an inverted side counts as 0."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    area: Float[np.ndarray, " n"] = sides[:, 0] * sides[:, 1]
    return area


def _intersection_and_union(
    a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "m 4"]
) -> tuple[Float[np.ndarray, "n m"], Float[np.ndarray, "n m"]]:
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.maximum(bottom_right - top_left, 0)
    intersection = sides[..., 0] * sides[..., 1]
    return intersection, box_area(a)[:, None] + box_area(b)[None, :] - intersection


def _ratio(
    part: Float[np.ndarray, "n m"], whole: Float[np.ndarray, "n m"]
) -> Float[np.ndarray, "n m"]:
    ratio: Float[np.ndarray, "n m"] = np.zeros_like(part)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio


def box_iou(a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "n m"]:
    """Return intersection over union of every pair of xyxy boxes.

    Areas are plain products (no "+ 1"). Two boxes without area have an IoU of 0; no boxes give an
    empty array.
    """
    return _ratio(*_intersection_and_union(a, b))


def overlap_of_boxes(first: Box, second: Box) -> float:
    """Return the IoU of two boxes; 0 if they do not overlap."""
    return float(box_iou(first.as_array()[None], second.as_array()[None])[0, 0])


def generalized_box_iou(
    a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "m 4"]
) -> Float[np.ndarray, "n m"]:
    """Return generalized IoU, in [-1, 1], of every pair of xyxy boxes.

    The IoU minus the share of the smallest enclosing box that neither box covers (Rezatofighi et
    al., 2019, equation 3).
    """
    intersection, union = _intersection_and_union(a, b)
    top_left = np.minimum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.maximum(a[:, None, 2:], b[None, :, 2:])
    sides = np.maximum(bottom_right - top_left, 0)
    hull = sides[..., 0] * sides[..., 1]
    generalized: Float[np.ndarray, "n m"] = _ratio(intersection, union) - _ratio(hull - union, hull)
    return generalized


def boxes_from_masks(masks: Bool[np.ndarray, "n height width"]) -> Float[np.ndarray, "n 4"]:
    """Return the smallest xyxy box around each mask (float64).

    Raises:
        GeometryError: A mask is empty.
    """
    boxes = np.zeros((len(masks), 4))
    for axis, (low, high) in ((1, (0, 2)), (2, (1, 3))):
        used = np.logical_or.reduce(masks, axis=axis)
        empty = ~np.logical_or.reduce(used, axis=1)
        if empty.any():
            raise GeometryError(
                f"mask {int(empty.argmax())} of {len(masks)} is empty: it has no box"
            )
        boxes[:, low] = used.argmax(axis=1)
        boxes[:, high] = used.shape[1] - used[:, ::-1].argmax(axis=1)
    return boxes

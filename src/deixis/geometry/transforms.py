"""Invertible transforms of an image and of the geometry on it.

Each transform maps pixels of ``source`` to pixels of ``target`` by an affine map along the
axes. Coordinates move exactly and are not clipped (``Box.clip`` and ``Keypoints.clip`` do that), so
``invert_`` undoes ``apply_`` for boxes, points, keypoints and scribbles. Masks and depth maps are
resampled: a pixel takes the value of the source pixel in which its centre lies (nearest
neighbour), and is clear or unknown if that is outside. A mask with pixels never becomes empty when
it shrinks: if no target centre falls on it, the pixels in which the centres of its own pixels fall
are set, for rows and columns separately.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar, cast, get_args

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped

from deixis.errors import GeometryError
from deixis.geometry.boxes import Box
from deixis.geometry.checks import checked_side, checks_itself, shown
from deixis.geometry.depth import DepthMap
from deixis.geometry.keypoints import Keypoints
from deixis.geometry.masks import Mask
from deixis.geometry.oriented import OrientedBox
from deixis.geometry.points import Point, Scribble
from deixis.geometry.size import ImageSize

Padding = Literal["half", "floor"]
"""The padding before the image: exactly half, or half rounded down to whole source pixels."""

Geometry = Box | Mask | Point | Scribble | Keypoints | DepthMap | OrientedBox
"""Everything that a transform can move: every unit, every region, and turned boxes."""

_G = TypeVar("_G", bound=Geometry)


@dataclass(frozen=True, slots=True)
class AxisMap:
    """``target = scale * source + shift`` for x and y; ``swap`` exchanges them first."""

    scale: tuple[float, float] = (1.0, 1.0)
    shift: tuple[float, float] = (0.0, 0.0)
    swap: bool = False

    @property
    def mirrors(self) -> bool:
        """Whether left and right are exchanged, as in a mirror."""
        return (self.scale[0] * self.scale[1] < 0) != self.swap

    @property
    def stretch(self) -> float:
        """The factor for lengths: the geometric mean of both axes."""
        return float(abs(self.scale[0] * self.scale[1]) ** 0.5)

    def inverse(self) -> "AxisMap":
        """Return the inverse map."""
        scale = (1 / self.scale[0], 1 / self.scale[1])
        shift = (-self.shift[0] / self.scale[0], -self.shift[1] / self.scale[1])
        if self.swap:
            return AxisMap(scale[::-1], shift[::-1], swap=True)
        return AxisMap(scale, shift)

    def move(self, points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """Return the moved points in their own dtype, computed in float64."""
        turned = points[:, ::-1] if self.swap else points
        moved: Float[np.ndarray, "n 2"] = turned * np.array(self.scale) + np.array(self.shift)
        return moved.astype(points.dtype, copy=False)

    def turn(self, array: Shaped[np.ndarray, "height width ..."]) -> Shaped[np.ndarray, "h w ..."]:
        """Return an array with its axes exchanged and reversed like the map, without resampling."""
        turned = array.swapaxes(0, 1) if self.swap else array
        steps = tuple(-1 if scale < 0 else 1 for scale in self.scale)
        return np.ascontiguousarray(turned[:: steps[1], :: steps[0]])


@dataclass(frozen=True, slots=True)
class Move:
    """One axis map from one image to another, for every kind of geometry.

    If the centre of a pixel falls exactly between two pixels, ``ties_up`` takes the later one. A
    move and its inverse differ in this, which makes them exact inverses at scale 1.
    """

    source: ImageSize
    target: ImageSize
    axes: AxisMap
    ties_up: bool = True

    def inverse(self) -> "Move":
        """Return the inverse move."""
        return Move(self.target, self.source, self.axes.inverse(), not self.ties_up)

    def move_boxes(self, boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
        """Return the moved xyxy boxes with their corners in order."""
        corners = self.axes.move(boxes.reshape(-1, 2)).reshape(-1, 2, 2)
        return np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)

    def move_mask(self, mask: Mask) -> Mask:
        """Return the resampled mask."""
        array = self._resampled(mask.array)
        if not array.any() and not mask.is_empty:
            turned = mask.array.T if self.axes.swap else mask.array
            array = self._kept(self._kept(turned, 1).T, 0).T.copy()
        array.flags.writeable = False
        return Mask(array)

    def move(self, unit: Geometry) -> Geometry:
        """Return the moved unit or region."""
        match unit:
            case Box():
                return Box.from_array(self.move_boxes(unit.as_array()[None])[0])
            case Mask():
                self._check_size(unit.size, "mask")
                return self.move_mask(unit)
            case Point():
                x, y = self.axes.move(np.array([[unit.x, unit.y]]))[0].tolist()
                return Point(x, y)
            case Scribble():
                points = self.axes.move(np.array(unit.points)).tolist()
                return Scribble(tuple((x, y) for x, y in points), unit.width * self.axes.stretch)
            case OrientedBox():
                corners = self.axes.move(unit.as_array()).tolist()
                return OrientedBox(tuple((x, y) for x, y in corners))
            case Keypoints():
                moved = Keypoints(self.axes.move(unit.positions), unit.visibility, unit.names)
                return moved.mirrored() if self.axes.mirrors else moved
            case _:
                self._check_size(unit.size, "depth map")
                values = self._resampled(unit.values)
                return DepthMap(values, unit.kind)

    def _check_size(self, size: ImageSize, name: str) -> None:
        if size != self.source:
            raise GeometryError(f"{name}: expected the size {self.source} of its image, got {size}")

    def _resampled(self, array: Shaped[np.ndarray, "height width"]) -> Shaped[np.ndarray, "h w"]:
        self.target.check_area()
        resampled = np.zeros(tuple(self.target), array.dtype)
        turned = array.T if self.axes.swap else array
        rows, row_sources = self._places(1, turned.shape[0])
        columns, column_sources = self._places(0, turned.shape[1])
        # Gathering rows is cheaper than gathering columns, so rows go first if that makes them fewer.
        if len(row_sources) <= turned.shape[0]:
            picked = turned.take(row_sources, axis=0).take(column_sources, axis=1)
        else:
            picked = turned.take(column_sources, axis=1).take(row_sources, axis=0)
        resampled[rows, columns] = picked
        return resampled

    def _kept(
        self, array: Bool[np.ndarray, "length across"], axis: int
    ) -> Bool[np.ndarray, "size across"]:
        """Resample the first dimension, along ``axis``, so that no pixel is lost."""
        places, sources = self._places(axis, len(array))
        resampled = np.zeros((tuple(self.target)[1 - axis], array.shape[1]), np.bool_)
        resampled[places] = array[sources]
        centres = self.axes.scale[axis] * (np.arange(len(array)) + 0.5) + self.axes.shift[axis]
        inside = (centres >= 0) & (centres < len(resampled))
        np.logical_or.at(resampled, centres[inside].astype(np.int64), array[inside])
        return resampled

    def _places(self, axis: int, length: int) -> tuple[slice, Int64[np.ndarray, " n"]]:
        """Return the target pixels that have a source along an axis, and these source pixels."""
        size = tuple(self.target)[1 - axis]
        centres = (np.arange(size) + 0.5 - self.axes.shift[axis]) / self.axes.scale[axis]
        sources = np.floor(centres) if self.ties_up else np.ceil(centres) - 1
        inside = np.flatnonzero((sources >= 0) & (sources < length))
        first, end = (int(inside[0]), int(inside[-1]) + 1) if inside.size else (0, 0)
        return slice(first, end), sources[first:end].astype(np.int64)


class Transform(ABC):
    """A map from the pixels of one image to those of another, with its inverse.

    Geometry is in pixels of ``source`` before ``apply`` and of ``target`` after it. Empty arrays
    give empty arrays.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def source(self) -> ImageSize:
        """Size of the image before the transform."""

    @property
    @abstractmethod
    def target(self) -> ImageSize:
        """Size of the image after the transform."""

    @property
    @abstractmethod
    def moves(self) -> tuple[Move, ...]:
        """The moves, in order."""

    @property
    def _moves_back(self) -> tuple[Move, ...]:
        return tuple(move.inverse() for move in reversed(self.moves))

    def apply_boxes(self, boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
        """Return xyxy boxes of the source on the target, unclipped."""
        return _each_boxes(self.moves, boxes)

    def invert_boxes(self, boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
        """Return xyxy boxes of the target on the source, unclipped."""
        return _each_boxes(self._moves_back, boxes)

    def apply_points(self, points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """Return points ``x y`` of the source on the target, unclipped."""
        return _each_points(self.moves, points)

    def invert_points(self, points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """Return points ``x y`` of the target on the source, unclipped."""
        return _each_points(self._moves_back, points)

    def apply_mask(self, mask: Mask) -> Mask:
        """Return a mask of the source on the target.

        Raises:
            GeometryError: The mask does not have the size of the source.
        """
        return self.apply(mask)

    def invert_mask(self, mask: Mask) -> Mask:
        """Return a mask of the target on the source.

        Raises:
            GeometryError: The mask does not have the size of the target.
        """
        return self.invert(mask)

    def apply(self, unit: _G) -> _G:
        """Return a unit or region of the source on the target.

        If the transform mirrors, keypoints named left and right are exchanged.

        Raises:
            GeometryError: A mask or depth map does not have the source's size, or a mirrored keypoint
                has no partner.
        """
        return _each_unit(self.moves, unit)

    def invert(self, unit: _G) -> _G:
        """Return a unit or region of the target on the source.

        Raises:
            GeometryError: A mask or depth map does not have the target's size, or a mirrored keypoint
                has no partner.
        """
        return _each_unit(self._moves_back, unit)


def _each_boxes(moves: Sequence[Move], boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
    for move in moves:
        boxes = move.move_boxes(boxes)
    return boxes


def _each_points(
    moves: Sequence[Move], points: Float[np.ndarray, "n 2"]
) -> Float[np.ndarray, "n 2"]:
    for move in moves:
        points = move.axes.move(points)
    return points


def _each_unit(moves: Sequence[Move], unit: _G) -> _G:
    moved: Geometry = unit
    for move in moves:
        moved = move.move(moved)
    # A move keeps the type of the geometry.
    return cast("_G", moved)


# ``field()`` below: without it, a dataclass uses the abstract property as the field's default.


@dataclass(frozen=True, slots=True)
class Resize(Transform):
    """Stretch an image to another size, with a separate scale for each axis."""

    source: ImageSize = field()
    target: ImageSize = field()

    @property
    def scale(self) -> tuple[float, float]:
        """Target pixels per source pixel, in x and y."""
        return self.target.width / self.source.width, self.target.height / self.source.height

    @property
    def moves(self) -> tuple[Move, ...]:
        """The moves, in order."""
        return (Move(self.source, self.target, AxisMap(scale=self.scale)),)


@checks_itself
@dataclass(frozen=True, slots=True)
class Letterbox(Transform):
    """Scale an image to fit a square canvas, keeping its aspect ratio, and centre it.

    Offsets are exact, so they may be fractions of a pixel. With ``padding="floor"`` they are whole
    pixels of the source, as if the image were pasted into a square of its longer side before scaling
    (Pink's public code): an odd padding puts the smaller half first.

    Raises:
        GeometryError: ``canvas`` is not a positive integer, or ``padding`` is unknown.
    """

    source: ImageSize = field()
    canvas: int
    padding: Padding = "half"

    def __post_init__(self) -> None:
        object.__setattr__(self, "canvas", checked_side(self.canvas, "letterbox canvas"))
        if self.padding not in get_args(Padding):
            raise GeometryError(
                f"letterbox padding: expected one of {get_args(Padding)}, got {shown(self.padding)}"
            )

    @property
    def target(self) -> ImageSize:
        """The canvas."""
        return ImageSize(self.canvas, self.canvas)

    @property
    def scale(self) -> float:
        """Canvas pixels per source pixel."""
        return self.canvas / max(self.source)

    @property
    def offset(self) -> tuple[float, float]:
        """Left and top padding, in canvas pixels."""
        height, width = self.source
        if self.padding == "floor":
            longer = max(self.source)
            left, top = (longer - width) // 2, (longer - height) // 2
            return left * self.scale, top * self.scale
        return (self.canvas - width * self.scale) / 2, (self.canvas - height * self.scale) / 2

    @property
    def moves(self) -> tuple[Move, ...]:
        """The moves, in order."""
        axes = AxisMap(scale=(self.scale, self.scale), shift=self.offset)
        return (Move(self.source, self.target, axes),)


@checks_itself
@dataclass(frozen=True, slots=True)
class Crop(Transform):
    """Crop to whole pixels: ``box`` is ``(x1, y1, x2, y2)`` in the source.

    Raises:
        GeometryError: The box has non-integers, is empty or does not fit the source.
    """

    source: ImageSize = field()
    box: tuple[int, int, int, int]

    def __post_init__(self) -> None:
        values = tuple(self.box)
        if len(values) != 4 or any(
            isinstance(value, bool) or not isinstance(value, int | np.integer) for value in values
        ):
            raise GeometryError(f"crop: expected 4 integers (xyxy), got {shown(self.box)}")
        x1, y1, x2, y2 = (int(value) for value in values)
        if not (0 <= x1 < x2 <= self.source.width and 0 <= y1 < y2 <= self.source.height):
            raise GeometryError(
                f"crop {shown((x1, y1, x2, y2))} (xyxy) does not fit a {self.source} image"
            )
        object.__setattr__(self, "box", (x1, y1, x2, y2))

    @property
    def target(self) -> ImageSize:
        """Size of the crop."""
        x1, y1, x2, y2 = self.box
        return ImageSize(y2 - y1, x2 - x1)

    @property
    def moves(self) -> tuple[Move, ...]:
        """The moves, in order."""
        axes = AxisMap(shift=(-float(self.box[0]), -float(self.box[1])))
        return (Move(self.source, self.target, axes),)

    def apply_array(
        self, array: Shaped[np.ndarray, "height width ..."]
    ) -> Shaped[np.ndarray, "cut_height cut_width ..."]:
        """Return a copy of the cropped part of an image array.

        Raises:
            GeometryError: The array does not have the source's size.
        """
        _check_array(array, self.source)
        x1, y1, x2, y2 = self.box
        return array[y1:y2, x1:x2].copy()


@dataclass(frozen=True, slots=True)
class Flip(Transform):
    """Mirror an image horizontally."""

    source: ImageSize = field()

    @property
    def target(self) -> ImageSize:
        """The same size."""
        return self.source

    @property
    def moves(self) -> tuple[Move, ...]:
        """The moves, in order."""
        axes = AxisMap(scale=(-1.0, 1.0), shift=(float(self.source.width), 0.0))
        return (Move(self.source, self.target, axes),)

    def apply_array(
        self, array: Shaped[np.ndarray, "height width ..."]
    ) -> Shaped[np.ndarray, "height width ..."]:
        """Return a flipped image array.

        Raises:
            GeometryError: The array does not have the source's size.
        """
        _check_array(array, self.source)
        return self.moves[0].axes.turn(array)


# For each EXIF orientation: whether x and y are exchanged, then whether x and y are reversed.
_ORIENTATIONS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}


@checks_itself
@dataclass(frozen=True, slots=True)
class Orient(Transform):
    """Turn a stored image upright, by its EXIF orientation (1 to 8).

    Orientations 2, 4, 5 and 7 mirror: a keypoint labelled left on the stored image is on the right
    side of the body in the upright image, so left and right keypoints are exchanged.

    Raises:
        GeometryError: The orientation is not an integer from 1 to 8.
    """

    source: ImageSize = field()
    exif: int

    def __post_init__(self) -> None:
        exif: object = self.exif
        if (
            isinstance(exif, bool)
            or not isinstance(exif, int | np.integer)
            or exif not in _ORIENTATIONS
        ):
            raise GeometryError(f"EXIF orientation: expected 1 to 8, got {shown(exif)}")
        object.__setattr__(self, "exif", int(exif))

    @property
    def target(self) -> ImageSize:
        """Size of the upright image."""
        height, width = self.source
        return ImageSize(width, height) if _ORIENTATIONS[self.exif][0] else self.source

    @property
    def moves(self) -> tuple[Move, ...]:
        """The moves, in order."""
        swap, back_x, back_y = _ORIENTATIONS[self.exif]
        height, width = self.target
        axes = AxisMap(
            scale=(-1.0 if back_x else 1.0, -1.0 if back_y else 1.0),
            shift=(float(width) if back_x else 0.0, float(height) if back_y else 0.0),
            swap=swap,
        )
        return (Move(self.source, self.target, axes),)

    def apply_array(
        self, array: Shaped[np.ndarray, "height width ..."]
    ) -> Shaped[np.ndarray, "upright_height upright_width ..."]:
        """Return an image array turned upright.

        Raises:
            GeometryError: The array does not have the source's size.
        """
        _check_array(array, self.source)
        return self.moves[0].axes.turn(array)


@checks_itself
@dataclass(frozen=True, slots=True)
class Compose(Transform):
    """Several transforms, applied in order.

    Masks and depth maps pass through every intermediate size, so pixels that a crop removes do not
    come back.

    Raises:
        GeometryError: There is no transform, or a source size differs from the previous target size.
    """

    parts: tuple[Transform, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        if not self.parts:
            raise GeometryError("compose: expected at least one transform, got none")
        for index, (before, after) in enumerate(zip(self.parts, self.parts[1:], strict=False)):
            if before.target != after.source:
                raise GeometryError(
                    f"compose: transform {index + 1} expects {after.source}, "
                    f"got {before.target} of transform {index}"
                )

    @property
    def source(self) -> ImageSize:
        """Size of the image before the first transform."""
        return self.parts[0].source

    @property
    def target(self) -> ImageSize:
        """Size of the image after the last transform."""
        return self.parts[-1].target

    @property
    def moves(self) -> tuple[Move, ...]:
        """The moves, in order."""
        return tuple(move for part in self.parts for move in part.moves)


def _check_array(array: Shaped[np.ndarray, "..."], size: ImageSize) -> None:
    if array.shape[:2] != tuple(size):
        raise GeometryError(
            f"image array: expected [{size.height}, {size.width}, ...], got {list(array.shape)}"
        )

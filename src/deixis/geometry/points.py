"""Points and scribbles."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from deixis.errors import GeometryError
from deixis.geometry.checks import VERTEX_LIMIT, checked_coordinate, checks_itself, shown
from deixis.geometry.masks import Mask
from deixis.geometry.size import ImageSize

# Half the diagonal of a pixel: the centre of a point's pixel is never farther from the point.
_LEAST_RADIUS = 0.5**0.5 + 1e-9
_ROWS_AT_ONCE = 2**16
# Of a unit vector: a smaller component does not bend a stroke visibly.
_LEVEL = 1e-12


@checks_itself
@dataclass(frozen=True, slots=True)
class Point:
    """A position in pixels; ``(0.5, 0.5)`` is the centre of the first pixel.

    Raises:
        GeometryError: A coordinate is not a finite number.
    """

    x: float
    y: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "x", checked_coordinate(self.x, "point x"))
        object.__setattr__(self, "y", checked_coordinate(self.y, "point y"))

    def check_inside(self, size: ImageSize) -> None:
        """Check that the point lies in an image of ``size``, its edges included.

        Raises:
            GeometryError: The point lies outside.
        """
        if not (0 <= self.x <= size.width and 0 <= self.y <= size.height):
            raise GeometryError(f"point ({self.x}, {self.y}) lies outside a {size} image")

    def to_mask(self, size: ImageSize) -> Mask:
        """Return the pixel that the point lies in; on the right or bottom edge, the last one.

        Raises:
            GeometryError: The point lies outside the image.
        """
        self.check_inside(size)
        size.check_area()
        array = np.zeros(tuple(size), np.bool_)
        array[min(int(self.y), size.height - 1), min(int(self.x), size.width - 1)] = True
        return Mask(array)


@checks_itself
@dataclass(frozen=True, slots=True)
class Scribble:
    """A stroke through ``points`` (each ``(x, y)``, in pixels), ``width`` pixels thick.

    Its ends and joints are round. One point makes a dot.

    Raises:
        GeometryError: There are no points or more than 10,000, a coordinate is not a finite
            number, or the width is not positive.
    """

    points: tuple[tuple[float, float], ...]
    width: float

    def __post_init__(self) -> None:
        points: object = self.points
        if not isinstance(points, tuple | list) or not points:
            raise GeometryError(f"scribble: expected points, got {shown(points)}")
        if len(points) > VERTEX_LIMIT:
            raise GeometryError(
                f"scribble: expected at most {VERTEX_LIMIT} points, got {len(points)}"
            )
        object.__setattr__(self, "points", tuple(map(_checked_pair, points)))
        object.__setattr__(self, "width", checked_coordinate(self.width, "scribble width"))
        if self.width <= 0:
            raise GeometryError(f"scribble width: expected more than 0, got {self.width}")

    def to_mask(self, size: ImageSize) -> Mask:
        """Return the pixels whose centres lie within half the width of the stroke.

        A stroke that is thinner than the diagonal of a pixel is drawn with that width, so it covers
        every pixel that it passes through.

        Raises:
            GeometryError: No pixel of the image is covered.
        """
        size.check_area()
        points = np.array(self.points)
        starts, ends = (points[:-1], points[1:]) if len(points) > 1 else (points, points)
        array = _stroke(starts, ends, max(self.width / 2, _LEAST_RADIUS), size)
        if not array.any():
            raise GeometryError(f"scribble lies wholly outside a {size} image")
        return Mask(array)


def _checked_pair(point: object) -> tuple[float, float]:
    if not isinstance(point, tuple | list) or len(point) != 2:
        raise GeometryError(f"scribble point: expected (x, y), got {shown(point)}")
    return checked_coordinate(point[0], "scribble x"), checked_coordinate(point[1], "scribble y")


def _stroke(
    starts: Float[np.ndarray, "n 2"],
    ends: Float[np.ndarray, "n 2"],
    radius: float,
    size: ImageSize,
) -> Bool[np.ndarray, "height width"]:
    """Fill segments with round ends: each covers one interval of each row."""
    height, width = size
    lows, highs = np.minimum(starts, ends)[:, 1] - radius, np.maximum(starts, ends)[:, 1] + radius
    first = np.clip(np.ceil(lows - 0.5), 0, height).astype(np.int64)
    counts = np.maximum(np.clip(np.floor(highs - 0.5) + 1, 0, height).astype(np.int64) - first, 0)
    steps = np.zeros(height * (width + 1), np.int32)
    bounds = np.cumsum(counts)
    done = 0
    while done < len(counts):
        # As many segments at a time as fit in a few megabytes.
        base = int(bounds[done - 1]) if done else 0
        stop = max(int(np.searchsorted(bounds, base + _ROWS_AT_ONCE, "right")), done + 1)
        chunk = slice(done, stop)
        segment = np.repeat(np.arange(done, stop), counts[chunk])
        offset = np.repeat(bounds[chunk] - counts[chunk] - base, counts[chunk])
        rows = first[segment] + np.arange(segment.size) - offset
        left, right = _stretches(starts[segment], ends[segment], radius, rows + 0.5)
        begin = np.clip(np.ceil(left - 0.5), 0, width).astype(np.int64)
        end = np.clip(np.floor(right - 0.5) + 1, 0, width).astype(np.int64)
        drawn = begin < end
        row_starts = rows[drawn] * (width + 1)
        np.add.at(steps, row_starts + begin[drawn], 1)
        np.subtract.at(steps, row_starts + end[drawn], 1)
        done = stop
    covered = np.cumsum(steps.reshape(height, width + 1), axis=1, dtype=np.int32)
    array: Bool[np.ndarray, "height width"] = covered[:, :-1] > 0
    return array


def _stretches(
    start: Float[np.ndarray, "n 2"],
    end: Float[np.ndarray, "n 2"],
    radius: float,
    y: Float[np.ndarray, " n"],
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return the interval of x in which a row ``y`` is within ``radius`` of a segment.

    The area is convex: two discs and the rectangle between them. If none of them meets the row, the
    first number is larger than the second.
    """
    left, right = np.full(y.shape, np.inf), np.full(y.shape, -np.inf)
    for centre in (start, end):
        squared = radius**2 - (y - centre[:, 1]) ** 2
        half = np.sqrt(np.maximum(squared, 0))
        left = np.where(squared >= 0, np.minimum(left, centre[:, 0] - half), left)
        right = np.where(squared >= 0, np.maximum(right, centre[:, 0] + half), right)
    direction = end - start
    length = np.hypot(direction[:, 0], direction[:, 1])
    unit = direction / np.where(length > 0, length, 1)[:, None]
    # The rectangle: 0 <= (p - start) . unit <= length and |(p - start) x unit| <= radius.
    low, high = np.full(y.shape, -np.inf), np.full(y.shape, np.inf)
    below = y - start[:, 1]
    for slope, constant, least, most in (
        (unit[:, 0], below * unit[:, 1], np.zeros_like(length), length),
        (
            -unit[:, 1],
            below * unit[:, 0],
            np.full_like(length, -radius),
            np.full_like(length, radius),
        ),
    ):
        level = np.abs(slope) < _LEVEL
        divisor = np.where(level, 1, slope)
        one, other = (least - constant) / divisor, (most - constant) / divisor
        met = (least <= constant) & (constant <= most)
        low = np.maximum(
            low, np.where(level, np.where(met, -np.inf, np.inf), np.minimum(one, other))
        )
        high = np.minimum(
            high, np.where(level, np.where(met, np.inf, -np.inf), np.maximum(one, other))
        )
    low, high = start[:, 0] + low, start[:, 0] + high
    # A segment without length consists of its discs only.
    met = (low <= high) & (length > 0)
    return np.where(met, np.minimum(left, low), left), np.where(met, np.maximum(right, high), right)


def stack_points(points: tuple[Point, ...] | list[Point]) -> Float[np.ndarray, "n 2"]:
    """Return points as rows of ``x y`` (float64); no points give ``[0 2]``."""
    return np.array([(point.x, point.y) for point in points], np.float64).reshape(-1, 2)


def points_inside(points: Float[np.ndarray, "n 2"], size: ImageSize) -> Bool[np.ndarray, " n"]:
    """Return which points lie in an image of ``size``, its edges included."""
    inside = (points >= 0) & (points <= np.array((size.width, size.height)))
    return np.logical_and(inside[:, 0], inside[:, 1])

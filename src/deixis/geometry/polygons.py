"""Fill polygons as pycocotools does; the result is runs of pixels.

The rule (``maskApi.c``, ``rleFrPoly``): vertices are rounded to a grid five times as fine, edges
are walked on it, and wherever an edge steps between sub-columns 2 and 3 of a pixel column (its
middle) the pixels below that height are toggled. A self-intersecting polygon is therefore filled
by the even-odd rule, and the polygons of one mask are united. This module computes the steps of
each edge and column directly, so a distant vertex costs no memory.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float, Int64

from deixis.errors import GeometryError
from deixis.geometry.checks import COORDINATE_LIMIT, VERTEX_LIMIT, shown
from deixis.geometry.size import ImageSize

_FINENESS = 5
_CROSSING_LIMIT = 2**25


def checked_polygons(polygons: object) -> list[Float[np.ndarray, "_ 2"]]:
    """Check polygons and return them as vertices ``x y``.

    Args:
        polygons: A list of lists ``[x, y, x, y, ...]``.

    Raises:
        GeometryError: There is no polygon, one has an odd count or fewer than 6 numbers, a
            number is not finite, or there are more than 10,000 vertices together.
    """
    if not isinstance(polygons, list | tuple) or not polygons:
        raise GeometryError(f"polygons: expected a list of polygons, got {shown(polygons)}")
    checked = [_checked_polygon(polygon, index) for index, polygon in enumerate(polygons)]
    total = sum(map(len, checked))
    if total > VERTEX_LIMIT:
        raise GeometryError(f"polygons: expected at most {VERTEX_LIMIT} vertices, got {total}")
    return checked


def _checked_polygon(polygon: object, index: int) -> Float[np.ndarray, "vertices 2"]:
    if not isinstance(polygon, list | tuple | np.ndarray):
        raise GeometryError(f"polygon {index}: expected a list of numbers, got {shown(polygon)}")
    if len(polygon) > 2 * VERTEX_LIMIT:
        raise GeometryError(
            f"polygon {index}: expected at most {VERTEX_LIMIT} vertices, got {len(polygon) // 2}"
        )
    numbers = _numbers(polygon, index)
    if numbers.size % 2:
        raise GeometryError(f"polygon {index}: expected pairs x, y, got {numbers.size} numbers")
    if numbers.size < 6:
        raise GeometryError(f"polygon {index}: expected 6 numbers or more, got {numbers.size}")
    wrong = ~(np.abs(numbers) <= COORDINATE_LIMIT)
    if wrong.any():
        position = int(wrong.argmax())
        raise GeometryError(
            f"polygon {index}: expected finite numbers of at most {COORDINATE_LIMIT} in size, "
            f"got {numbers[position]} at {position}"
        )
    return numbers.astype(np.float64).reshape(-1, 2)


def _numbers(polygon: Iterable[object], index: int) -> Float[np.ndarray, " n"]:
    values = polygon if isinstance(polygon, np.ndarray) else list(polygon)
    if any(isinstance(value, bool) for value in values):
        raise GeometryError(f"polygon {index}: expected a list of numbers, got a bool")
    try:
        numbers = np.asarray(values)
    except ValueError:
        raise GeometryError(
            f"polygon {index}: expected a list of numbers, got {shown(values)}"
        ) from None
    if numbers.ndim != 1 or numbers.dtype.kind not in "iuf":
        raise GeometryError(f"polygon {index}: expected a list of numbers, got {shown(values)}")
    return numbers.astype(np.float64)


def polygon_runs(
    polygons: list[Float[np.ndarray, "_ 2"]], size: ImageSize
) -> tuple[Int64[np.ndarray, " runs"], Int64[np.ndarray, " runs"]]:
    """Return starts and ends of the pixels that checked polygons cover, down the columns.

    Raises:
        GeometryError: The edges cross more than 2**25 pixel columns.
    """
    size.check_area()
    toggles = [_toggles(polygon, size) for polygon in polygons]
    starts = np.concatenate([positions[0::2] for positions in toggles])
    ends = np.concatenate([positions[1::2] for positions in toggles])
    return (starts, ends) if len(toggles) == 1 else _united(starts, ends)


def _united(
    starts: Int64[np.ndarray, " runs"], ends: Int64[np.ndarray, " runs"]
) -> tuple[Int64[np.ndarray, " merged"], Int64[np.ndarray, " merged"]]:
    positions, places = np.unique(np.concatenate((starts, ends)), return_inverse=True)
    steps = np.bincount(places[: starts.size], minlength=positions.size)
    steps = steps - np.bincount(places[starts.size :], minlength=positions.size)
    covered = np.cumsum(steps) > 0
    before = np.concatenate(([False], covered[:-1]))
    return positions[covered & ~before], positions[before & ~covered]


def _toggles(polygon: Float[np.ndarray, "vertices 2"], size: ImageSize) -> Int64[np.ndarray, " n"]:
    """Return the positions where the fill of a polygon begins and ends, in order; an even number."""
    height, width = size
    # The conversion truncates towards zero, as in C.
    grid = (_FINENESS * polygon + 0.5).astype(np.int64)
    following = np.roll(grid, -1, axis=0)
    wide = np.abs(following - grid)[:, 0] >= np.abs(following - grid)[:, 1]
    # Each edge is walked along its longer side, in rising order.
    along = np.where(wide, 0, 1)
    edges = np.arange(len(grid))
    swap = (grid[edges, along] > following[edges, along])[:, None]
    start, end = np.where(swap, following, grid), np.where(swap, grid, following)

    left, right = np.minimum(start[:, 0], end[:, 0]), np.maximum(start[:, 0], end[:, 0])
    first = np.maximum(-((2 - left) // _FINENESS), 0)
    last = np.minimum((right - 3) // _FINENESS, width - 1)
    counts = np.maximum(last - first + 1, 0)
    total = int(counts.sum())
    if total > _CROSSING_LIMIT:
        raise GeometryError(
            f"polygon: expected edges that cross at most {_CROSSING_LIMIT} columns, got {total}"
        )
    edge = np.repeat(edges, counts)
    column = first[edge] + np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    middle = _FINENESS * column + 2
    fine_row = np.empty(total, np.int64)
    for kind, heights in ((wide, _wide_heights), (~wide, _tall_heights)):
        chosen = kind[edge]
        fine_row[chosen] = heights(start[edge[chosen]], end[edge[chosen]], middle[chosen])
    row = np.ceil(np.clip((fine_row + 0.5) / _FINENESS - 0.5, 0, height)).astype(np.int64)
    positions, times = np.unique(column * height + row, return_counts=True)
    odd: Int64[np.ndarray, " n"] = positions[times % 2 == 1]
    return odd


def _wide_heights(
    start: Int64[np.ndarray, "n 2"], end: Int64[np.ndarray, "n 2"], middle: Int64[np.ndarray, " n"]
) -> Int64[np.ndarray, " n"]:
    slope = (end[:, 1] - start[:, 1]) / (end[:, 0] - start[:, 0])
    steps = middle - start[:, 0]
    before = (start[:, 1] + slope * steps + 0.5).astype(np.int64)
    after = (start[:, 1] + slope * (steps + 1) + 0.5).astype(np.int64)
    lower: Int64[np.ndarray, " n"] = np.minimum(before, after)
    return lower


def _tall_heights(
    start: Int64[np.ndarray, "n 2"], end: Int64[np.ndarray, "n 2"], middle: Int64[np.ndarray, " n"]
) -> Int64[np.ndarray, " n"]:
    slope = (end[:, 0] - start[:, 0]) / (end[:, 1] - start[:, 1])

    def crossed(steps: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        reached = (start[:, 0] + slope * steps + 0.5).astype(np.int64)
        past: Bool[np.ndarray, " n"] = (reached > middle) == (slope > 0)
        return past

    # Solve for the first step past the middle, then correct it by one where rounding moved it.
    steps = np.ceil((middle + 0.5 - start[:, 0]) / slope).astype(np.int64)
    steps = np.where(crossed(steps - 1), steps - 1, steps)
    steps = np.where(crossed(steps), steps, steps + 1)
    before: Int64[np.ndarray, " n"] = start[:, 1] + steps - 1
    return before

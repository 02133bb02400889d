"""Converts masks to one polygon or one oriented rectangle, for formats without masks."""

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.spatial import ConvexHull, QhullError

from deixis.data.export.items import Losses
from deixis.geometry import Mask
from deixis.geometry.checks import VERTEX_LIMIT
from deixis.structures import Instance


def corners_of(instance: Instance, losses: Losses) -> list[float]:
    """Return four corners ``[x, y, …]`` of an instance, for formats of oriented boxes.

    The corners are those of the oriented box, else of the smallest rectangle around the mask, else of
    the box. The second and third case are counted as losses.
    """
    if instance.oriented is not None:
        return instance.oriented.flat()
    rectangle = None if instance.mask is None else smallest_rectangle(instance.mask)
    if rectangle is not None:
        losses.add("masks, written as turned rectangles")
        return rectangle
    losses.add("boxes that are not turned, written as four corners")
    box = instance.box
    return [box.x1, box.y1, box.x2, box.y1, box.x2, box.y2, box.x1, box.y2]


def smallest_rectangle(mask: Mask) -> list[float] | None:
    """Return the corners of the smallest oriented rectangle around a mask, clockwise in the image.

    The rectangle encloses the mask's polygons if it has some, else its pixels. One side lies along a
    side of the convex hull. None for a mask that is empty or has no extent.
    """
    given = mask.to_annotation().get("polygons")
    loops = given if isinstance(given, list) else [loop.ravel() for loop in outlines(mask.array)]
    if not loops:
        return None
    points = np.concatenate([np.asarray(loop, np.float64) for loop in loops]).reshape(-1, 2)
    try:
        hull: Float[np.ndarray, "n 2"] = points[ConvexHull(points).vertices]
    except (QhullError, ValueError):
        return None
    sides = np.roll(hull, -1, axis=0) - hull
    along = sides / np.hypot(sides[:, 0], sides[:, 1])[:, None]
    across = np.stack((-along[:, 1], along[:, 0]), axis=1)
    u, v = hull @ along.T, hull @ across.T
    best = int(np.argmin(np.ptp(u, axis=0) * np.ptp(v, axis=0)))
    (u1, u2), (v1, v2) = ((values[:, best].min(), values[:, best].max()) for values in (u, v))
    corners = np.array(((u1, v1), (u2, v1), (u2, v2), (u1, v2)))
    flat: list[float] = (corners @ np.stack((along[best], across[best]))).round(9).ravel().tolist()
    return flat


def single_polygon(mask: Mask) -> list[float] | None:
    """Return one polygon ``[x, y, x, y, ...]`` whose even-odd filling is the mask.

    The polygons of a mask are kept if they lie in the image; otherwise the polygon follows the edges
    of pixels. Pieces and holes are joined by seams of zero width: lines that the polygon follows
    twice. None for an empty mask, or if the polygon needs too many corners.
    """
    given = mask.to_annotation().get("polygons")
    if isinstance(given, list):
        joined = _joined([[float(value) for value in polygon] for polygon in given])
        if _fits(joined, mask) and (
            len(given) == 1 or Mask.from_polygons([joined], mask.size) == mask
        ):
            return joined
    loops = [loop.astype(float).ravel().tolist() for loop in outlines(mask.array)]
    joined = _joined(loops)
    return joined if 6 <= len(joined) <= 2 * VERTEX_LIMIT else None


def outlines(array: Bool[np.ndarray, "height width"]) -> list[Int64[np.ndarray, "corners 2"]]:
    """Return the borders of a mask along pixel edges, as closed loops of corners ``x y``.

    Each hole is a separate loop. An empty mask gives no loops.
    """
    padded = np.pad(array, 1).astype(np.int8)
    # a corner is where one or three of the four adjacent pixels are set, or two diagonal ones
    around = padded[:-1, :-1] + padded[1:, 1:] - padded[:-1, 1:] - padded[1:, :-1]
    y, x = np.nonzero(around)
    times = np.abs(around[y, x])
    y, x = np.repeat(y, times), np.repeat(x, times)
    # along a row, corners alternate between start and end of a border; likewise along a column
    beside, below = _pairs(np.lexsort((x, y))), _pairs(np.lexsort((y, x)))
    loops = []
    free = np.ones(len(x), np.bool_)
    for first in range(len(x)):
        if not free[first]:
            continue
        corners: list[int] = []
        corner = first
        while free[corner]:
            other = int(beside[corner])
            free[corner] = free[other] = False
            corners += [corner, other]
            corner = int(below[other])
        loops.append(np.stack((x[corners], y[corners]), axis=1))
    return loops


def _pairs(order: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    partner = np.empty(len(order), np.int64)
    partner[order[0::2]] = order[1::2]
    partner[order[1::2]] = order[0::2]
    return partner


def _joined(loops: list[list[float]]) -> list[float]:
    if not loops:
        return []
    path = list(loops[0])
    start = path[:2]
    for loop in loops[1:]:
        # return to the start, go to the loop, around it, and back the same way
        path += [*start, *loop, *loop[:2]]
    return path


def _fits(polygon: list[float], mask: Mask) -> bool:
    xs, ys = polygon[0::2], polygon[1::2]
    return (
        len(polygon) <= 2 * VERTEX_LIMIT
        and min(xs) >= 0
        and min(ys) >= 0
        and max(xs) <= mask.size.width
        and max(ys) <= mask.size.height
    )

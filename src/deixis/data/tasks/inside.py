"""Tests whether points are inside the polygons of a mask, without filling the mask."""

from deixis.geometry import CodedMask, Mask

MARGIN = 1.5
"""Distance from an outline in pixels within which rasterisation may decide either way."""


def outlines(mask: Mask) -> list[list[float]] | None:
    """Return the polygons of a mask, each ``[x, y, x, y, ...]``; None if it is not made of polygons."""
    if not isinstance(mask, CodedMask):
        return None
    polygons = mask.to_annotation().get("polygons")
    return polygons if isinstance(polygons, list) else None


def surely_inside(polygons: list[list[float]], x: float, y: float) -> bool:
    """Return whether a point is inside one of the polygons and not near its outline."""
    return any(_is_inside(polygon, x, y) for polygon in polygons)


def _is_inside(polygon: list[float], x: float, y: float) -> bool:
    low, high = y - MARGIN, y + MARGIN
    xs, ys = polygon[0::2], polygon[1::2]
    x1, y1 = xs[-1], ys[-1]
    inside = False
    for x2, y2 in zip(xs, ys, strict=True):
        # most edges lie wholly above or below the row and are not near the point
        if not ((y1 < low and y2 < low) or (y1 > high and y2 > high)):
            if _is_near(x, y, x1, y1, x2, y2):
                return False
            if (y1 > y) != (y2 > y) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1):
                inside = not inside
        x1, y1 = x2, y2
    return inside


def _is_near(x: float, y: float, x1: float, y1: float, x2: float, y2: float) -> bool:
    """Return whether a point is within the margin of a segment."""
    across, down = x2 - x1, y2 - y1
    squared = across * across + down * down
    along = 0.0
    if squared > 0:
        along = min(max(((x - x1) * across + (y - y1) * down) / squared, 0.0), 1.0)
    left, above = x1 + along * across - x, y1 + along * down - y
    return left * left + above * above <= MARGIN * MARGIN

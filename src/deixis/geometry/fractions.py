"""Regions in fractions of an image's sides: detect them, and convert them to pixels."""

from deixis.errors import GeometryError
from deixis.geometry.boxes import Box
from deixis.geometry.masks import Mask
from deixis.geometry.points import Point, Scribble
from deixis.geometry.size import ImageSize

_TINY = 16
"""In an image with at most this many pixels, a region within the first pixel is not suspicious."""


def check_pixels(region: Box | Point | Scribble | Mask, size: ImageSize) -> None:
    """Check that a region on an image of ``size`` does not look like fractions of its sides.

    A box within the first pixel does, and a point or scribble there with fractional coordinates.

    Raises:
        GeometryError: The region looks like fractions.
    """
    if isinstance(region, Mask) or size.area <= _TINY:
        return
    if isinstance(region, Box):
        numbers = [region.x1, region.y1, region.x2, region.y2]
        name, broken = f"box {region} (xyxy)", True
    elif isinstance(region, Point):
        numbers = [region.x, region.y]
        name, broken = f"point ({region.x}, {region.y})", any(one % 1 for one in numbers)
    else:
        numbers = [number for point in region.points for number in point]
        name, broken = f"scribble {region.points[:2]}", any(one % 1 for one in numbers)
    if broken and min(numbers) >= 0 and max(numbers) <= 1:
        raise GeometryError(f"{name} looks like fractions, expected pixels of a {size} image")


def from_fractions(region: Box | Point | Scribble, size: ImageSize) -> Box | Point | Scribble:
    """Convert a region from fractions of an image's sides to pixels of an image of ``size``.

    The width of a scribble is already in pixels.

    >>> from_fractions(Box(0.25, 0.5, 0.75, 1), ImageSize(100, 200))
    Box(x1=50.0, y1=50.0, x2=150.0, y2=100.0)

    Raises:
        GeometryError: A number is below 0 or above 1.
    """
    wide, high = size.width, size.height
    if isinstance(region, Box):
        numbers = [region.x1, region.y1, region.x2, region.y2]
    elif isinstance(region, Point):
        numbers = [region.x, region.y]
    else:
        numbers = [number for point in region.points for number in point]
    if min(numbers) < 0 or max(numbers) > 1:
        raise GeometryError(f"fractions {tuple(numbers[:4])}: expected numbers of 0 to 1")
    if isinstance(region, Box):
        return Box(region.x1 * wide, region.y1 * high, region.x2 * wide, region.y2 * high)
    if isinstance(region, Point):
        # 1 belongs to the last pixel
        return Point(min(region.x * wide, wide - 0.5), min(region.y * high, high - 0.5))
    return Scribble(tuple((x * wide, y * high) for x, y in region.points), region.width)

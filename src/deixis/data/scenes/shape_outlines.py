"""Shapes as signed distances: negative inside, zero on the edge.

Coordinates are relative to the centre, x to the right and y downwards, with the longest half-side
at 1. Distances are exact only near the edge, where they make soft borders.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, hypot, pi, sin

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

Field = Float32[ndarray, "height width"]
ShapeDistance = Callable[[Field, Field], Field]


# NumPy's ufuncs are typed as returning Any.
larger: Callable[[Field, Field], Field] = np.maximum
smaller: Callable[[Field, Field], Field] = np.minimum
root: Callable[[Field], Field] = np.sqrt
magnitude: Callable[[Field], Field] = np.abs


@dataclass(frozen=True, slots=True)
class Shape:
    """The distance function, half-sides and allowed rotations of a shape.

    ``quarter_turns`` are the rotations in units of 90 degrees after which the class name still fits;
    ``tilt`` is the largest further rotation in either direction, in radians.
    """

    distance: ShapeDistance
    half_width: float = 1.0
    half_height: float = 1.0
    tilt: float = 0.25
    quarter_turns: tuple[int, ...] = (0,)


def wave(turns: Float32[ndarray, "*size"]) -> Float32[ndarray, "*size"]:
    """Return a smooth wave from -1 to 1 with period 1.

    It uses only products, as the last bit of a sine differs between machines.
    """
    phase = turns - np.rint(turns)
    return np.asarray(np.float32(16.0) * phase * (np.float32(0.5) - magnitude(phase)))


def _plane(x: Field, y: Field, angle: float, offset: float) -> Field:
    return x * np.float32(cos(angle)) + y * np.float32(sin(angle)) - np.float32(offset)


def circle(x: Field, y: Field) -> Field:
    """Distance to a circle."""
    return root(x * x + y * y) - np.float32(1.0)


def square(x: Field, y: Field) -> Field:
    """Distance to a square."""
    return larger(magnitude(x), magnitude(y)) - np.float32(0.97)


def triangle(x: Field, y: Field) -> Field:
    """Distance to a triangle that points up."""
    side = magnitude(x) * np.float32(0.868) - y * np.float32(0.496) - np.float32(0.471)
    return larger(side, y - np.float32(0.80))


def star(x: Field, y: Field) -> Field:
    """Distance to a five-pointed star.

    A point is inside a pentagram if it is outside at most one of its five lines, so the second
    largest of the five line distances is negative exactly inside.
    """
    y = y - np.float32(0.095)
    largest = -y - np.float32(0.36)
    second = np.full_like(largest, -np.inf)
    for angle in (-0.1 * pi, -0.9 * pi, 0.3 * pi, 0.7 * pi):
        line = _plane(x, y, angle, 0.36)
        np.maximum(second, smaller(largest, line), out=second)
        np.maximum(largest, line, out=largest)
    return larger(second, root(x * x + y * y) - np.float32(1.02))


def heart(x: Field, y: Field) -> Field:
    """Distance to a heart: two discs and the wedge that touches both."""
    mirrored = magnitude(x) - np.float32(0.46)
    lifted = y + np.float32(0.44)
    disc = root(mirrored * mirrored + lifted * lifted) - np.float32(0.53)
    plane = mirrored * np.float32(0.78) + lifted * np.float32(0.626) - np.float32(0.53)
    inner = mirrored * np.float32(0.626) - lifted * np.float32(0.78)
    wedge = larger(larger(plane, inner), -lifted)
    return smaller(disc, wedge)


def cross(x: Field, y: Field) -> Field:
    """Distance to a cross with equal arms."""
    across, down = magnitude(x), magnitude(y)
    long, thick = np.float32(0.97), np.float32(0.34)
    return smaller(larger(across - long, down - thick), larger(across - thick, down - long))


def diamond(x: Field, y: Field) -> Field:
    """Distance to a diamond that is taller than wide."""
    scale = hypot(1.0, 0.68)
    return (
        magnitude(x) * np.float32(1 / scale) + magnitude(y) * np.float32(0.68 / scale)
    ) - np.float32(0.68 / scale)


def pentagon(x: Field, y: Field) -> Field:
    """Distance to a regular pentagon that points up."""
    y = y - np.float32(0.095)
    mirrored = magnitude(x)
    sides = larger(_plane(mirrored, y, 0.1 * pi, 0.815), _plane(mirrored, y, -0.3 * pi, 0.815))
    return larger(sides, y - np.float32(0.815))


def hexagon(x: Field, y: Field) -> Field:
    """Distance to a regular hexagon with a flat top."""
    across, down = magnitude(x), magnitude(y)
    side = across * np.float32(0.866) + down * np.float32(0.5) - np.float32(0.866)
    return larger(side, down - np.float32(0.866))


def ring(x: Field, y: Field) -> Field:
    """Distance to a ring."""
    return magnitude(root(x * x + y * y) - np.float32(0.74)) - np.float32(0.26)


def moon(x: Field, y: Field) -> Field:
    """Distance to a crescent that opens to the right."""
    left = x - np.float32(0.245)
    outer = root(left * left + y * y) - np.float32(1.0)
    right = x - np.float32(0.745)
    return larger(outer, np.float32(0.86) - root(right * right + y * y))


def arrow(x: Field, y: Field) -> Field:
    """Distance to an arrow that points right."""
    down = magnitude(y)
    shaft = larger(magnitude(x + np.float32(0.45)) - np.float32(0.53), down - np.float32(0.27))
    head = larger(
        x * np.float32(0.62) + down * np.float32(0.785) - np.float32(0.61), -x - np.float32(0.03)
    )
    return smaller(shaft, head)


def oval(x: Field, y: Field) -> Field:
    """Distance to an oval that is wider than tall."""
    return ellipse(x, y, 1.0, 0.6)


def ellipse(x: Field, y: Field, half_width: float, half_height: float) -> Field:
    """Distance to an ellipse, to first order near its edge."""
    across = x * np.float32(1 / half_width)
    down = y * np.float32(1 / half_height)
    level = root(across * across + down * down)
    across *= np.float32(1 / half_width)
    down *= np.float32(1 / half_height)
    slope = root(across * across + down * down) + np.float32(1e-6)
    return np.asarray((level - np.float32(1.0)) * level / slope)


def rectangle(x: Field, y: Field, left: float, top: float, right: float, bottom: float) -> Field:
    """Distance to an upright rectangle."""
    across = magnitude(x - np.float32((left + right) / 2)) - np.float32((right - left) / 2)
    down = magnitude(y - np.float32((top + bottom) / 2)) - np.float32((bottom - top) / 2)
    return larger(across, down)


def capsule(
    x: Field, y: Field, start: tuple[float, float], end: tuple[float, float], radius: float
) -> Field:
    """Distance to a stroke of ``radius`` from ``start`` to ``end`` with round ends."""
    step_x, step_y = end[0] - start[0], end[1] - start[1]
    length = step_x * step_x + step_y * step_y + 1e-9
    from_x, from_y = x - np.float32(start[0]), y - np.float32(start[1])
    along = from_x * np.float32(step_x / length) + from_y * np.float32(step_y / length)
    np.minimum(np.maximum(along, np.float32(0.0)), np.float32(1.0), out=along)
    off_x = from_x - along * np.float32(step_x)
    off_y = from_y - along * np.float32(step_y)
    return root(off_x * off_x + off_y * off_y) - np.float32(radius)


def balloon(x: Field, y: Field) -> Field:
    """Distance to a balloon on a string that ends at the bottom."""
    body = ellipse(x, y + np.float32(0.42), 0.47, 0.57)
    knot = larger(magnitude(x) - (y - np.float32(0.08)) * np.float32(0.5), y - np.float32(0.26))
    string = larger(
        magnitude(x) - np.float32(0.035), magnitude(y - np.float32(0.6)) - np.float32(0.4)
    )
    return smaller(smaller(body, knot), string)


def flag(x: Field, y: Field) -> Field:
    """Distance to a waving flag on a pole that ends at the bottom left."""
    pole = rectangle(x, y, -0.62, -1.0, -0.52, 1.0)
    waved = y + np.float32(0.07) * wave(x * np.float32(0.75))
    cloth = rectangle(x, waved, -0.56, -0.90, 0.62, -0.10)
    return smaller(pole, cloth)


def umbrella(x: Field, y: Field) -> Field:
    """Distance to an open umbrella with a handle that ends at the bottom."""
    dome = circle(x, y)
    scallop = np.float32(0.07) * wave(x * np.float32(2.25) + np.float32(0.25))
    canopy = larger(dome, y + np.float32(0.08) - scallop)
    handle = rectangle(x, y, -0.05, -0.2, 0.05, 1.0)
    return smaller(canopy, handle)


def hat(x: Field, y: Field) -> Field:
    """Distance to a hat with a brim."""
    brim = ellipse(x, y - np.float32(0.40), 1.0, 0.22)
    crown_part = larger(
        magnitude(x) + (y - np.float32(0.40)) * np.float32(-0.14) - np.float32(0.58),
        magnitude(y + np.float32(0.09)) - np.float32(0.52),
    )
    return smaller(brim, crown_part)


def crown(x: Field, y: Field) -> Field:
    """Distance to a crown with three points."""
    valley = np.float32(0.5) - magnitude(magnitude(x) - np.float32(0.5))
    points = (valley * np.float32(1.6) - np.float32(0.72) - y) * np.float32(0.53)
    body = larger(magnitude(x) - np.float32(1.0), y - np.float32(0.72))
    return larger(body, points)


SHAPE_TABLE: dict[str, Shape] = {
    "circle": Shape(circle, tilt=0.0),
    "square": Shape(square, 0.97, 0.97, tilt=0.12),
    "triangle": Shape(triangle, 1.0, 0.95, tilt=0.22),
    "star": Shape(star, 0.98, 0.93, tilt=0.3),
    "heart": Shape(heart, 1.0, 0.98, tilt=0.3),
    "cross": Shape(cross, 0.97, 0.97, tilt=0.2),
    "diamond": Shape(diamond, 0.68, 1.0, tilt=0.15),
    "pentagon": Shape(pentagon, 0.97, 0.92, tilt=0.2),
    "hexagon": Shape(hexagon, 1.0, 0.866, tilt=0.2),
    "ring": Shape(ring, tilt=0.0),
    "moon": Shape(moon, 0.76, 1.0, tilt=0.4, quarter_turns=(0, 2)),
    "arrow": Shape(arrow, 1.0, 0.78, tilt=0.15, quarter_turns=(0, 1, 2, 3)),
    "oval": Shape(oval, 1.0, 0.6, tilt=0.3, quarter_turns=(0, 1)),
    "balloon": Shape(balloon, 0.47, 1.0, tilt=0.12),
    "flag": Shape(flag, 0.62, 1.0, tilt=0.1),
    "umbrella": Shape(umbrella, 1.0, 1.0, tilt=0.1),
    "hat": Shape(hat, 1.0, 0.62, tilt=0.08),
    "crown": Shape(crown, 1.0, 0.72, tilt=0.08),
}

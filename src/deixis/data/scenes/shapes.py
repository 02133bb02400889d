"""Shapes as signed distances: negative inside, zero on the edge.

Coordinates are relative to the middle, x to the right and y downwards, with the longest half-side
at 1. Distances need to be exact only near the edge, where they become soft borders.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, hypot, pi, sin

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

Field = Float32[ndarray, "height width"]
ShapeDistance = Callable[[Field, Field], Field]


@dataclass(frozen=True, slots=True)
class Shape:
    """How to draw one shape: its distance, its half-sides and how far it may be turned.

    ``quarter_turns`` are the whole turns by 90 degrees after which the word still fits;
    ``tilt`` is the further turn either way, in radians.
    """

    distance: ShapeDistance
    half_width: float = 1.0
    half_height: float = 1.0
    tilt: float = 0.25
    quarter_turns: tuple[int, ...] = (0,)


def _plane(x: Field, y: Field, angle: float, offset: float) -> Field:
    return x * np.float32(cos(angle)) + y * np.float32(sin(angle)) - np.float32(offset)


def circle(x: Field, y: Field) -> Field:
    """Distance to a circle."""
    return np.sqrt(x * x + y * y) - np.float32(1.0)


def square(x: Field, y: Field) -> Field:
    """Distance to a square."""
    return np.maximum(abs(x), abs(y)) - np.float32(0.92)


def triangle(x: Field, y: Field) -> Field:
    """Distance to a triangle that points up."""
    side = abs(x) * np.float32(0.868) - y * np.float32(0.496) - np.float32(0.471)
    return np.maximum(side, y - np.float32(0.80))


def star(x: Field, y: Field) -> Field:
    """Distance to a five-pointed star.

    The five lines that make a pentagram leave a point inside it outside at most one of them, so
    the second largest of the five line distances is negative exactly inside.
    """
    largest = -y - np.float32(0.36)
    second = np.full_like(largest, -np.inf)
    for angle in (-0.1 * pi, -0.9 * pi, 0.3 * pi, 0.7 * pi):
        line = _plane(x, y, angle, 0.36)
        np.maximum(second, np.minimum(largest, line), out=second)
        np.maximum(largest, line, out=largest)
    return np.maximum(second, np.sqrt(x * x + y * y) - np.float32(1.02))


def heart(x: Field, y: Field) -> Field:
    """Distance to a heart: two discs and the wedge that touches both."""
    mirrored = abs(x) - np.float32(0.46)
    lifted = y + np.float32(0.36)
    disc = np.sqrt(mirrored * mirrored + lifted * lifted) - np.float32(0.53)
    plane = mirrored * np.float32(0.78) + lifted * np.float32(0.626) - np.float32(0.53)
    inner = mirrored * np.float32(0.626) - lifted * np.float32(0.78)
    wedge = np.maximum(np.maximum(plane, inner), -lifted)
    return np.minimum(disc, wedge)


def cross(x: Field, y: Field) -> Field:
    """Distance to a cross with equal arms."""
    across, down = abs(x), abs(y)
    long, thick = np.float32(0.97), np.float32(0.34)
    return np.minimum(
        np.maximum(across - long, down - thick), np.maximum(across - thick, down - long)
    )


def diamond(x: Field, y: Field) -> Field:
    """Distance to a diamond that is taller than wide."""
    scale = hypot(1.0, 0.68)
    return (
        abs(x) * np.float32(1 / scale) + abs(y) * np.float32(0.68 / scale)
    ) - np.float32(0.68 / scale)


def pentagon(x: Field, y: Field) -> Field:
    """Distance to a regular pentagon that points up."""
    mirrored = abs(x)
    sides = np.maximum(
        _plane(mirrored, y, 0.1 * pi, 0.80), _plane(mirrored, y, -0.3 * pi, 0.80)
    )
    return np.maximum(sides, y - np.float32(0.80))


def hexagon(x: Field, y: Field) -> Field:
    """Distance to a regular hexagon with a flat top."""
    across, down = abs(x), abs(y)
    side = across * np.float32(0.866) + down * np.float32(0.5) - np.float32(0.866)
    return np.maximum(side, down - np.float32(0.866))


def ring(x: Field, y: Field) -> Field:
    """Distance to a ring."""
    return abs(np.sqrt(x * x + y * y) - np.float32(0.74)) - np.float32(0.26)


def moon(x: Field, y: Field) -> Field:
    """Distance to a crescent that opens to the right."""
    left = x - np.float32(0.30)
    outer = np.sqrt(left * left + y * y) - np.float32(1.0)
    right = x - np.float32(0.80)
    return np.maximum(outer, np.float32(0.86) - np.sqrt(right * right + y * y))


def arrow(x: Field, y: Field) -> Field:
    """Distance to an arrow that points right."""
    down = abs(y)
    shaft = np.maximum(abs(x + np.float32(0.45)) - np.float32(0.53), down - np.float32(0.27))
    head = np.maximum(
        x * np.float32(0.62) + down * np.float32(0.785) - np.float32(0.61), -x - np.float32(0.03)
    )
    return np.minimum(shaft, head)


def oval(x: Field, y: Field) -> Field:
    """Distance to an oval that is wider than tall."""
    return ellipse(x, y, 1.0, 0.6)


def ellipse(x: Field, y: Field, half_width: float, half_height: float) -> Field:
    """Distance to an ellipse, to first order near its edge."""
    across = x * np.float32(1 / half_width)
    down = y * np.float32(1 / half_height)
    level = np.sqrt(across * across + down * down)
    across *= np.float32(1 / half_width)
    down *= np.float32(1 / half_height)
    slope = np.sqrt(across * across + down * down) + np.float32(1e-6)
    return (level - np.float32(1.0)) * level / slope


def rectangle(
    x: Field, y: Field, left: float, top: float, right: float, bottom: float
) -> Field:
    """Distance to an upright rectangle."""
    across = abs(x - np.float32((left + right) / 2)) - np.float32((right - left) / 2)
    down = abs(y - np.float32((top + bottom) / 2)) - np.float32((bottom - top) / 2)
    return np.maximum(across, down)


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
    return np.sqrt(off_x * off_x + off_y * off_y) - np.float32(radius)


def balloon(x: Field, y: Field) -> Field:
    """Distance to a balloon on a string whose end lies at the bottom."""
    body = ellipse(x, y + np.float32(0.42), 0.47, 0.57)
    knot = np.maximum(
        abs(x) - (y - np.float32(0.08)) * np.float32(0.5), y - np.float32(0.26)
    )
    string = np.maximum(abs(x) - np.float32(0.035), abs(y - np.float32(0.6)) - np.float32(0.4))
    return np.minimum(np.minimum(body, knot), string)


def flag(x: Field, y: Field) -> Field:
    """Distance to a waving flag on a pole whose end lies at the bottom left."""
    pole = rectangle(x, y, -0.62, -1.0, -0.52, 1.0)
    wave = y + np.float32(0.07) * np.sin(x * np.float32(4.5))
    cloth = rectangle(x, wave, -0.56, -0.90, 0.62, -0.10)
    return np.minimum(pole, cloth)


def umbrella(x: Field, y: Field) -> Field:
    """Distance to an open umbrella whose handle ends at the bottom."""
    dome = circle(x, y + np.float32(0.05))
    scallop = np.float32(0.07) * np.cos(x * np.float32(4.5 * pi))
    canopy = np.maximum(dome, y + np.float32(0.10) - scallop)
    handle = rectangle(x, y, -0.05, -0.2, 0.05, 1.0)
    return np.minimum(canopy, handle)


def hat(x: Field, y: Field) -> Field:
    """Distance to a hat with a brim."""
    brim = ellipse(x, y - np.float32(0.40), 1.0, 0.22)
    crown_part = np.maximum(
        abs(x) + (y - np.float32(0.40)) * np.float32(-0.14) - np.float32(0.58),
        abs(y + np.float32(0.09)) - np.float32(0.52),
    )
    return np.minimum(brim, crown_part)


def crown(x: Field, y: Field) -> Field:
    """Distance to a crown with three points."""
    valley = np.float32(0.42) - abs(abs(x) - np.float32(0.42))
    points = (valley * np.float32(1.6) - np.float32(0.6) - y) * np.float32(0.53)
    body = np.maximum(abs(x) - np.float32(0.84), y - np.float32(0.60))
    return np.maximum(body, points)


SHAPE_TABLE: dict[str, Shape] = {
    "circle": Shape(circle, tilt=0.0),
    "square": Shape(square, 0.92, 0.92, tilt=0.16),
    "triangle": Shape(triangle, 1.0, 0.95, tilt=0.22),
    "star": Shape(star, tilt=0.3),
    "heart": Shape(heart, 1.0, 0.93, tilt=0.3),
    "cross": Shape(cross, 0.97, 0.97, tilt=0.2),
    "diamond": Shape(diamond, 0.68, 1.0, tilt=0.15),
    "pentagon": Shape(pentagon, tilt=0.2),
    "hexagon": Shape(hexagon, 1.0, 0.866, tilt=0.2),
    "ring": Shape(ring, tilt=0.0),
    "moon": Shape(moon, 0.7, 1.0, tilt=0.4, quarter_turns=(0, 2)),
    "arrow": Shape(arrow, 1.0, 0.78, tilt=0.25, quarter_turns=(0, 1, 2, 3)),
    "oval": Shape(oval, 1.0, 0.6, tilt=0.3, quarter_turns=(0, 1)),
    "balloon": Shape(balloon, 0.47, 1.0, tilt=0.12),
    "flag": Shape(flag, 0.62, 1.0, tilt=0.1),
    "umbrella": Shape(umbrella, 1.0, 1.05, tilt=0.1),
    "hat": Shape(hat, 1.0, 0.62, tilt=0.08),
    "crown": Shape(crown, 0.84, 0.62, tilt=0.08),
}

"""Turned boxes, stored as four corners."""

from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np
from jaxtyping import Float

from deixis.errors import GeometryError
from deixis.geometry.boxes import Box
from deixis.geometry.checks import checked_coordinate, checks_itself, shown

_LEAST_AREA = 1e-6


@checks_itself
@dataclass(frozen=True, slots=True)
class OrientedBox:
    """A turned rectangle as its four corners ``(x, y)`` in pixels, in order around it.

    The corners are stored as given, so an inexact rectangle (in DOTA, or after rounding) is allowed.
    They may lie outside the image.

    Raises:
        GeometryError: There are not four corners, a coordinate is not a finite number, or they
            enclose less than a millionth of a square pixel.
    """

    corners: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        corners: object = self.corners
        if (
            not isinstance(corners, tuple | list)
            or len(corners) != 4
            or any(not isinstance(one, tuple | list) or len(one) != 2 for one in corners)
        ):
            raise GeometryError(f"oriented box: expected four corners (x, y), got {shown(corners)}")
        checked = tuple(
            (checked_coordinate(x, "oriented box x"), checked_coordinate(y, "oriented box y"))
            for x, y in corners
        )
        object.__setattr__(self, "corners", checked)
        if self.area < _LEAST_AREA:
            raise GeometryError(f"oriented box {shown(corners)} has no extent")

    @property
    def area(self) -> float:
        """Area inside the corners, in square pixels."""
        x, y = self.as_array().T
        return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)

    def as_array(self) -> Float[np.ndarray, "4 2"]:
        """The corners as rows of ``x y`` (float64)."""
        return np.array(self.corners, np.float64)

    def flat(self) -> list[float]:
        """The corners as ``[x1, y1, x2, y2, x3, y3, x4, y4]``."""
        return [value for corner in self.corners for value in corner]

    def to_box(self) -> Box:
        """Return the smallest upright box around the corners.

        Raises:
            GeometryError: The box has no width or no height.
        """
        array = self.as_array()
        (x1, y1), (x2, y2) = array.min(axis=0).tolist(), array.max(axis=0).tolist()
        return Box(x1, y1, x2, y2)

    @classmethod
    def from_flat(cls, values: list[float] | tuple[float, ...]) -> "OrientedBox":
        """Make a box from ``[x1, y1, x2, y2, x3, y3, x4, y4]``.

        Raises:
            GeometryError: There are not eight numbers, or the class refuses the corners.
        """
        if len(values) != 8:
            raise GeometryError(f"oriented box: expected 8 numbers, got {len(values)}")
        return cls(tuple((values[at], values[at + 1]) for at in range(0, 8, 2)))

    @classmethod
    def turned(cls, box: Box, degrees: float) -> "OrientedBox":
        """Return a box turned clockwise on the screen, about its centre.

        >>> OrientedBox.turned(Box(0, 0, 4, 2), 90).corners
        ((3.0, -1.0), (3.0, 3.0), (1.0, 3.0), (1.0, -1.0))
        """
        x, y = box.center
        across, along = cos(radians(degrees)), sin(radians(degrees))
        half_width, half_height = box.width / 2, box.height / 2
        corners = []
        for side_x, side_y in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
            dx, dy = side_x * half_width, side_y * half_height
            # so that a turn of 90 degrees gives whole numbers
            corners.append(
                (
                    round(x + dx * across - dy * along, 9),
                    round(y + dx * along + dy * across, 9),
                )
            )
        return cls(tuple(corners))

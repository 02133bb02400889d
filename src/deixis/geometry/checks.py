"""Limits and number checks of the geometry classes."""

from typing import TypeVar, no_type_check

import numpy as np

from deixis.errors import GeometryError

COORDINATE_LIMIT = 2**24
"""The largest coordinate and image side: areas stay exact in float64, sums in int64."""

AREA_LIMIT = 2**28
"""The most pixels of a mask or depth map (16384 x 16384), so that a hostile size allocates no more."""

VERTEX_LIMIT = 10_000
"""The most points of a scribble, and of all polygons of one mask together."""

_Class = TypeVar("_Class")


def checks_itself(kind: type[_Class]) -> type[_Class]:
    """Mark a dataclass whose constructor checks every field itself.

    If annotations are checked at run time, as in tests, that check would run first. It would hide
    the message of the class, and refuse an int for a float, which the class converts.
    """
    no_type_check(vars(kind)["__init__"])
    return kind


def checked_coordinate(value: object, name: str) -> float:
    """Return ``value`` as a float.

    Args:
        value: A finite number; a bool or a string is an error.
        name: The name for the message ("box x1").

    Raises:
        GeometryError: ``value`` is not a number, not finite or beyond ``COORDINATE_LIMIT``.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise GeometryError(f"{name}: expected a number, got {shown(value)}")
    # One comparison also refuses NaN and both infinities.
    if not -COORDINATE_LIMIT <= value <= COORDINATE_LIMIT:
        raise GeometryError(
            f"{name}: expected a finite number of at most {COORDINATE_LIMIT} in size, "
            f"got {shown(value)}"
        )
    return float(value)


def checked_side(value: object, name: str) -> int:
    """Return ``value`` as an int in 1 to ``COORDINATE_LIMIT``.

    Raises:
        GeometryError: ``value`` is not an integer or out of that range.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise GeometryError(f"{name}: expected an integer, got {shown(value)}")
    if not 1 <= value <= COORDINATE_LIMIT:
        raise GeometryError(f"{name}: expected 1 to {COORDINATE_LIMIT}, got {shown(value)}")
    return int(value)


def shown(value: object) -> str:
    """Return a shortened ``repr(value)`` for messages about untrusted input."""
    try:
        text = repr(value[:50] if isinstance(value, str | bytes | list | tuple) else value)
    except (ValueError, RecursionError):
        # An integer with thousands of digits, or a list nested thousands deep.
        return f"{type(value).__name__} that is too long to show"
    return text if len(text) <= 80 else f"{text[:77]}..."


def described(value: object) -> str:
    """Return dtype and shape of an array; for anything else the same as ``shown``."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return shown(value)

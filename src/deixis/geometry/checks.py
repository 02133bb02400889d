"""Limits and number checks that every geometry class shares."""

from typing import TypeVar, no_type_check

import numpy as np

from deixis.errors import GeometryError

COORDINATE_LIMIT = 2**24
"""No coordinate or image side is larger: areas stay exact in float64, sums in int64."""

AREA_LIMIT = 2**28
"""The most pixels of a mask or depth map (16384 x 16384): what a hostile size can allocate."""

VERTEX_LIMIT = 10_000
"""The most points of a scribble, and of all polygons of one mask together."""

_Class = TypeVar("_Class")


def checks_itself(kind: type[_Class]) -> type[_Class]:
    """Mark a dataclass whose constructor checks every field itself.

    Where annotations are checked at run time, as in tests, that check would come first: it would
    hide the class's own message and refuse an int for a float, which the class converts.
    """
    no_type_check(vars(kind)["__init__"])
    return kind


def checked_coordinate(value: object, name: str) -> float:
    """Return ``value`` as a float.

    Args:
        value: Something that should be a finite number; a bool or a numeral in a string is not.
        name: What it is, for the message ("box x1").

    Raises:
        GeometryError: It is no number, not finite or beyond ``COORDINATE_LIMIT``.
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
        GeometryError: It is no integer or out of that range.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise GeometryError(f"{name}: expected an integer, got {shown(value)}")
    if not 1 <= value <= COORDINATE_LIMIT:
        raise GeometryError(f"{name}: expected 1 to {COORDINATE_LIMIT}, got {shown(value)}")
    return int(value)


def shown(value: object) -> str:
    """Return ``repr(value)``, shortened: messages quote hostile input."""
    try:
        text = repr(value[:50] if isinstance(value, str | bytes | list | tuple) else value)
    except (ValueError, RecursionError):
        # An integer of thousands of digits, or a list nested as deep.
        return f"{type(value).__name__} that is too long to show"
    return text if len(text) <= 80 else f"{text[:77]}..."


def described(value: object) -> str:
    """Return dtype and shape of an array; anything else as ``shown`` has it."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return shown(value)

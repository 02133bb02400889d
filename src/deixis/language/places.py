"""Words for places in an image."""

import re
from collections.abc import Mapping

_SIDES: Mapping[str, tuple[int, int]] = {
    "left": (0, -1),
    "right": (0, 1),
    "top": (1, -1),
    "upper": (1, -1),
    "bottom": (1, 1),
    "lower": (1, 1),
}
# "left of the square" and "second from the left" do not name a side of the image
_SIDE = re.compile(
    rf"(?<!from )(?<!from the )\b({'|'.join(_SIDES)})(?:-hand)?\b(?! of\b)", re.IGNORECASE
)


def named_sides(text: str) -> tuple[tuple[int, int], ...]:
    """Return the sides of the image that a text names: axis (0 for x, 1 for y) and side (-1 or 1).

    >>> named_sides("the star in the top left"), named_sides("left of the star")
    (((1, -1), (0, -1)), ())
    """
    return tuple(_SIDES[match[1].lower()] for match in _SIDE.finditer(text))

"""Names of unit types as a model or a data set writes them."""

import re

from deixis.errors import NotationError
from deixis.structures.units import UnitType

MAX_NAME_LENGTH = 64
_SOUND = re.compile(r"[^\s,;:()\[\]<>]+(?: [^\s,;:()\[\]<>]+)*")
# Plural and older names of unit types; the papers write "keypoint", their code also others.
_ALIASES = {
    "boxes": UnitType.BOX,
    "bbox": UnitType.BOX,
    "masks": UnitType.MASK,
    "points": UnitType.POINT,
    "keypoints": UnitType.KEYPOINT,
    "pose": UnitType.KEYPOINT,
}


def canonical_unit(name: str) -> str | None:
    """Return the canonical spelling of a unit name, or None if it is not a valid name.

    A name that deixis does not know is kept; its references are not decoded.
    """
    words = " ".join(name.split())
    if len(words) > MAX_NAME_LENGTH or not _SOUND.fullmatch(words):
        return None
    lowered = words.lower()
    if lowered in _ALIASES:
        return _ALIASES[lowered].value
    return lowered if lowered in set(UnitType) else words


def parse_units(names: str) -> tuple[str, ...] | None:
    """Return the unit types of ``box`` or ``box, mask``; None if a name is invalid."""
    if len(names) > 16 * MAX_NAME_LENGTH:
        return None
    found = [canonical_unit(name) for name in names.split(",")]
    kept = [name for name in found if name is not None]
    return tuple(dict.fromkeys(kept)) if len(kept) == len(found) else None


def format_units(unit_types: tuple[str, ...]) -> str:
    """Return unit types as text between the unit markers.

    Raises:
        NotationError: A name would not be read back unchanged, or occurs twice.
    """
    text = ",".join(unit_types)
    if parse_units(text) != unit_types:
        raise NotationError(f"unit types {unit_types} cannot be written: expected plain names")
    return text

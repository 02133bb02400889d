"""Notations by name, the only list of them."""

from collections.abc import Mapping
from types import MappingProxyType

from deixis.errors import NotationError
from deixis.notation.coordinates import Coordinates
from deixis.notation.encoded import Notation
from deixis.notation.tokens import Tokens
from deixis.notation.triplets import Triplets

NOTATIONS: Mapping[str, Notation] = MappingProxyType(
    {
        "triplets": Triplets(),
        "triplets_plan": Triplets(plan=True),
        "tokens": Tokens(),
        "tokens_code": Tokens("code"),
        "coordinates": Coordinates(marks=False),
        "coordinates_floor": Coordinates(marks=False, padding="floor"),
        "coordinates_marks": Coordinates(),
    }
)
"""Every notation by the name that recipes, configurations and pages use: REF-VLM's without and with
the plan before an answer; u-LLaVA's as spelled in its paper and in its public code; Pink's, and Pink's
with the padding of its public code, in whole pixels; TAMP's."""


def notation_named(name: str) -> Notation:
    """Return the notation with a name.

    Raises:
        NotationError: No notation has this name.
    """
    if name not in NOTATIONS:
        raise NotationError(f"unknown notation {name!r}; expected one of {list(NOTATIONS)}")
    return NOTATIONS[name]

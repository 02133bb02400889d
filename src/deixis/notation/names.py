"""Notations by name, as a model's configuration has them."""

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
"""REF-VLM's, without and with the plan before an answer; u-LLaVA's, as its paper and as its public code
spell it; Pink's, and with the whole pixels of padding that its public code has; TAMP's."""


def notation_named(name: str) -> Notation:
    """The notation of a name.

    Raises:
        NotationError: There is none.
    """
    if name not in NOTATIONS:
        raise NotationError(f"unknown notation {name!r}; expected one of {list(NOTATIONS)}")
    return NOTATIONS[name]

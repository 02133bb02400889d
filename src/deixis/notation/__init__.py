"""Notations: how grounded text is written as words and markers, and read back."""

from deixis.notation.coordinates import Coordinates
from deixis.notation.encoded import (
    Decoded,
    Encoded,
    EncodedReference,
    Notation,
    ReferenceSlot,
    fill,
)
from deixis.notation.plan import PlanEntry, format_plan, plan_of
from deixis.notation.tags import TaggedRegion, place_regions, read_tags
from deixis.notation.tokens import Tokens
from deixis.notation.triplets import Triplets
from deixis.notation.vocabulary import Marker

__all__ = [
    "Coordinates",
    "Decoded",
    "Encoded",
    "EncodedReference",
    "Marker",
    "Notation",
    "PlanEntry",
    "ReferenceSlot",
    "TaggedRegion",
    "Tokens",
    "Triplets",
    "fill",
    "format_plan",
    "place_regions",
    "plan_of",
    "read_tags",
]

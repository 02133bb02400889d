"""Notations: grounded text written as words and markers, and read back."""

from deixis.notation.answer_plan import PlanEntry, format_plan, plan_of
from deixis.notation.coordinates import Coordinates
from deixis.notation.encoded import (
    Decoded,
    Encoded,
    EncodedReference,
    Notation,
    ReferenceSlot,
    fill,
)
from deixis.notation.markers import Marker, join_pieces, split_markers
from deixis.notation.names import NOTATIONS, notation_named
from deixis.notation.region_form import RegionForm
from deixis.notation.tokens import Tokens
from deixis.notation.triplets import Triplets

__all__ = [
    "NOTATIONS",
    "Coordinates",
    "Decoded",
    "Encoded",
    "EncodedReference",
    "Marker",
    "Notation",
    "PlanEntry",
    "ReferenceSlot",
    "RegionForm",
    "Tokens",
    "Triplets",
    "fill",
    "format_plan",
    "join_pieces",
    "notation_named",
    "plan_of",
    "split_markers",
]

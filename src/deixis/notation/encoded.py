"""Encoded and decoded grounded text, and the interface of all notations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from deixis.errors import NotationError
from deixis.geometry import ImageSize, Padding
from deixis.notation.markers import Marker
from deixis.structures.answer import Problem
from deixis.structures.units import GroundedText, Unit


@dataclass(frozen=True, slots=True)
class EncodedReference:
    """The target of one marker that carries a latent.

    ``units`` has a unit, or None if it is unknown, for each of ``unit_types``. References
    with the same ``group`` belong to one group of one phrase and may be matched in any order.
    """

    unit_types: tuple[str, ...]
    units: tuple[Unit | None, ...]
    group: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """A grounded text as pieces: markers, and literal text to be tokenised as words.

    ``references`` are the targets of the markers that carry a latent, in the order of the pieces.
    """

    pieces: tuple[Marker | str, ...]
    references: tuple[EncodedReference, ...] = ()


@dataclass(frozen=True, slots=True)
class ReferenceSlot:
    """A place in a decoded text whose units a decoder must fill from a latent.

    ``position`` counts the markers that carry a latent, from 0, over all pieces. The slot fills
    the units ``first_unit`` onwards of one reference, one for each of ``unit_types``.
    """

    position: int
    phrase_index: int
    group_index: int
    reference_index: int
    unit_types: tuple[str, ...]
    first_unit: int = 0


@dataclass(frozen=True, slots=True)
class Decoded:
    """A grounded text as read from pieces.

    Units that a decoder must fill are None in ``text`` and have a slot, in the order of the
    pieces. ``problems`` lists all invalid parts.
    """

    text: GroundedText
    slots: tuple[ReferenceSlot, ...] = ()
    problems: tuple[Problem, ...] = ()


@runtime_checkable
class Notation(Protocol):
    """A way to write grounded text as words and markers, and to read it back.

    `split_markers` and `join_pieces` convert between pieces and surface text by its ``spelling``.
    """

    @property
    def spelling(self) -> Mapping[Marker, str]:
        """The markers that the notation writes or reads, and how each is spelled."""

    @property
    def latents(self) -> frozenset[Marker]:
        """The markers that carry a latent."""

    @property
    def padding(self) -> Padding:
        """The padding of images to the square that the notation's numbers are fractions of."""

    def encode(self, answer: GroundedText, size: ImageSize) -> Encoded:
        """Write a grounded text about an image of ``size``.

        Raises:
            NotationError: The notation cannot write the answer.
        """

    def decode(self, pieces: Sequence[Marker | str], size: ImageSize) -> Decoded:
        """Read pieces as a grounded text; never raises, and lists problems."""

    def adapt(self, answer: GroundedText) -> GroundedText:
        """Return the nearest answer whose units this notation can write."""


def fill(
    decoded: Decoded,
    units: Sequence[tuple[Unit | None, ...]],
    scores: Sequence[float | None] | None = None,
) -> GroundedText:
    """Put decoded units into their slots.

    ``units`` holds, for each slot in order, a unit (or None: undecoded) for each of its types.
    A reference that several slots share takes the lowest of their scores.

    Raises:
        NotationError: The counts do not fit the slots.
    """
    if len(units) != len(decoded.slots):
        raise NotationError(f"expected units for {len(decoded.slots)} slots, got {len(units)}")
    if scores is not None and len(scores) != len(decoded.slots):
        raise NotationError(f"expected scores for {len(decoded.slots)} slots, got {len(scores)}")
    references = [
        [list(group.references) for group in phrase.groups] for phrase in decoded.text.phrases
    ]
    for number, slot in enumerate(decoded.slots):
        if len(units[number]) != len(slot.unit_types):
            raise NotationError(
                f"slot {number} has unit types {slot.unit_types}, got {len(units[number])} units"
            )
        group = references[slot.phrase_index][slot.group_index]
        reference = group[slot.reference_index]
        filled = list(reference.units)
        filled[slot.first_unit : slot.first_unit + len(slot.unit_types)] = units[number]
        known = [
            score
            for score in (reference.score, None if scores is None else scores[number])
            if score is not None
        ]
        group[slot.reference_index] = replace(
            reference, units=tuple(filled), score=min(known, default=None)
        )
    phrases = tuple(
        replace(
            phrase,
            groups=tuple(
                replace(group, references=tuple(found))
                for group, found in zip(phrase.groups, groups, strict=True)
            ),
        )
        for phrase, groups in zip(decoded.text.phrases, references, strict=True)
    )
    return replace(decoded.text, phrases=phrases)

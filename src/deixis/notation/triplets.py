"""The notation of REF-VLM: a phrase, a decoding type and references.

``<Phrase>dogs</Phrase>(<Unit>box</Unit>[0]<REF>[1]<REF>)``. Phrases may nest. A group may have a
composite unit (``<Unit>box,mask</Unit>``: each reference has both), a phrase may have several
groups (``(<Unit>box</Unit>[0]<REF>,<Unit>mask</Unit>[0]<REF>)``, the index starts again), and a
group without references says that nothing is there. ``<Task>…</Task>`` may hold a plan first.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import ClassVar

from deixis.errors import NotationError
from deixis.geometry import ImageSize, Padding
from deixis.notation.answer_plan import PlanEntry, format_plan, parse_plan, plan_of, validate_plan
from deixis.notation.drafts import (
    MAX_DEPTH,
    Draft,
    DraftGroup,
    DraftPhrase,
    DraftReference,
    PhraseStart,
    walk,
)
from deixis.notation.encoded import Decoded, Encoded, EncodedReference
from deixis.notation.markers import Marker, gaps_and_markers
from deixis.notation.problems import ProblemLog
from deixis.notation.unit_names import MAX_NAME_LENGTH, format_units, parse_units
from deixis.structures.units import GroundedPhrase, GroundedText, UnitType


class State(Enum):
    """Where in the grammar a reader of triplets stands."""

    TEXT = auto()
    """In words, inside or outside a phrase."""
    NAMED = auto()
    """Right after a closed phrase or its last group; a group may follow."""
    UNIT = auto()
    """Inside the unit markers."""
    GROUP = auto()
    """After a unit; references or another unit may follow."""
    PLAN = auto()
    """Inside the plan."""


NEXT: Mapping[tuple[State, Marker], State] = MappingProxyType(
    {
        (State.TEXT, Marker.PHRASE_OPEN): State.TEXT,
        (State.TEXT, Marker.PHRASE_CLOSE): State.NAMED,
        (State.TEXT, Marker.TASK_OPEN): State.PLAN,
        (State.NAMED, Marker.PHRASE_OPEN): State.TEXT,
        (State.NAMED, Marker.PHRASE_CLOSE): State.NAMED,
        (State.NAMED, Marker.TASK_OPEN): State.PLAN,
        (State.NAMED, Marker.UNIT_OPEN): State.UNIT,
        (State.UNIT, Marker.UNIT_CLOSE): State.GROUP,
        (State.GROUP, Marker.REFERENCE): State.GROUP,
        (State.GROUP, Marker.UNIT_OPEN): State.UNIT,
        (State.PLAN, Marker.TASK_CLOSE): State.TEXT,
    }
)
"""The grammar. Words lead from NAMED to TEXT, and a group's ``)`` from GROUP to NAMED."""

_BEFORE_UNIT = re.compile(r"[\s(,]*")
_BETWEEN_UNITS = re.compile(r"[\s(),;]*")
# Possessive, so that a hundred thousand blanks are not tried in every way they can be shared.
_INDEX = re.compile(r"[\s,]*+(?:\[([\s\d+-]*+)\]\s*+)?+")
_CLOSING = re.compile(r"\s*+\)")
_CUT_INDEX = re.compile(r"[\s,]*+(?:\[[\s\d+-]*+\]?+)?+\s*+")


@dataclass(frozen=True, slots=True)
class Triplets:
    """Writes and reads triplets.

    With ``plan`` an answer is written with its plan before it; a plan is read either way.
    ``max_groups`` and ``max_references`` bound one answer.
    """

    plan: bool = False
    max_groups: int = 256
    max_references: int = 256

    markers: ClassVar[tuple[Marker, ...]] = (
        Marker.PHRASE_OPEN,
        Marker.PHRASE_CLOSE,
        Marker.UNIT_OPEN,
        Marker.UNIT_CLOSE,
        Marker.REFERENCE,
        Marker.TASK_OPEN,
        Marker.TASK_CLOSE,
    )

    @property
    def spelling(self) -> Mapping[Marker, str]:
        """The markers that triplets use, spelled as in the paper."""
        return {marker: marker.value for marker in self.markers}

    @property
    def padding(self) -> Padding:
        """Any padding: geometry is latent."""
        return "half"

    @property
    def latents(self) -> frozenset[Marker]:
        """The markers that carry a latent."""
        return frozenset({Marker.REFERENCE})

    def adapt(self, answer: GroundedText) -> GroundedText:
        """Return the answer: triplets carry every unit type."""
        return answer

    def encode(self, answer: GroundedText, size: ImageSize) -> Encoded:  # noqa: ARG002
        """Write an answer; ``size`` has no part in it, since geometry stays latent.

        Raises:
            NotationError: Phrases nest too deep, a unit name is not plain, or there are more
                groups or references than the limits.
        """
        pieces: list[Marker | str] = []
        references: list[EncodedReference] = []
        num_groups = 0
        if self.plan:
            pieces += [Marker.TASK_OPEN, format_plan(plan_of(answer)), Marker.TASK_CLOSE, "\n"]
        for item in walk(answer):
            if isinstance(item, str):
                pieces.append(item)
            elif isinstance(item, PhraseStart):
                pieces.append(Marker.PHRASE_OPEN)
            else:
                pieces.append(Marker.PHRASE_CLOSE)
                pieces += _group_pieces(item.phrase)
                for group in item.phrase.groups:
                    references += [
                        EncodedReference(group.unit_types, each.units, num_groups)
                        for each in group.references
                    ]
                    num_groups += 1
        if num_groups > self.max_groups or len(references) > self.max_references:
            raise NotationError(
                f"an answer has {num_groups} groups and {len(references)} references, the limits "
                f"are {self.max_groups} and {self.max_references}"
            )
        return Encoded(tuple(pieces), tuple(references))

    def decode(self, pieces: Sequence[Marker | str], size: ImageSize) -> Decoded:  # noqa: ARG002
        """Read pieces as grounded text; each reference is a slot to be filled.

        Never raises. Parentheses, commas and indices of groups are not part of the text. Reads
        the forms of REF-VLM's paper and code, and keeps the valid parts of other text.
        """
        reader = _Reader(self)
        for gap, marker, offset in gaps_and_markers(pieces, self.spelling):
            if marker is None:
                reader.finish(gap, offset)
            else:
                reader.read(gap, marker, offset)
        return reader.decoded()


def _group_pieces(phrase: GroundedPhrase) -> list[Marker | str]:
    pieces: list[Marker | str] = []
    between = "("
    for group in phrase.groups:
        pieces += [between, Marker.UNIT_OPEN, format_units(group.unit_types), Marker.UNIT_CLOSE]
        for index in range(len(group.references)):
            pieces += [f"[{index}]", Marker.REFERENCE]
        between = ","
    return [*pieces, ")"] if pieces else []


class _Reader:
    """Takes one marker at a time, with the text before it, and never looks back."""

    def __init__(self, notation: Triplets) -> None:
        self._notation = notation
        self._state = State.TEXT
        self._draft = Draft()
        self._problems = ProblemLog()
        self._position = 0
        # The phrase that a group would belong to, the group, its index before the next marker.
        self._target: DraftPhrase | None = None
        self._group: DraftGroup | None = None
        self._index = ""
        self._group_references = 0
        self._parentheses = 0
        # In pieces: a text of markers that do not belong cuts it into as many as it has.
        self._unit_pieces: list[str] = []
        self._plan_text: list[str] = []
        self._plan: tuple[PlanEntry, ...] | None = None
        self._after_plan = False
        self._num_latents = 0
        self._num_groups = 0
        self._num_references = 0

    def read(self, gap: str, marker: Marker, position: int) -> None:
        self._settle(gap, marker)
        self._position = position
        if (self._state, marker) not in NEXT and not self._repair(marker):
            return
        before, self._state = self._state, NEXT[self._state, marker]
        match marker:
            case Marker.PHRASE_OPEN:
                self._open_phrase()
            case Marker.PHRASE_CLOSE:
                self._close_phrase(before)
            case Marker.UNIT_OPEN:
                self._unit_pieces.clear()
            case Marker.UNIT_CLOSE:
                self._open_group()
            case Marker.REFERENCE:
                self._add_reference()
            case Marker.TASK_CLOSE:
                self._close_plan()
            case _:
                self._plan_text.clear()

    def _settle(self, gap: str, marker: Marker | None) -> None:
        """Take the text before a marker: words, or what holds a group together."""
        if self._after_plan:
            gap = gap.removeprefix("\n")
            self._after_plan = False
        if self._state is State.PLAN:
            self._plan_text.append(gap)
            return
        if self._state is State.UNIT:
            self._unit_pieces.append(gap)
            return
        if self._state is State.GROUP:
            if marker is Marker.REFERENCE and (index := _INDEX.fullmatch(gap)):
                self._index = gap.strip(" \t\r\n,") if index.group(1) is not None else ""
                return
            if marker is Marker.UNIT_OPEN and _BETWEEN_UNITS.fullmatch(gap):
                self._parentheses = max(0, self._parentheses + gap.count("(") - gap.count(")"))
                return
            gap = self._close_group(gap)
        if marker is Marker.UNIT_OPEN:
            if self._state is State.NAMED and _BEFORE_UNIT.fullmatch(gap):
                self._parentheses = gap.count("(")
                return
            gap = self._take_opening(gap)
        self._add_words(gap)

    def _add_words(self, text: str) -> None:
        if text:
            self._draft.add_text(text)
            self._state = State.TEXT

    def _take_opening(self, gap: str) -> str:
        """Return the words before a group that does not follow a closed phrase."""
        words = gap.rstrip("( \t\r\n")
        opening = gap[len(words) :]
        self._parentheses = opening.count("(")
        blank = opening[: opening.index("(")] if self._parentheses else opening
        # Inside a phrase the group is about to close it, and blanks before "(" are the group's.
        return words if self._draft.open else words + blank

    def _close_group(self, gap: str) -> str:
        """Take the group's parentheses off the text after it, and return the rest."""
        end = 0
        open_before = self._parentheses
        while self._parentheses and (closing := _CLOSING.match(gap, end)):
            end = closing.end()
            self._parentheses -= 1
        if open_before and not end:
            self._problems.add("unclosed_group", "a group of units has no ')'", self._position)
        self._state = State.NAMED
        self._group = None
        return gap[end:]

    def _repair(self, marker: Marker) -> bool:
        """Bring the reader to a state where ``marker`` is sound; False drops the marker."""
        if self._state is State.PLAN and marker is Marker.PHRASE_OPEN:
            self._problems.add("unclosed_plan", "the plan does not end", self._position)
            self._close_plan()
            self._state = State.TEXT
            return True
        if self._state is State.PLAN:
            self._drop(marker)
            return False
        if self._state is State.UNIT:
            return self._repair_unit(marker)
        if marker is Marker.UNIT_OPEN:
            self._adopt_group()
            return True
        self._drop(marker)
        return False

    def _repair_unit(self, marker: Marker) -> bool:
        if marker not in self._notation.markers:
            self._drop(marker)
            return False
        unit_name = self._unit_name()
        inside = marker in {Marker.PHRASE_CLOSE, Marker.PHRASE_OPEN} and bool(self._draft.open)
        self._problems.add(
            "crossed" if inside else "unclosed_unit",
            f"{marker.value} stands inside the unit {unit_name[:MAX_NAME_LENGTH]!r}",
            self._position,
        )
        if marker is Marker.REFERENCE:
            name, bracket, index = unit_name.partition("[")
            self._unit_pieces[:] = [name]
            self._open_group()
            self._index = (bracket + index).strip()
            self._state = State.GROUP
            return True
        self._abandon_unit()
        if marker is Marker.UNIT_OPEN and self._state is State.TEXT:
            self._adopt_group()
        return marker is not Marker.TASK_CLOSE

    def _abandon_unit(self) -> None:
        self._state = State.NAMED
        # A unit that was never closed may have swallowed a sentence; a name is not missed.
        unit_name = self._unit_name()
        if len(unit_name) > MAX_NAME_LENGTH:
            self._add_words(unit_name)
        self._unit_pieces.clear()

    def _unit_name(self) -> str:
        return "".join(self._unit_pieces)

    def _drop(self, marker: Marker) -> None:
        if marker is Marker.REFERENCE:
            self._num_latents += 1
            self._problems.add(
                "reference_without_unit", "a reference stands outside a group", self._position
            )
            return
        codes = {Marker.UNIT_CLOSE: "unopened_unit", Marker.TASK_CLOSE: "unopened_plan"}
        self._problems.add(
            codes.get(marker, "unexpected_marker"),
            f"{marker.value} does not belong here",
            self._position,
        )

    def _open_phrase(self) -> None:
        if not self._draft.open_phrase():
            self._problems.add(
                "too_deep", f"a phrase lies inside {MAX_DEPTH} others", self._position
            )

    def _close_phrase(self, before: State) -> None:
        if self._draft.open:
            self._target = self._draft.close_phrase()
        else:
            self._state = before
            self._problems.add("unopened_phrase", "a phrase ends and none is open", self._position)

    def _adopt_group(self) -> None:
        """Give a group that follows no closed phrase to the open one, or to an empty one."""
        if self._draft.open:
            self._problems.add(
                "unclosed_phrase", "a group of units stands inside its phrase", self._position
            )
        else:
            self._problems.add(
                "group_without_phrase", "a group of units follows no phrase", self._position
            )
            self._draft.open_phrase()
        self._target = self._draft.close_phrase()
        self._state = State.NAMED

    def _open_group(self) -> None:
        self._group = None
        self._group_references = 0
        unit_name = self._unit_name()
        unit_types = parse_units(unit_name)
        if unit_types is None:
            self._problems.add(
                "invalid_unit",
                f"{unit_name[:MAX_NAME_LENGTH]!r} is no unit name",
                self._position,
            )
            return
        unknown = [name for name in unit_types if name not in set(UnitType)]
        if unknown:
            self._problems.add(
                "unknown_unit", f"unit {unknown[0]!r} has no decoder", self._position
            )
        self._group = DraftGroup(unit_types)
        self._num_groups += 1
        if self._target is not None and self._num_groups <= self._notation.max_groups:
            self._target.groups.append(self._group)

    def _add_reference(self) -> None:
        position = self._num_latents
        self._num_latents += 1
        if self._group is None:
            self._problems.add(
                "reference_without_unit", "the unit of a reference is no name", self._position
            )
            return
        if not self._index:
            self._problems.add("missing_index", "a reference has no index", self._position)
        elif self._index != f"[{self._group_references}]":
            self._problems.add(
                "index_out_of_order",
                f"expected index [{self._group_references}], got {self._index[:32]!r}",
                self._position,
            )
        self._index = ""
        self._group_references += 1
        self._num_references += 1
        if self._num_references <= self._notation.max_references:
            unit_types = self._group.unit_types
            self._group.references.append(
                DraftReference((None,) * len(unit_types), ((position, 0, unit_types),))
            )

    def _close_plan(self) -> None:
        entries = parse_plan("".join(self._plan_text), self._problems, self._position)
        if self._plan is not None:
            self._problems.add("repeated_plan", "there is more than one plan", self._position)
        else:
            self._plan = entries
        self._after_plan = True

    def finish(self, gap: str, position: int) -> None:
        """Take the text after the last marker, and what the end cut off."""
        if self._state is State.GROUP and self._parentheses and _CUT_INDEX.fullmatch(gap):
            self._cut("a group of units", position)
            if self._group is not None and not self._group.references and self._target is not None:
                # The end of the text, not the model, left this group without references.
                self._target.groups[:] = [
                    each for each in self._target.groups if each is not self._group
                ]
        elif self._state in {State.UNIT, State.PLAN}:
            self._settle(gap, None)
            if self._state is State.PLAN:
                self._cut("the plan", position)
            else:
                self._abandon_unit()
                self._cut("a unit", position)
        else:
            self._settle(gap, None)
        self._position = position
        for phrase in self._draft.open:
            self._problems.add(
                "unclosed_phrase",
                f"the phrase from character {phrase.start} does not end",
                position,
            )
        if self._draft.open:
            self._cut("a phrase", position)
        self._check_limits()

    def _cut(self, what: str, position: int) -> None:
        if "truncated" not in self._problems:
            self._problems.add("truncated", f"the text ends inside {what}", position)

    def _check_limits(self) -> None:
        limits = self._notation
        if self._num_groups > limits.max_groups:
            self._problems.add(
                "too_many_groups",
                f"{self._num_groups} groups, the first {limits.max_groups} are kept",
            )
        if self._num_references > limits.max_references:
            self._problems.add(
                "too_many_references",
                f"{self._num_references} references, the first {limits.max_references} are kept",
            )

    def decoded(self) -> Decoded:
        """Return the decoded text."""
        text, slots = self._draft.build()
        if self._plan is not None and "truncated" not in self._problems:
            validate_plan(self._plan, text, self._problems)
        return Decoded(text, slots, self._problems.listed())

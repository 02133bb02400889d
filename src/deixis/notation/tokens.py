"""The notation of u-LLaVA: a tag with its name, and a token for each unit to decode.

``<tag>dog</tag><LOC><SEG>`` is a dog with a box and a mask, ``[tag]dog[/tag][LOC][SEG]`` in the
public code, which also writes images between ``<img_beg>`` and ``</img_end>`` and videos between
``<vid_beg>`` and ``</vid_end>``. Several references repeat the tokens (``<LOC><SEG><LOC><SEG>``), and
a comma separates two groups of one phrase (``<LOC>,<SEG>``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import pairwise
from types import MappingProxyType
from typing import Literal

from deixis.errors import NotationError
from deixis.geometry import ImageSize, Padding
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
from deixis.notation.markers import FRAMES, Marker, gaps_and_markers
from deixis.notation.problems import ProblemLog
from deixis.structures.units import (
    GroundedPhrase,
    GroundedText,
    Reference,
    UnitGroup,
    UnitType,
)

_MARKERS = (Marker.TAG_OPEN, Marker.TAG_CLOSE, Marker.LOCATION, Marker.SEGMENT)
_SPELLINGS: Mapping[str, Mapping[Marker, str]] = MappingProxyType(
    {
        "paper": {marker: marker.value for marker in _MARKERS},
        "code": {
            **dict(zip(_MARKERS, ("[tag]", "[/tag]", "[LOC]", "[SEG]"), strict=True)),
            **{marker: marker.value for marker in Marker if marker in FRAMES},
        },
    }
)
_UNIT_OF = MappingProxyType(
    {Marker.LOCATION: UnitType.BOX.value, Marker.SEGMENT: UnitType.MASK.value}
)
_MARKER_OF = MappingProxyType({unit: marker for marker, unit in _UNIT_OF.items()})


class State(Enum):
    """Where in the grammar a reader of tokens stands."""

    TEXT = auto()
    """In words, inside or outside a tag."""
    NAMED = auto()
    """Right after a closed tag; its latents may follow."""
    LATENTS = auto()
    """Right after a latent of a tag."""


NEXT: Mapping[tuple[State, Marker], State] = MappingProxyType(
    {(state, Marker.TAG_OPEN): State.TEXT for state in State}
    | {(state, Marker.TAG_CLOSE): State.NAMED for state in State}
    | {
        (state, marker): State.LATENTS
        for state in (State.NAMED, State.LATENTS)
        for marker in (Marker.LOCATION, Marker.SEGMENT)
    }
)
"""The grammar. Words lead back to TEXT."""

_Latent = tuple[str, int]
"""The unit type of a latent and its position."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Writes and reads tags with location and segmentation tokens.

    It carries boxes, masks, and references with both; a phrase whose group is empty ("nothing
    there") has no form. ``surface`` chooses the spelling of the paper or of its public code.
    """

    surface: Literal["paper", "code"] = "paper"
    max_references: int = 256

    @property
    def spelling(self) -> Mapping[Marker, str]:
        """The markers of the chosen surface."""
        return _SPELLINGS[self.surface]

    @property
    def padding(self) -> Padding:
        """Any padding: geometry is latent."""
        return "half"

    @property
    def latents(self) -> frozenset[Marker]:
        """The markers that carry a latent."""
        return frozenset(_UNIT_OF)

    def adapt(self, answer: GroundedText) -> GroundedText:
        """Return the answer without empty groups and without units other than boxes and masks."""
        return replace(
            answer,
            phrases=tuple(
                replace(phrase, groups=tuple(_adapted_groups(phrase))) for phrase in answer.phrases
            ),
        )

    def encode(self, answer: GroundedText, size: ImageSize) -> Encoded:  # noqa: ARG002
        """Write an answer; ``size`` has no part in it, since geometry stays latent.

        Each token is one encoded reference; both tokens of a reference with box and mask have
        the same group.

        Raises:
            NotationError: A group is empty or has units other than boxes and masks, phrases nest
                too deep, or there are more tokens than ``max_references``.
        """
        pieces: list[Marker | str] = []
        references: list[EncodedReference] = []
        num_groups = 0
        for item in walk(answer):
            if isinstance(item, str):
                pieces.append(item)
                continue
            if isinstance(item, PhraseStart):
                pieces.append(Marker.TAG_OPEN)
                continue
            pieces.append(Marker.TAG_CLOSE)
            for index, group in enumerate(item.phrase.groups):
                _check_group(group, item.phrase)
                if index:
                    pieces.append(",")
                for reference in group.references:
                    for name, unit in zip(group.unit_types, reference.units, strict=True):
                        pieces.append(_MARKER_OF[name])
                        references.append(EncodedReference((name,), (unit,), num_groups))
                num_groups += 1
        if len(references) > self.max_references:
            raise NotationError(
                f"an answer has {len(references)} tokens to decode, the limit is "
                f"{self.max_references}"
            )
        return Encoded(tuple(pieces), tuple(references))

    def decode(self, pieces: Sequence[Marker | str], size: ImageSize) -> Decoded:  # noqa: ARG002
        """Read pieces as grounded text; each token is a slot to be filled.

        Never raises. Tokens that stand in a sentence before its tag, as the public code writes
        them, belong to that tag; tokens without any tag belong to an empty phrase.
        """
        reader = _Reader(self)
        for gap, marker, offset in gaps_and_markers(pieces, self.spelling):
            if marker is None:
                reader.finish(gap, offset)
            else:
                reader.read(gap, marker, offset)
        return reader.decoded()


def _adapted_groups(phrase: GroundedPhrase) -> Iterator[UnitGroup]:
    for group in phrase.groups:
        kept = [index for index, name in enumerate(group.unit_types) if name in _MARKER_OF]
        if kept and group.references:
            yield UnitGroup(
                tuple(group.unit_types[index] for index in kept),
                tuple(
                    Reference(tuple(each.units[index] for index in kept), each.score)
                    for each in group.references
                ),
            )


def _check_group(group: UnitGroup, phrase: GroundedPhrase) -> None:
    types = group.unit_types
    if not set(types) <= _MARKER_OF.keys() or len(set(types)) != len(types):
        raise NotationError(
            f"phrase {phrase.text!r}: tokens write boxes and masks, not the unit types {types}"
        )
    if not group.references:
        raise NotationError(f"phrase {phrase.text!r}: tokens cannot write a group of nothing")


def _groups(latents: Sequence[_Latent], problems: ProblemLog) -> Iterator[DraftGroup]:
    """Read a run of tokens: both kinds in turn are one group, else each kind is one."""
    names = [name for name, _ in latents]
    in_turn = len(names) > 1 and all(a != b for a, b in pairwise(names))
    if not in_turn:
        group = DraftGroup((names[0],))
        for name, position in latents:
            if (name,) != group.unit_types:
                yield group
                group = DraftGroup((name,))
            group.references.append(DraftReference((None,), ((position, 0, (name,)),)))
        yield group
        return
    group = DraftGroup((names[0], names[1]))
    for (first, at), (second, then) in zip(latents[::2], latents[1::2], strict=False):
        found = ((at, 0, (first,)), (then, 1, (second,)))
        group.references.append(DraftReference((None, None), found))
    yield group
    if len(latents) % 2:
        problems.add("incomplete_reference", f"the last reference has no {names[1]}")
        name, position = latents[-1]
        yield DraftGroup((name,), [DraftReference((None,), ((position, 0, (name,)),))])


class _Reader:
    """Takes one marker at a time, with the text before it, and never looks back."""

    def __init__(self, notation: Tokens) -> None:
        self._notation = notation
        self._state = State.TEXT
        self._draft = Draft()
        self._problems = ProblemLog()
        self._position = 0
        self._num_latents = 0
        # The tag closed last with the runs of latents after it, and latents that wait for a tag.
        self._target: DraftPhrase | None = None
        self._runs: list[list[_Latent]] = []
        self._waiting: list[tuple[DraftPhrase, list[_Latent]]] = []

    def read(self, gap: str, marker: Marker, position: int) -> None:
        latent = _UNIT_OF.get(marker)
        self._settle(gap, before_latent=latent is not None)
        self._position = position
        if latent is not None:
            self._add_latent(latent)
        elif marker is Marker.TAG_OPEN:
            self._end_target()
            if not self._draft.open_phrase():
                self._problems.add("too_deep", f"a tag lies inside {MAX_DEPTH} others", position)
        elif marker is Marker.TAG_CLOSE and self._draft.open:
            self._end_target()
            self._target = self._draft.close_phrase()
        elif marker is Marker.TAG_CLOSE:
            self._problems.add("unopened_phrase", "a tag ends and none is open", position)
            return
        else:
            self._problems.add(
                "unexpected_marker", f"{marker.value} does not belong here", position
            )
            return
        self._state = NEXT.get((self._state, marker), State.TEXT)

    def _settle(self, gap: str, *, before_latent: bool) -> None:
        between = gap.strip()
        if before_latent and self._state is State.NAMED and not between:
            self._runs.append([])
            return
        if before_latent and self._state is State.LATENTS and between in {"", ","}:
            if between:
                self._runs.append([])
            return
        if gap:
            self._end_target()
            self._draft.add_text(gap)
            self._state = State.TEXT

    def _add_latent(self, name: str) -> None:
        position = self._num_latents
        self._num_latents += 1
        if position >= self._notation.max_references:
            return
        if self._target is not None:
            self._runs[-1].append((name, position))
            return
        if not self._waiting or self._waiting[-1][0].start != self._draft.length:
            if not self._draft.open_phrase():
                self._problems.add("too_deep", f"a token lies in {MAX_DEPTH} tags", self._position)
            self._waiting.append((self._draft.close_phrase(), []))
        self._waiting[-1][1].append((name, position))

    def _end_target(self) -> None:
        """Give the tag closed last its latents: those after it, or those that waited for it."""
        if self._target is None:
            return
        runs = [run for run in self._runs if run]
        if not runs and self._waiting:
            runs = [[latent for _, waiting in self._waiting for latent in waiting]]
            for phrase, _ in self._waiting:
                phrase.end = None
            self._waiting.clear()
        for run in runs:
            self._target.groups.extend(_groups(run, self._problems))
        self._settle_waiting()
        self._target = None
        self._runs = []

    def _settle_waiting(self) -> None:
        """Leave latents that no tag took to the empty phrases where they stand."""
        for phrase, latents in self._waiting:
            self._problems.add("group_without_phrase", "a token follows no tag", self._position)
            phrase.groups.extend(_groups(latents, self._problems))
        self._waiting.clear()

    def finish(self, gap: str, position: int) -> None:
        """Take the text after the last marker, and what the end cut off."""
        self._settle(gap, before_latent=False)
        self._position = position
        self._end_target()
        self._settle_waiting()
        for phrase in self._draft.open:
            self._problems.add(
                "unclosed_phrase", f"the tag from character {phrase.start} does not end", position
            )
        if self._draft.open:
            self._problems.add("truncated", "the text ends inside a tag", position)
        limit = self._notation.max_references
        if self._num_latents > limit:
            self._problems.add(
                "too_many_references", f"{self._num_latents} tokens, the first {limit} are kept"
            )

    def decoded(self) -> Decoded:
        """Return the decoded text."""
        text, slots = self._draft.build()
        return Decoded(text, slots, self._problems.listed())

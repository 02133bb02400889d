"""Grounded text under construction, and iteration over grounded text in writing order."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from deixis.errors import NotationError
from deixis.notation.encoded import ReferenceSlot
from deixis.structures.units import GroundedPhrase, GroundedText, Reference, Unit, UnitGroup

MAX_DEPTH = 8
"""Largest nesting depth of phrases; each level repeats its text, so this also bounds memory."""


@dataclass(slots=True)
class DraftReference:
    """A reference being read: its units so far, and the latents that will fill it."""

    units: tuple[Unit | None, ...]
    latents: tuple[tuple[int, int, tuple[str, ...]], ...] = ()


@dataclass(slots=True)
class DraftGroup:
    """A unit group being read."""

    unit_types: tuple[str, ...]
    references: list[DraftReference] = field(default_factory=list)


@dataclass(slots=True)
class DraftPhrase:
    """A phrase being read; ``end`` is None until it is closed."""

    start: int
    end: int | None = None
    groups: list[DraftGroup] = field(default_factory=list)


class Draft:
    """Text with phrases that open and close while it grows."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._phrases: list[DraftPhrase] = []
        self.length = 0
        self.open: list[DraftPhrase] = []

    def add_text(self, text: str) -> None:
        """Append words."""
        self._parts.append(text)
        self.length += len(text)

    def open_phrase(self) -> bool:
        """Begin a phrase at the end of the text.

        Returns False if it is too deep: it can be closed and take groups, but is not kept.
        """
        phrase = DraftPhrase(self.length)
        kept = len(self.open) < MAX_DEPTH
        if kept:
            self._phrases.append(phrase)
        self.open.append(phrase)
        return kept

    def close_phrase(self) -> DraftPhrase:
        """End the innermost open phrase at the end of the text."""
        phrase = self.open.pop()
        phrase.end = self.length
        return phrase

    def build(self) -> tuple[GroundedText, tuple[ReferenceSlot, ...]]:
        """Return the text with its closed phrases, and the slots to be filled."""
        text = "".join(self._parts)
        closed = [(phrase, phrase.end) for phrase in self._phrases if phrase.end is not None]
        closed.sort(key=lambda pair: (pair[0].start, -pair[1]))
        slots: list[ReferenceSlot] = []
        phrases: list[GroundedPhrase] = []
        for index, (draft, end) in enumerate(closed):
            groups = tuple(
                UnitGroup(
                    group.unit_types, tuple(Reference(found.units) for found in group.references)
                )
                for group in draft.groups
            )
            phrases.append(GroundedPhrase(text[draft.start : end], draft.start, end, groups))
            slots.extend(
                ReferenceSlot(position, index, group_index, reference_index, unit_types, first_unit)
                for group_index, group in enumerate(draft.groups)
                for reference_index, reference in enumerate(group.references)
                for position, first_unit, unit_types in reference.latents
            )
        slots.sort(key=lambda slot: slot.position)
        return GroundedText(text, tuple(phrases)), tuple(slots)


@dataclass(frozen=True, slots=True)
class PhraseStart:
    """A phrase begins here."""


@dataclass(frozen=True, slots=True)
class PhraseEnd:
    """A phrase ends here."""

    phrase: GroundedPhrase


def walk(answer: GroundedText) -> Iterator[str | PhraseStart | PhraseEnd]:
    """Yield words and phrase bounds in the order in which they are written.

    An empty phrase is written before other phrases that start at its place, so that it is nested
    as little as possible.

    Raises:
        NotationError: Phrases nest deeper than `MAX_DEPTH`.
    """
    written = 0
    stack: list[GroundedPhrase] = []

    def words_until(end: int) -> Iterator[str]:
        nonlocal written
        if end > written:
            yield answer.text[written:end]
            written = end

    def close() -> Iterator[str | PhraseEnd]:
        phrase = stack.pop()
        yield from words_until(phrase.end)
        yield PhraseEnd(phrase)

    for phrase in sorted(answer.phrases, key=lambda each: (each.start, each.start != each.end)):
        while stack and stack[-1].end <= phrase.start:
            yield from close()
        yield from words_until(phrase.start)
        yield PhraseStart()
        stack.append(phrase)
        if len(stack) > MAX_DEPTH:
            raise NotationError(
                f"phrase {phrase.text!r} lies inside {MAX_DEPTH} others, which is the limit"
            )
    while stack:
        yield from close()
    yield from words_until(len(answer.text))

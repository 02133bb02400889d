"""Grounded captions of a scene."""

from collections.abc import Callable

from deixis.data.scenes.describe import Facts, bit_indices, short_phrase
from deixis.data.scenes.seeds import Dice
from deixis.language import article, count_word
from deixis.structures import GroundedPhrase, GroundedText, UnitGroup

Pointer = Callable[[tuple[int, ...]], UnitGroup]
"""Makes the unit group of some instances."""

SHORT_GROUPS = 3
LONG_GROUPS = 7
"""Most phrases of a short caption, and of the list that a long one ends with."""
LINKED_SENTENCES = 2
"""Most sentences about relations in a long caption."""

_Piece = str | tuple[str, tuple[int, ...]]
"""Plain words, or a phrase with its instances."""


def captions(facts: Facts, dice: Dice, pointer: Pointer) -> tuple[GroundedText, ...]:
    """Return a short caption and, if there are relations, a long one; empty for an empty scene."""
    groups = _groups(facts, bit_indices(facts.clear))
    if not groups:
        return ()
    short = _written(_listed(groups[:SHORT_GROUPS], dice), pointer)
    linked, said = _linked(facts)
    if not linked and len(groups) <= SHORT_GROUPS:
        return (short,)
    rest = _groups(facts, [index for index in bit_indices(facts.clear) if index not in said])
    more = [" ", *_listed(rest[:LONG_GROUPS], dice)] if rest and linked else []
    pieces = [*linked, *more] if linked else _listed(groups[:LONG_GROUPS], dice)
    return short, _written(pieces, pointer)


def _groups(facts: Facts, indices: tuple[int, ...] | list[int]) -> list[_Piece]:
    """Return phrases for instances, grouped by equal appearance, with the largest first."""
    alike: dict[tuple[str, str], list[int]] = {}
    for index in indices:
        alike.setdefault(short_phrase(facts, index), []).append(index)
    ordered = sorted(
        alike.items(), key=lambda entry: (-max(facts.area(index) for index in entry[1]), entry[0])
    )
    return [(_counted(names, len(members)), tuple(members)) for names, members in ordered]


def _counted(names: tuple[str, str], count: int) -> str:
    return article(names[0]) if count == 1 else f"{count_word(count)} {names[1]}"


def _listed(groups: list[_Piece], dice: Dice) -> list[_Piece]:
    pieces: list[_Piece] = []
    if dice.chance(0.3):
        several = not isinstance(groups[0], str) and len(groups[0][1]) > 1
        pieces.append("There are " if several else "There is ")
    for position, group in enumerate(groups):
        if position:
            pieces.append(" and " if position == len(groups) - 1 else ", ")
        pieces.append(group)
    return [*pieces, "."]


def _linked(facts: Facts) -> tuple[list[_Piece], set[int]]:
    """Return sentences about holding, wearing, inside and on, and the instances in them."""
    sentences: list[tuple[int, str, int]] = []
    for index, thing in enumerate(facts.things):
        sentences += [(index, " is holding ", part) for part in thing.holds]
        sentences += [(index, " is wearing ", part) for part in thing.wears]
        if thing.inside is not None:
            sentences.append((index, " is in ", thing.inside))
        if thing.on is not None:
            sentences.append((index, " is on ", thing.on))
    pieces: list[_Piece] = []
    said: set[int] = set()
    for subject, verb, thing_index in sentences:
        named = {subject, thing_index}
        if said & named or not all(facts.is_clear(index) for index in named):
            continue
        said |= named
        pieces += [" "] if pieces else []
        pieces.append((article(short_phrase(facts, subject)[0]), (subject,)))
        pieces += [verb, (article(short_phrase(facts, thing_index)[0]), (thing_index,)), "."]
        if len(said) == 2 * LINKED_SENTENCES:
            break
    return pieces, said


def _written(pieces: list[_Piece], pointer: Pointer) -> GroundedText:
    text = ""
    phrases = []
    for piece in pieces:
        words = piece if isinstance(piece, str) else piece[0]
        if not text or text.endswith(". "):
            words = words[:1].upper() + words[1:]
        if not isinstance(piece, str):
            # the article or number stays outside the phrase, which then is like a class name
            start = len(text) + words.index(" ") + 1
            end = len(text) + len(words)
            name = words[words.index(" ") + 1 :]
            phrases.append(GroundedPhrase(name, start, end, (pointer(piece[1]),)))
        text += words
    return GroundedText(text, tuple(phrases))

"""Random grounded texts survive every notation; hostile pieces never break a reader."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from deixis.geometry import Box, ImageSize, Point
from deixis.notation import (
    NOTATIONS,
    Coordinates,
    Decoded,
    Encoded,
    Marker,
    Notation,
    Tokens,
    Triplets,
    fill,
)
from deixis.notation.drafts import MAX_DEPTH
from deixis.structures import GroundedPhrase, GroundedText, Reference, Unit, UnitGroup

SIZE = ImageSize(100, 200)
WORDS = ["dog", " ", "\n", "(", ")", "((box)", "[0]", "[", "]", ",", ";", ".", " Num: 3", "é\uff11"]
MARKUP = ["<REF>", "<Phrase>", "(<Unit>box</Unit>[0]<REF>)", "<LOC>", "[SEG]", "</tag>", "<Task>\n"]
words = st.lists(st.sampled_from(WORDS + MARKUP), max_size=4).map("".join)


# Trees are drawn as plain data and made into texts inside the tests: the run-time type checks
# sample containers at random, which hypothesis does not allow while it draws.
GroupPlan = tuple[tuple[str, ...], list[tuple[int, int]]]
"""Unit types, and the left top corner of each reference."""


@dataclass(frozen=True)
class Node:
    """Words, or a phrase of nodes with unit groups."""

    children: list[Any]
    groups: list[GroupPlan] = field(default_factory=list)


@dataclass
class Writer:
    """Writes nodes one after the other, noting (start, -end, number) of each phrase."""

    text: str = ""
    phrases: list[tuple[int, int, int]] = field(default_factory=list)
    groups: list[tuple[UnitGroup, ...]] = field(default_factory=list)

    def write(self, item: Node | str) -> None:
        if isinstance(item, str):
            self.text += item
            return
        start, number = len(self.text), len(self.phrases)
        self.phrases.append((start, 0, number))
        self.groups.append(tuple(_group(*plan) for plan in item.groups))
        for child in item.children:
            self.write(child)
        self.phrases[number] = (start, -len(self.text), number)

    def result(self) -> GroundedText:
        return GroundedText(
            self.text,
            tuple(
                GroundedPhrase(
                    self.text[start:-end] if end else "", start, -end, self.groups[number]
                )
                for start, end, number in sorted(self.phrases)
            ),
        )


def _group(names: tuple[str, ...], corners: list[tuple[int, int]]) -> UnitGroup:
    def unit(name: str, x: int, y: int) -> Unit | None:
        if name == "part":
            return None
        return Point(x, y) if name == "point" else Box(x, y, x + 20, 90)

    return UnitGroup(
        names, tuple(Reference(tuple(unit(name, x, y) for name in names)) for x, y in corners)
    )


def text_of(nodes: Sequence[Node | str]) -> GroundedText:
    writer = Writer()
    for node in nodes:
        writer.write(node)
    text = writer.result()
    assume(_depth(text) <= MAX_DEPTH)
    return text


def groups_of(*names: tuple[str, ...], at_least: int = 0) -> st.SearchStrategy[list[GroupPlan]]:
    corner = st.tuples(st.integers(0, 50), st.integers(0, 40))
    group = st.tuples(st.sampled_from(names), st.lists(corner, min_size=at_least, max_size=3))
    return st.lists(group, max_size=3)


def trees(groups: st.SearchStrategy[list[GroupPlan]]) -> st.SearchStrategy[list[Node | str]]:
    def phrase(children: st.SearchStrategy[Node | str]) -> st.SearchStrategy[Node | str]:
        return st.tuples(st.lists(children, max_size=3), groups).map(lambda pair: Node(*pair))

    return st.lists(st.recursive(words, phrase, max_leaves=6), max_size=4)


def _depth(text: GroundedText) -> int:
    return max(
        (
            sum(other.start <= phrase.start and phrase.end <= other.end for other in text.phrases)
            for phrase in text.phrases
        ),
        default=0,
    )


any_tree = trees(
    groups_of(("box",), ("mask",), ("box", "mask"), ("keypoint", "box"), ("part",), ("colour map",))
)
token_tree = trees(groups_of(("box",), ("mask",), ("box", "mask"), ("mask", "box"), at_least=1))


def _filled(encoded: Encoded, decoded: Decoded) -> GroundedText:
    assert [slot.position for slot in decoded.slots] == list(range(len(encoded.references)))
    assert [slot.unit_types for slot in decoded.slots] == [
        each.unit_types for each in encoded.references
    ]
    return fill(decoded, [each.units for each in encoded.references])


def _codes(decoded: Decoded) -> set[str]:
    return {problem.code for problem in decoded.problems}


@settings(max_examples=80, deadline=None)
@given(any_tree, st.booleans())
def test_triplets_give_back_what_they_wrote(tree: list[Node | str], plan: bool) -> None:  # noqa: FBT001
    text = text_of(tree)
    notation = Triplets(plan=plan)
    encoded = notation.encode(text, SIZE)
    decoded = notation.decode(encoded.pieces, SIZE)
    assert _filled(encoded, decoded) == text
    assert _codes(decoded) <= {"unknown_unit"}


@settings(max_examples=60, deadline=None)
@given(token_tree)
def test_tokens_give_back_what_they_wrote(tree: list[Node | str]) -> None:
    text = text_of(tree)
    encoded = Tokens().encode(text, SIZE)
    decoded = Tokens().decode(encoded.pieces, SIZE)
    assert _filled(encoded, decoded) == text
    assert decoded.problems == ()


plain_words = st.text("dog (),.é\n;", max_size=6)
coordinate_phrase = st.tuples(
    st.lists(plain_words, max_size=1), groups_of(("box",)) | groups_of(("point",), at_least=1)
).map(lambda pair: Node(*pair))


@settings(max_examples=60, deadline=None)
@given(st.lists(plain_words | coordinate_phrase, max_size=6))
def test_coordinates_give_back_what_they_wrote(tree: list[Node | str]) -> None:
    text = text_of(tree)
    decoded = Coordinates().decode(Coordinates().encode(text, SIZE).pieces, SIZE)
    assert decoded.problems == ()
    assert decoded.text.text == text.text
    assert [(each.start, each.end) for each in decoded.text.phrases] == [
        (each.start, each.end) for each in text.phrases
    ]
    # Grid steps of an image 200 wide are 0.2 pixels, so whole pixels come back but for rounding.
    for read, wrote in zip(_numbers(decoded.text), _numbers(text), strict=True):
        assert read == pytest.approx(wrote, abs=1e-9)


def _numbers(text: GroundedText) -> list[float]:
    numbers: list[float] = []
    for phrase in text.phrases:
        for reference in phrase.references:
            unit: Unit | None = reference.units[0]
            if isinstance(unit, Box):
                numbers += unit.as_array().tolist()
            elif isinstance(unit, Point):
                numbers += [unit.x, unit.y]
    return numbers


SOUP = [
    *WORDS,
    "[1]",
    "[-1]",
    "[99999999999]",
    "box",
    "box, mask",
    "keypoints",
    "zorp",
    "0.1,0.2",
    "[0.1,.5,1e-05,\uff11]",
    "[0.3,0.2;0.1,9]",
    "[0.9,0.9,0.1,0.1]",
    "[]",
    "\nUnit decode (True). Class name, target unit and number:\n- Name: dog Unit: box Num: 2\n",
]
soup = st.lists(st.one_of(st.sampled_from(SOUP), st.sampled_from(Marker)), max_size=25)


@pytest.mark.parametrize("notation", NOTATIONS.values(), ids=list(NOTATIONS))
@settings(max_examples=60, deadline=None)
@given(pieces=soup)
@example(pieces=[Marker.PHRASE_OPEN] * 12 + ["dog"] + [Marker.PHRASE_CLOSE] * 12)
@example(pieces=[Marker.TAG_OPEN] * 12 + ["dog", Marker.SEGMENT] + [Marker.TAG_CLOSE] * 12)
@example(pieces=[Marker.EXPRESSION_OPEN] * 12 + ["[0.1,0.2]"] + [Marker.EXPRESSION_CLOSE] * 12)
@example(pieces=["[0.1,0.5,0,1]", " ", Marker.PHRASE_OPEN, "[0.1,0.5,0,1]"])
@example(pieces=["[0.1,0.5,0,1]", Marker.PHRASE_OPEN, " ", Marker.REFERENCE, "[0.1,0.5]"])
def test_whatever_is_read_can_be_written_and_read_again(
    notation: Notation, pieces: list[Marker | str]
) -> None:
    first = notation.decode(pieces, SIZE)
    if isinstance(notation, Coordinates) and "[" in first.text.text:
        # What is left of a damaged list may read as coordinates the next time.
        return
    if isinstance(notation, Coordinates) and not notation.marks:
        # Pink's form cannot say where phrases begin, nor that nothing is there.
        written = notation.encode(notation.adapt(first.text), SIZE)
        again = notation.decode(written.pieces, SIZE)
        assert again.text.text == first.text.text
        assert sorted(_numbers(again.text)) == sorted(_numbers(first.text))
        return
    assert notation.decode(notation.encode(first.text, SIZE).pieces, SIZE).text == first.text


@pytest.mark.parametrize("notation", NOTATIONS.values(), ids=list(NOTATIONS))
@settings(max_examples=20, deadline=None)
@given(pieces=soup)
def test_geometry_that_is_read_lies_inside_the_image(
    notation: Notation, pieces: list[Marker | str]
) -> None:
    numbers = _numbers(notation.decode(pieces, SIZE).text)
    assert all(0 <= number <= 200 for number in numbers)


@pytest.mark.parametrize("notation", NOTATIONS.values(), ids=list(NOTATIONS))
@settings(max_examples=20, deadline=None)
@given(pieces=soup)
def test_where_words_are_cut_does_not_matter(
    notation: Notation, pieces: list[Marker | str]
) -> None:
    letters: list[Marker | str] = []
    for piece in pieces:
        letters += [piece] if isinstance(piece, Marker) else list(piece)
    assert notation.decode(letters, SIZE) == notation.decode(pieces, SIZE)


@settings(max_examples=15, deadline=None)
@given(any_tree, st.booleans())
def test_a_cut_answer_has_a_prefix_of_its_groups(tree: list[Node | str], plan: bool) -> None:  # noqa: FBT001
    text = text_of(tree)
    notation = Triplets(plan=plan)
    encoded = notation.encode(text, SIZE)
    whole = _groups_in_order(notation.decode(encoded.pieces, SIZE))
    for length in range(len(encoded.pieces)):
        decoded = notation.decode(encoded.pieces[:length], SIZE)
        cut = _groups_in_order(decoded)
        last = cut.pop() if cut else None
        assert cut == whole[: len(cut)]
        if last is not None and last != whole[len(cut)]:
            assert "truncated" in _codes(decoded)
            assert last == whole[len(cut)][: len(last)]


def _groups_in_order(decoded: Decoded) -> list[tuple[tuple[str, ...], ...]]:
    found: dict[tuple[int, int], list[tuple[str, ...]]] = {}
    for slot in decoded.slots:
        found.setdefault((slot.phrase_index, slot.group_index), []).append(slot.unit_types)
    return [tuple(types) for types in found.values()]


@settings(max_examples=20, deadline=None)
@given(token_tree)
def test_a_cut_answer_of_tokens_only_changes_its_last_phrase(tree: list[Node | str]) -> None:
    text = text_of(tree)
    encoded = Tokens().encode(text, SIZE)
    whole = _phrase_of_each_latent(Tokens().decode(encoded.pieces, SIZE))
    for length in range(len(encoded.pieces)):
        cut = _phrase_of_each_latent(Tokens().decode(encoded.pieces[:length], SIZE))
        assert cut[:-1] == whole[: len(cut[:-1])]
        assert [each[:2] for each in cut] == [each[:2] for each in whole[: len(cut)]]


def _phrase_of_each_latent(decoded: Decoded) -> list[tuple[int, int, int]]:
    assert [slot.position for slot in decoded.slots] == list(range(len(decoded.slots)))
    phrases = [decoded.text.phrases[slot.phrase_index] for slot in decoded.slots]
    return [
        (phrase.start, phrase.end, slot.group_index)
        for phrase, slot in zip(phrases, decoded.slots, strict=True)
    ]

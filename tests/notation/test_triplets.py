from collections.abc import Iterator, Sequence
from typing import overload

import pytest

from deixis.errors import NotationError
from deixis.geometry import Box, ImageSize
from deixis.notation import (
    Decoded,
    EncodedReference,
    Marker,
    Triplets,
    fill,
    join_pieces,
    split_markers,
)
from deixis.notation.triplets import NEXT, State, _Reader
from deixis.structures import GroundedPhrase, GroundedText, Problem, Reference, UnitGroup

SIZE = ImageSize(48, 64)


def read(raw: str, notation: Triplets | None = None) -> Decoded:
    notation = notation or Triplets()
    return notation.decode(split_markers(raw, notation.spelling), SIZE)


def codes(decoded: Decoded) -> list[str]:
    return [problem.code for problem in decoded.problems]


def outline(decoded: Decoded) -> list[tuple[str, list[tuple[str, int]]]]:
    return [
        (
            phrase.text,
            [(",".join(group.unit_types), len(group.references)) for group in phrase.groups],
        )
        for phrase in decoded.text.phrases
    ]


def group(names: str, count: int = 1) -> UnitGroup:
    types = tuple(names.split(","))
    return UnitGroup(types, (Reference((None,) * len(types)),) * count)


def phrase(text: str, start: int, *groups: UnitGroup) -> GroundedPhrase:
    return GroundedPhrase(text, start, start + len(text), groups)


def test_an_answer_is_written_as_in_the_paper() -> None:
    dogs = phrase("dogs", 4, group("box", 2), group("box,mask"), group("keypoint", 0))
    encoded = Triplets().encode(GroundedText("Two dogs.", (dogs,)), SIZE)
    assert join_pieces(encoded.pieces, Triplets().spelling) == (
        "Two <Phrase>dogs</Phrase>(<Unit>box</Unit>[0]<REF>[1]<REF>,"
        "<Unit>box,mask</Unit>[0]<REF>,<Unit>keypoint</Unit>)."
    )
    assert [each.group for each in encoded.references] == [0, 0, 1]
    assert encoded.references[2].unit_types == ("box", "mask")


def test_targets_stand_in_the_order_of_their_markers() -> None:
    outer, inner = Box(0, 0, 9, 9), Box(1, 1, 2, 2)
    text = GroundedText(
        "dog in park",
        (
            phrase("dog in park", 0, UnitGroup(("box",), (Reference((outer,)),))),
            phrase("dog", 0, UnitGroup(("box",), (Reference((inner,)),))),
        ),
    )
    encoded = Triplets().encode(text, SIZE)
    assert encoded.references == (
        EncodedReference(("box",), (inner,), 0),
        EncodedReference(("box",), (outer,), 1),
    )
    decoded = Triplets().decode(encoded.pieces, SIZE)
    assert [slot.phrase_index for slot in decoded.slots] == [1, 0]
    assert fill(decoded, [(inner,), (outer,)]) == text


def test_words_that_spell_markers_stay_words() -> None:
    text = GroundedText("a <REF> (<Unit>box</Unit>[0]<REF>)", (phrase("<REF>", 2, group("box")),))
    encoded = Triplets().encode(text, SIZE)
    assert [piece for piece in encoded.pieces if isinstance(piece, Marker)] == [
        Marker.PHRASE_OPEN,
        Marker.PHRASE_CLOSE,
        Marker.UNIT_OPEN,
        Marker.UNIT_CLOSE,
        Marker.REFERENCE,
    ]
    assert Triplets().decode(encoded.pieces, SIZE).text == text


@pytest.mark.parametrize("tail", [")", "(box)", "[0]", "[1", "(", ", ", " (", "\n)", ")(", "[0]["])
@pytest.mark.parametrize("groups", [(), (group("box"),), (group("box", 0), group("mask", 0))])
def test_words_like_the_marks_of_a_group_stay_words(
    tail: str, groups: tuple[UnitGroup, ...]
) -> None:
    text = GroundedText(f"(dog{tail}", (phrase("dog", 1, *groups),))
    decoded = Triplets().decode(Triplets().encode(text, SIZE).pieces, SIZE)
    assert decoded.text == text
    assert decoded.problems == ()


@pytest.mark.parametrize(
    ("raw", "text", "phrases"),
    [
        (
            "<Phrase>dogs</Phrase>((<Unit>box</Unit>[0]<REF>[1]<REF>),<Unit> box</Unit>[0]<REF>)",
            "dogs",
            [("dogs", [("box", 2), ("box", 1)])],
        ),
        (
            "<Phrase>dogs</Phrase>(<Unit>box</Unit>[0]<REF>),(<Unit>mask</Unit>[0]<REF>) run",
            "dogs run",
            [("dogs", [("box", 1), ("mask", 1)])],
        ),
        (
            "<Phrase> dog</Phrase> (<Unit>box, keypoints</Unit>[0]<REF>).",
            " dog.",
            [(" dog", [("box,keypoint", 1)])],
        ),
        ("<Phrase>dog</Phrase><Unit>Box</Unit>[0]<REF>)", "dog)", [("dog", [("box", 1)])]),
        (
            "<Phrase><Phrase>dog</Phrase> in <Phrase>park</Phrase></Phrase>(<Unit>box</Unit>)",
            "dog in park",
            [("dog in park", [("box", 0)]), ("dog", []), ("park", [])],
        ),
        (
            "<Phrase>dog</Phrase>( <Unit>box</Unit> [0] <REF> , [1] <REF> ) ok",
            "dog ok",
            [("dog", [("box", 2)])],
        ),
        (
            "<Phrase>it</Phrase>(<Unit>box</Unit>[0]<REF>;<Unit>box</Unit>[0]<REF>)",
            "it",
            [("it", [("box", 1), ("box", 1)])],
        ),
    ],
)
def test_the_forms_of_the_paper_and_its_code_are_read(
    raw: str, text: str, phrases: list[tuple[str, list[tuple[str, int]]]]
) -> None:
    decoded = read(raw)
    assert decoded.text.text == text
    assert outline(decoded) == phrases
    assert decoded.problems == ()


def test_an_unknown_unit_is_kept_and_named() -> None:
    decoded = read("<Phrase>dog</Phrase>(<Unit>normal map</Unit>[0]<REF>)")
    assert outline(decoded) == [("dog", [("normal map", 1)])]
    assert decoded.problems == (Problem("unknown_unit", "unit 'normal map' has no decoder", 37),)
    assert fill(decoded, [(None,)]).phrases[0].references == (Reference((None,)),)


UNIT = "<Unit>box</Unit>[0]<REF>"


@pytest.mark.parametrize(
    ("raw", "text", "phrases", "found"),
    [
        (f"see ({UNIT}) now", "see  now", [("", [("box", 1)])], ["group_without_phrase"]),
        (f"{UNIT} now", " now", [("", [("box", 1)])], ["group_without_phrase"]),
        (f"see {UNIT}", "see ", [("", [("box", 1)])], ["group_without_phrase"]),
        (f"a <Phrase>dog ({UNIT}).", "a dog.", [("dog", [("box", 1)])], ["unclosed_phrase"]),
        (f"<Phrase>dog</Phrase>({UNIT} x", "dog x", [("dog", [("box", 1)])], ["unclosed_group"]),
        (f"<Phrase>dog</Phrase> is ({UNIT})", "dog is ", [("dog", []), ("", [("box", 1)])],
         ["group_without_phrase"]),
        (f"<Phrase>dog</Phrase>({UNIT}) and ({UNIT})", "dog and ",
         [("dog", [("box", 1)]), ("", [("box", 1)])], ["group_without_phrase"]),
        ("dog</Phrase> runs", "dog runs", [], ["unopened_phrase"]),
        ("a <REF> b", "a  b", [], ["reference_without_unit"]),
        ("<Phrase>dog</Phrase>(<Unit>box</Unit>[0]<REF> and [1]<REF>)", "dog and [1])",
         [("dog", [("box", 1)])], ["unclosed_group", "reference_without_unit"]),
        ("<Phrase>dog</Phrase>(<Unit>box</Unit><REF>[1]<REF>)", "dog", [("dog", [("box", 2)])],
         ["missing_index"]),
        ("<Phrase>dog</Phrase>(<Unit>box</Unit>[7]<REF>[-1]<REF>[99999999999]<REF>)", "dog",
         [("dog", [("box", 3)])], ["index_out_of_order"] * 3),
        ("<Phrase>dog</Phrase>(<Unit></Unit>[0]<REF>)", "dog", [("dog", [])],
         ["invalid_unit", "reference_without_unit"]),
        ("<Phrase>dog</Phrase>(<Unit>box[0]<REF>)", "dog", [("dog", [("box", 1)])],
         ["unclosed_unit"]),
        ("<Phrase>dog</Phrase>(<Unit>box<Unit>mask</Unit>[0]<REF>)", "dog",
         [("dog", [("mask", 1)])], ["unclosed_unit"]),
        ("<Phrase>dog</Phrase>(<Unit>box <Phrase>cat</Phrase>", "dogcat", [("dog", []), ("cat", [])],
         ["unclosed_unit"]),
        (f"<Phrase>a <Phrase>dog</Phrase>(<Unit>box</Phrase></Unit>({UNIT})", "a dog",
         [("a dog", [("box", 1)]), ("dog", [])], ["crossed", "unopened_unit"]),
        ("<Phrase>dog</Phrase>(<Unit>box</Task></Unit>[0]<REF>)", "dog[0])", [("dog", [])],
         ["unclosed_unit", "unopened_unit", "reference_without_unit"]),
        ("a</Unit> b</Task> c", "a b c", [], ["unopened_unit", "unopened_plan"]),
    ],
)  # fmt: skip
def test_what_is_sound_of_a_text_with_problems_is_kept(
    raw: str, text: str, phrases: list[tuple[str, list[tuple[str, int]]]], found: list[str]
) -> None:
    decoded = read(raw)
    assert decoded.text.text == text
    assert outline(decoded) == phrases
    assert codes(decoded) == found


def test_a_marker_of_another_notation_is_dropped_and_named() -> None:
    pieces = [Marker.IMAGE, "a", Marker.UNIT_OPEN, Marker.SEGMENT, "box", Marker.UNIT_CLOSE]
    decoded = Triplets().decode(pieces, SIZE)
    assert decoded.text.text == "a"
    assert codes(decoded) == ["unexpected_marker", "group_without_phrase", "unexpected_marker"]


def test_a_sentence_in_an_unclosed_unit_is_given_back() -> None:
    sentence = "box and then it goes on for a long time about something else entirely, until"
    decoded = read(f"<Phrase>dog</Phrase>(<Unit>{sentence}<Unit>box</Unit>[0]<REF>)")
    assert decoded.text.text == f"dog{sentence}"
    assert codes(decoded) == ["unclosed_unit", "group_without_phrase"]
    assert read(f"<Unit>{sentence}").text.text == sentence


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        ("a <Phrase>big d", "a phrase"),
        ("<Phrase>dog</Phrase>(<Unit>bo", "a unit"),
        (f"<Phrase>dog</Phrase>({UNIT}[1]", "a group of units"),
        ("<Task>\nUnit decode (Tr", "the plan"),
    ],
)
def test_a_text_that_was_cut_says_where(raw: str, where: str) -> None:
    (problem,) = (one for one in read(raw).problems if one.code == "truncated")
    assert problem.message == f"the text ends inside {where}"
    assert problem.position == len(raw)


@pytest.mark.parametrize(
    ("raw", "phrases", "found"),
    [
        ("a <Phrase>big d", [], ["unclosed_phrase", "truncated"]),
        ("<Phrase>dog</Phrase>(<Unit>bo", [("dog", [])], ["truncated"]),
        ("<Phrase>dog</Phrase>(<Unit>box</Unit>", [("dog", [])], ["truncated"]),
        ("<Phrase>dog</Phrase>(<Unit>box</Unit>[", [("dog", [])], ["truncated"]),
        (f"<Phrase>dog</Phrase>({UNIT}[1]", [("dog", [("box", 1)])], ["truncated"]),
        (f"<Phrase>a <Phrase>dog</Phrase>({UNIT}", [("dog", [("box", 1)])],
         ["truncated", "unclosed_phrase"]),
        ("<Task>\nUnit decode (Tr", [], ["truncated"]),
        ("<Unit>", [("", [])], ["group_without_phrase", "truncated"]),
        ("<Unit>;</Unit>[0]", [("", [])], ["group_without_phrase", "invalid_unit"]),
        ("<Phrase>dog</Phrase>(<Unit>;</Unit>[0", [("dog", [])], ["invalid_unit", "truncated"]),
    ],
)  # fmt: skip
def test_a_text_that_was_cut_keeps_what_was_whole(
    raw: str, phrases: list[tuple[str, list[tuple[str, int]]]], found: list[str]
) -> None:
    decoded = read(raw)
    assert outline(decoded) == phrases
    assert codes(decoded) == found


def test_phrases_that_nest_too_deep_are_left_out_and_their_words_kept() -> None:
    decoded = read("<Phrase>" * 10 + "dog" + f"</Phrase>({UNIT})" * 10)
    assert len(decoded.text.phrases) == 8
    assert all(len(each.references) == 1 for each in decoded.text.phrases)
    assert [slot.position for slot in decoded.slots] == list(range(2, 10))
    assert codes(decoded) == ["too_deep", "too_deep"]


def test_references_above_the_limit_are_counted() -> None:
    raw = "<Phrase>dogs</Phrase>(<Unit>box</Unit>" + "".join(f"[{i}]<REF>" for i in range(10)) + ")"
    decoded = read(raw, Triplets(max_references=4))
    assert outline(decoded) == [("dogs", [("box", 4)])]
    assert decoded.problems == (
        Problem("too_many_references", "10 references, the first 4 are kept"),
    )


def test_groups_above_the_limit_are_counted() -> None:
    decoded = read("<Phrase>dog</Phrase>" + f"({UNIT})" * 3, Triplets(max_groups=2))
    assert outline(decoded) == [("dog", [("box", 1), ("box", 1)])]
    assert decoded.problems == (Problem("too_many_groups", "3 groups, the first 2 are kept"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GroundedText("dog", (phrase("dog", 0, group("box", 3)),)), "1 groups and 3 references"),
        (GroundedText("dog", (phrase("dog", 0, group("a")),) * 3), "3 groups and 3 references"),
        (GroundedText("dog", (phrase("dog", 0, group("box,box")),)), r"\('box', 'box'\) cannot be"),
        (
            GroundedText("dog", (phrase("dog", 0, group("boxes")),)),
            r"\('boxes',\) cannot be written",
        ),
        (GroundedText("dog", (phrase("dog", 0, group("x)")),)), r"\('x\)',\) cannot be written"),
        (GroundedText("dog", (phrase("dog", 0, group("x" * 65)),)), "cannot be written"),
        (GroundedText("dog", (phrase("dog", 0, group("x," * 600)),)), "cannot be written"),
        (GroundedText("dog", (phrase("dog", 0),) * 9), "'dog' lies inside 8 others"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(text: GroundedText, message: str) -> None:
    with pytest.raises(NotationError, match=message):
        Triplets(max_references=2, max_groups=2).encode(text, SIZE)


def test_nothing_gives_nothing() -> None:
    assert Triplets().decode([], SIZE) == Decoded(GroundedText(""))
    assert Triplets().encode(GroundedText(""), SIZE).pieces == ()


class CountingPieces(Sequence[Marker | str]):
    """Pieces that count how often they are looked at."""

    def __init__(self, pieces: list[Marker | str]) -> None:
        self._pieces = pieces
        self.looks = 0

    def __len__(self) -> int:
        return len(self._pieces)

    @overload
    def __getitem__(self, index: int) -> Marker | str: ...
    @overload
    def __getitem__(self, index: slice) -> list[Marker | str]: ...
    def __getitem__(self, index: int | slice) -> Marker | str | list[Marker | str]:
        self.looks += 1
        return self._pieces[index]

    def __iter__(self) -> Iterator[Marker | str]:
        for piece in self._pieces:
            self.looks += 1
            yield piece


@pytest.mark.parametrize(
    "raw", ["<Phrase>", "<REF>", "(", "1", "<Unit>", f"<Phrase>a</Phrase>({UNIT})", "</Phrase>(["]
)
def test_a_long_hostile_text_is_looked_at_once(raw: str) -> None:
    notation = Triplets()
    pieces = CountingPieces(split_markers(raw * (64_000 // len(raw)), notation.spelling))
    decoded = notation.decode(pieces, SIZE)
    # The run-time type checks look at a few pieces as well.
    assert pieces.looks <= len(pieces) + 16
    assert len(decoded.problems) < 100
    assert len(decoded.slots) <= notation.max_references


def test_the_grammar_reaches_and_leaves_every_state() -> None:
    assert {state for state, _ in NEXT} == set(State)
    assert set(NEXT.values()) == set(State)


def test_triplets_carry_every_answer_as_it_is() -> None:
    text = GroundedText("dog", (phrase("dog", 0, group("anything")),))
    assert Triplets().adapt(text) is text
    assert Triplets().latents == {Marker.REFERENCE}


class _Counted(str):
    """Text that counts the characters of every text made by adding it to another."""

    __slots__ = ()
    copied = 0

    def __radd__(self, before: str) -> "_Counted":
        _Counted.copied += len(before) + len(self)
        return _Counted(str(before) + str(self))


def test_foreign_markers_inside_a_unit_do_not_copy_its_text_again_and_again() -> None:
    def copied(times: int) -> int:
        _Counted.copied = 0
        reader = _Reader(Triplets())
        reader.read("", Marker.UNIT_OPEN, 0)
        for number in range(times):
            reader.read(_Counted("box"), Marker.LOCATION, number)
        reader.finish("", times)
        assert reader.decoded().text.text == "box" * times
        return _Counted.copied

    assert copied(400) <= 2.5 * copied(200)


@pytest.mark.parametrize("gap", [" " * 200_000 + "x", "[" + "1" * 200_000 + "x"])
def test_long_blanks_and_indices_that_end_wrong_are_read_in_one_pass(gap: str) -> None:
    pieces = [Marker.PHRASE_OPEN, "a", Marker.PHRASE_CLOSE, "(", Marker.UNIT_OPEN, "box"]
    decoded = Triplets().decode([*pieces, Marker.UNIT_CLOSE, gap], ImageSize(10, 10))
    assert "unclosed_group" in [problem.code for problem in decoded.problems]

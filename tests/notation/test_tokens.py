from typing import Literal

import pytest

from deixis.errors import NotationError
from deixis.geometry import Box, ImageSize, Mask
from deixis.notation import Decoded, Marker, Tokens, fill, join_pieces, split_markers
from deixis.structures import GroundedPhrase, GroundedText, Problem, Reference, UnitGroup

SIZE = ImageSize(48, 64)
BOX = Box(1, 2, 3, 4)
MASK = Mask.from_rle([0, 12], ImageSize(3, 4))


def read(raw: str, surface: Literal["paper", "code"] = "paper", limit: int = 256) -> Decoded:
    notation = Tokens(surface, max_references=limit)
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


def dog(*groups: UnitGroup) -> GroundedText:
    return GroundedText("a dog", (GroundedPhrase("dog", 2, 5, groups),))


BOTH = UnitGroup(("box", "mask"), (Reference((BOX, MASK)),))


@pytest.mark.parametrize(
    ("surface", "raw"),
    [("paper", "a <tag>dog</tag><LOC><SEG>"), ("code", "a [tag]dog[/tag][LOC][SEG]")],
)
def test_a_reference_with_box_and_mask_has_both_tokens(
    surface: Literal["paper", "code"], raw: str
) -> None:
    notation = Tokens(surface)
    encoded = notation.encode(dog(BOTH), SIZE)
    assert join_pieces(encoded.pieces, notation.spelling) == raw
    assert [(each.unit_types, each.units, each.group) for each in encoded.references] == [
        (("box",), (BOX,), 0),
        (("mask",), (MASK,), 0),
    ]
    decoded = notation.decode(split_markers(raw, notation.spelling), SIZE)
    assert fill(decoded, [(BOX,), (MASK,)]) == dog(BOTH)
    assert decoded.problems == ()


@pytest.mark.parametrize(
    ("raw", "groups"),
    [
        ("<LOC><LOC>", [("box", 2)]),
        ("<LOC>,<SEG>", [("box", 1), ("mask", 1)]),
        ("<LOC><SEG><LOC><SEG>", [("box,mask", 2)]),
        ("<SEG> <LOC>", [("mask,box", 1)]),
        ("<LOC><LOC><SEG><SEG>", [("box", 2), ("mask", 2)]),
        (" <SEG>", [("mask", 1)]),
    ],
)
def test_a_run_of_tokens_becomes_groups(raw: str, groups: list[tuple[str, int]]) -> None:
    decoded = read(f"<tag>dogs</tag>{raw} run")
    assert outline(decoded) == [("dogs", groups)]
    assert decoded.text.text == "dogs run"
    assert decoded.problems == ()


def test_the_answer_of_the_public_code_gives_its_tokens_to_the_tag_after_them() -> None:
    decoded = read("Sure. Mask: [SEG]; Location: [LOC]; [tag]dog[/tag].", "code")
    assert decoded.text.text == "Sure. Mask: ; Location: ; dog."
    assert outline(decoded) == [("dog", [("mask,box", 1)])]
    assert [(slot.position, slot.unit_types, slot.first_unit) for slot in decoded.slots] == [
        (0, ("mask",), 0),
        (1, ("box",), 1),
    ]
    assert decoded.problems == ()


def test_tokens_without_a_tag_point_from_where_they_stand() -> None:
    decoded = read("It is <SEG>, or <LOC><SEG>.")
    assert decoded.text.text == "It is , or ."
    assert outline(decoded) == [("", [("mask", 1)]), ("", [("box,mask", 1)])]
    assert codes(decoded) == ["group_without_phrase"] * 2


def test_tokens_that_wait_do_not_go_to_a_tag_that_has_its_own() -> None:
    decoded = read("<SEG> <tag>dog</tag><LOC> and <tag>cat</tag>")
    assert outline(decoded) == [("", [("mask", 1)]), ("dog", [("box", 1)]), ("cat", [])]
    assert codes(decoded) == ["group_without_phrase"]


def test_tags_nest() -> None:
    decoded = read("<tag>a <tag>dog</tag><SEG> here</tag><LOC>")
    assert outline(decoded) == [("a dog here", [("box", 1)]), ("dog", [("mask", 1)])]
    assert decoded.problems == ()


@pytest.mark.parametrize(
    ("raw", "phrases", "found"),
    [
        ("<tag>dogs</tag><LOC><SEG><LOC>", [("dogs", [("box,mask", 1), ("box", 1)])],
         ["incomplete_reference"]),
        ("dog</tag> x", [], ["unopened_phrase"]),
        ("a <tag>dog", [], ["unclosed_phrase", "truncated"]),
        ("<tag>" * 9 + "x<SEG>" + "</tag>" * 9,
         [("x", [])] * 8, ["too_deep", "too_deep"]),
    ],
)  # fmt: skip
def test_what_is_sound_of_a_text_with_problems_is_kept(
    raw: str, phrases: list[tuple[str, list[tuple[str, int]]]], found: list[str]
) -> None:
    decoded = read(raw)
    assert outline(decoded) == phrases
    assert codes(decoded) == found


def test_a_marker_of_another_notation_is_dropped_and_named() -> None:
    decoded = Tokens().decode([Marker.REFERENCE, "a"], SIZE)
    assert decoded.text.text == "a"
    assert decoded.problems == (Problem("unexpected_marker", "<REF> does not belong here", 0),)


def test_tokens_above_the_limit_are_counted() -> None:
    decoded = read("<tag>dogs</tag>" + "<LOC>" * 9 + ",<SEG>", limit=4)
    assert outline(decoded) == [("dogs", [("box", 4)])]
    assert decoded.problems == (Problem("too_many_references", "10 tokens, the first 4 are kept"),)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (UnitGroup(("box",), ()), "'dog': tokens cannot write a group of nothing"),
        (UnitGroup(("depth",), ()), r"not the unit types \('depth',\)"),
        (
            UnitGroup(("box", "box"), (Reference((BOX, BOX)),)),
            r"not the unit types \('box', 'box'\)",
        ),
        (UnitGroup(("box",), (Reference((BOX,)),) * 3), "has 3 tokens to decode, the limit is 2"),
    ],
)
def test_what_has_no_token_is_not_written(group: UnitGroup, message: str) -> None:
    with pytest.raises(NotationError, match=message):
        Tokens(max_references=2).encode(dog(group), SIZE)


def test_an_answer_is_adapted_to_boxes_and_masks() -> None:
    text = dog(
        UnitGroup(("box", "depth", "mask"), (Reference((BOX, None, MASK), 0.5),)),
        UnitGroup(("keypoint",), (Reference((None,)),)),
        UnitGroup(("box",), ()),
    )
    adapted = Tokens().adapt(text)
    assert adapted == dog(UnitGroup(("box", "mask"), (Reference((BOX, MASK), 0.5),)))
    assert Tokens().encode(adapted, SIZE).references
    assert Tokens().latents == {Marker.LOCATION, Marker.SEGMENT}

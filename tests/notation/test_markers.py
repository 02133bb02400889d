import pytest

from deixis.notation import Coordinates, Marker, Notation, Tokens, Triplets
from deixis.notation.markers import FRAMES, join_pieces, split_markers
from deixis.notation.problems import ProblemLog
from deixis.notation.unit_names import MAX_NAME_LENGTH, canonical_unit, parse_units
from deixis.structures import Problem


def test_surface_text_is_cut_at_markers() -> None:
    pieces = split_markers("a <Phrase>dog</Phrase><REF> <LOC>", Triplets().spelling)
    assert pieces == [
        "a ",
        Marker.PHRASE_OPEN,
        "dog",
        Marker.PHRASE_CLOSE,
        Marker.REFERENCE,
        " <LOC>",
    ]
    assert [isinstance(piece, Marker) for piece in pieces] == [
        False,
        True,
        False,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    "notation", [Triplets(), Tokens(), Tokens("code"), Coordinates()], ids=repr
)
def test_every_notation_cuts_and_joins_its_own_markers(notation: Notation) -> None:
    raw = "x".join(notation.spelling.values())
    pieces = split_markers(raw, notation.spelling)
    assert [piece for piece in pieces if isinstance(piece, Marker)] == list(notation.spelling)
    assert join_pieces(pieces, notation.spelling) == raw
    assert split_markers("", notation.spelling) == []
    assert notation.latents <= notation.spelling.keys()


def test_a_marker_without_a_spelling_is_written_by_its_value() -> None:
    assert join_pieces([Marker.IMAGE, "a"], {}) == "<image>a"
    assert split_markers("[x]a", {Marker.IMAGE: "[x]"}) == [Marker.IMAGE, "a"]


def test_images_and_videos_stand_between_the_marks_of_the_public_code() -> None:
    assert {str(marker.value) for marker in FRAMES} == {
        *("<img_beg>", "</img_end>"),
        *("<vid_beg>", "</vid_end>"),
    }


def test_names_of_units_are_read_up_to_a_length() -> None:
    longest = "box".ljust(16 * MAX_NAME_LENGTH)
    assert parse_units(longest) == ("box",)
    assert parse_units(f"{longest} ") is None


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        (" box", "box"),
        ("Mask", "mask"),
        ("keypoints", "keypoint"),
        ("surface  Normals", "surface Normals"),
        ("", None),
        ("a:b", None),
        ("x" * 65, None),
    ],
)
def test_unit_names_have_one_spelling(name: str, canonical: str | None) -> None:
    assert canonical_unit(name) == canonical


def test_many_problems_of_a_kind_are_counted() -> None:
    problems = ProblemLog(listed_per_code=2)
    for position in range(5):
        problems.add("a", "x", position)
    problems.add("b", "y")
    assert "a" in problems
    assert problems.listed() == (
        Problem("a", "x", 0),
        Problem("a", "x", 1),
        Problem("b", "y"),
        Problem("a", "5 of these in all, the first 2 are listed"),
    )

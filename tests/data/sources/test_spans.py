"""Phrases, places, and records of any shape."""

import re
from pathlib import Path

import pytest
from data.sources.pictures import picture

from deixis.data.sources.base import BadRecord, RecordProblem
from deixis.data.sources.reading.fields import read_box
from deixis.data.sources.reading.records import digest, file_record, json_files, place_in, records
from deixis.data.sources.reading.slots import about_regions, fill, place_of, places_in
from deixis.data.sources.reading.spans import Span, find_phrase, fraction_box, ground, located_size
from deixis.errors import AnnotationError
from deixis.geometry import Box, ImageSize
from deixis.structures import Instance

_SIZE = ImageSize(48, 64)
_THINGS = (Instance("cat", Box(0, 0, 9, 9)), Instance("mat", Box(0, 20, 60, 40)))


def _grounded(text: str, *spans: Span) -> tuple[list[str], dict[str, int], list[RecordProblem]]:
    notes: dict[str, int] = {}
    problems: list[RecordProblem] = []
    found = ground(text, spans, _THINGS, notes=notes, problems=problems, place="here")
    return [phrase.text for phrase in found.phrases], notes, problems


def test_phrases_of_the_same_characters_become_one() -> None:
    notes: dict[str, int] = {}
    found = ground(
        "  A cat on a mat.\n",
        [Span(2, 7, (0,)), Span(1, 8, (1, 0)), Span(11, 16, ())],
        _THINGS,
        notes=notes,
        problems=[],
        place="",
    )
    assert found.text == "A cat on a mat."
    assert [phrase.text for phrase in found.phrases] == ["A cat", "a mat"]
    assert found.phrases[0].boxes == (_THINGS[0].box, _THINGS[1].box)
    assert found.phrases[1].groups == ()


def test_phrases_that_cross_are_counted_and_those_outside_are_problems() -> None:
    texts, notes, problems = _grounded(
        "A cat on a mat",
        Span(0, 5, (0,)),
        Span(2, 8, (0,)),
        Span(9, 14, (1,)),
        Span(11, 14, (1,)),
        Span(5, 6, (0,)),
        Span(9, 15, (0,)),
        Span(-1, 2, (0,)),
    )
    assert texts == ["A cat", "a mat", "mat"]
    assert notes == {"phrase_crossing": 1}
    assert [problem.code for problem in problems] == ["span_damaged"] * 3


def test_phrases_are_found_as_whole_words_and_never_as_patterns() -> None:
    assert find_phrase("A category of cat (big).", "cat") == (14, 17)
    assert find_phrase("A cat (big).", "(BIG)") == (6, 11)
    assert find_phrase("cat cat", "cat", [(0, 3)]) == (4, 7)
    assert find_phrase("cat", ".*") is None
    assert find_phrase("cat", " ") is None


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ([0, 0, 1], "bad_record"),
        ([0, 0, 300, 200], "box_layout"),
        ([0.5, 0, 0.5, 1], "box_degenerate"),
        ([0, 0, 1.1, 1], "box_outside"),
        ([-0.01, 0, -0.005, 1], "box_outside"),
        ([0, 0, float("nan"), 1], "bad_number"),
        ([0, 0, "1", 1], "bad_number"),
        ("0011", "bad_record"),
    ],
)
def test_fractions_that_make_no_box_are_refused(values: object, code: str) -> None:
    with pytest.raises(BadRecord) as caught:
        fraction_box(values, _SIZE, {})
    assert caught.value.code == code


def test_fractions_are_of_the_sides() -> None:
    notes: dict[str, int] = {}
    assert fraction_box([0, 0.25, 0.5, 1], _SIZE, notes) == Box(0, 12, 32, 48)
    assert notes == {}
    assert fraction_box([-0.01, 0, 1.01, 1], _SIZE, notes) == Box(0, 0, 64, 48)
    assert notes == {"box_clipped": 1}


@pytest.mark.parametrize(
    ("size", "over"), [(ImageSize(100, 100), 1.0), (ImageSize(1000, 1000), 5.0)]
)
@pytest.mark.parametrize("edge", range(4))
def test_a_box_may_leave_by_a_pixel_or_five_thousandths_of_the_side(
    size: ImageSize, over: float, edge: int
) -> None:
    def moved(by: float) -> list[float]:
        box = [0.0, 0.0, float(size.width), float(size.height)]
        box[edge] += by if edge > 1 else -by
        return box

    whole = Box(0, 0, size.width, size.height)
    notes: dict[str, int] = {}
    assert read_box(moved(over - 0.01), size, notes, layout="xyxy") == whole
    shares = [value / size.width for value in moved(over - 0.01)]
    assert fraction_box(shares, size, notes) == whole
    assert notes == {"box_clipped": 2}
    with pytest.raises(BadRecord, match="leaves its"):
        read_box(moved(over + 0.01), size, notes, layout="xyxy")
    with pytest.raises(BadRecord, match="leaves its"):
        fraction_box([value / size.width for value in moved(over + 0.01)], size, notes)
    assert notes == {"box_clipped": 2}


def test_an_image_that_is_stored_turned_has_no_size_for_annotations(tmp_path: Path) -> None:
    assert located_size(picture(tmp_path / "a.jpg")) == _SIZE
    with pytest.raises(BadRecord, match="orientation_ambiguous"):
        located_size(picture(tmp_path / "b.jpg", orientation=8))


def test_places_are_filled_and_never_forged() -> None:
    pattern = re.compile(r"\[(\d+)\]")
    text = fill(pattern, "Why is [1] with [0]?", lambda number: number + 5)
    assert text == f"Why is {place_of(6)} with {place_of(5)}?"
    assert places_in(text) == (6, 5)
    for forged in ("<region 2> and [0]", "<region> and [0]"):
        with pytest.raises(BadRecord, match="slot of a region"):
            fill(pattern, forged, lambda number: number)


def test_a_question_about_one_region_is_a_plain_one() -> None:
    asked = about_regions("What is <region 3>?", "A cat.")
    assert (asked.question, asked.instance, asked.kind) == ("What is <region>?", 3, "region")
    asked = about_regions("Who?", "<region 3>.", options=("<region 2>.", "<region 3>."))
    assert (asked.question, asked.instance, asked.kind) == ("Who?", 3, "regions")
    assert about_regions("Who?", "Nobody.").kind == "vqa"


def test_records_come_in_three_shapes(tmp_path: Path) -> None:
    shapes = {
        "list.json": '\ufeff [{"a": 1}, 2]',
        "member.json": '{"info": {}, "rows": [{"a": 1}, 2]}',
        "lines.jsonl": '{"a": 1}\r\n\r\n2\r\n',
    }
    for name, text in shapes.items():
        (tmp_path / name).write_bytes(text.encode())
        found = list(records(tmp_path / name, "rows" if name == "member.json" else ""))
        assert [one.value for one in found if not isinstance(one, RecordProblem)] == [{"a": 1}, 2]
    (tmp_path / "empty.json").touch()
    assert list(records(tmp_path / "empty.json")) == []
    with pytest.raises(AnnotationError, match="does not exist"):
        list(records(tmp_path / "none.json"))


def test_a_line_that_is_damaged_is_a_problem_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": \n{"a": 2}\n' + "[" * 9000 + "\n")
    found = list(records(tmp_path / "a.jsonl"))
    assert [one.code for one in found if isinstance(one, RecordProblem)] == ["bad_json", "bad_json"]
    assert len(found) == 4


def test_names_of_records_depend_only_on_their_text() -> None:
    assert digest("a") == digest("a") != digest("b")
    assert len(digest("\udcff")) == 24


def test_a_file_that_is_not_json_is_a_bad_record(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xff")
    with pytest.raises(BadRecord, match="bad_encoding"):
        file_record(tmp_path / "a.json", "a.json")
    with pytest.raises(BadRecord, match="bad_record"):
        file_record(tmp_path / "b.json", "b.json")


def test_folders_are_gone_through_without_listing_them(tmp_path: Path) -> None:
    for name in ("a.json", "b/c/d.json", "b/e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = {place_in(path, tmp_path) for path in json_files(tmp_path)}
    assert found == {"a.json", "b/c/d.json"}
    assert place_in(tmp_path / "\udcff.json", tmp_path) == "\\udcff.json"
    with pytest.raises(AnnotationError, match="cannot read"):
        list(json_files(tmp_path / "nowhere"))

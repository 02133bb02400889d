import json
from pathlib import Path
from typing import Any

import pytest
from annotated import line, write_lines
from PIL import Image

from deixis.data.sources import Part, Reading, RecordProblem
from deixis.data.sources.jsonl import open_jsonl
from deixis.errors import AnnotationError


def read(folder: Path, *lines: dict[str, Any] | str) -> list[Reading | RecordProblem]:
    source = open_jsonl(write_lines(folder / "mine.jsonl", lines))
    return [
        source.sample(part.key, [part]) if isinstance(part, Part) else part
        for part in source.parts()
    ]


def one(folder: Path, **changes: Any) -> Reading:
    (reading,) = read(folder, line(4, **changes))
    assert isinstance(reading, Reading)
    return reading


def test_a_line_gives_all_its_fields(tmp_path: Path) -> None:
    reading = one(
        tmp_path,
        captions=[
            {
                "text": "A cat and a dog.",
                "phrases": [
                    {"start": 0, "end": 5, "objects": [0]},
                    {"start": 10, "end": 15, "objects": [1, 2]},
                ],
            }
        ],
        absent=["horse"],
        salient=1,
    )
    sample = reading.sample
    assert sample is not None
    assert reading.problems == ()
    assert sample.id == "jsonl/image-000004"
    assert sample.image == tmp_path / "000004.png"
    assert len(sample.instances) == 5
    assert sample.relations[0].predicate == "next to"
    assert sample.absent_categories == ("horse",)
    assert sample.salient == 1
    first, second = sample.captions[0].phrases
    assert (first.text, second.text) == ("A cat", "a dog")
    assert first.boxes == (sample.instances[0].box,)
    assert second.masks == (sample.instances[1].mask, sample.instances[2].mask)
    assert sample.questions[0].answer == "yes"


def test_a_missing_size_is_read_from_the_image(tmp_path: Path) -> None:
    Image.new("RGB", (50, 40)).save(tmp_path / "a.png")
    (reading, missing) = read(tmp_path, {"image": "a.png"}, {"image": "b.png"})
    assert isinstance(reading, Reading)
    assert reading.sample is not None
    assert tuple(reading.sample.size) == (40, 50)
    assert isinstance(missing, Reading)
    assert [problem.code for problem in missing.problems] == ["image_missing"]


def test_boxes_may_be_given_by_width_and_height(tmp_path: Path) -> None:
    reading = one(
        tmp_path,
        box_format="xywh",
        objects=[{"category": "cat", "box": [10, 20, 30, 40]}],
        expressions=[],
        relations=[],
        questions=[],
    )
    assert reading.sample is not None
    assert reading.sample.instances[0].box.to_xywh() == (10, 20, 30, 40)


@pytest.mark.parametrize(
    ("changes", "code", "where"),
    [
        ({"relations": [[0, "on"]]}, "bad_record", "relations[0]"),
        ({"relations": [[0, "on", 99]]}, "unknown_annotation", "relations[0]"),
        ({"expressions": [{"text": "", "objects": []}]}, "bad_text", "expressions[0]"),
        ({"expressions": [{"text": "it", "objects": [0], "family": "x"}]}, "bad_record", "expressions[0]"),
        ({"captions": [{"text": "A cat", "phrases": [{"start": 3, "end": 99, "objects": []}]}]}, "span_damaged", "captions[0]"),
        ({"captions": [{"text": "A b c", "phrases": [{"start": 0, "end": 3, "objects": []}, {"start": 2, "end": 5, "objects": []}]}]}, "span_damaged", "captions[0]"),
        ({"captions": ["\ud800"]}, "bad_encoding", "captions[0]"),
        ({"captions": ["a\x00b"]}, "bad_text", "captions[0]"),
        ({"questions": [{"question": "?", "answer": 3}]}, "bad_record", "questions[0]"),
        ({"questions": [{"question": "?", "answer": "x", "region": {"point": [900, 1]}}]}, "box_outside", "questions[0]"),
        ({"questions": [{"question": "?", "answer": "x", "region": {}}]}, "bad_record", "questions[0]"),
        ({"absent": [3]}, "bad_record", "absent[0]"),
    ],
)  # fmt: skip
def test_a_part_of_a_line_that_is_wrong_is_left_out_and_named(
    tmp_path: Path, changes: dict[str, Any], code: str, where: str
) -> None:
    reading = one(tmp_path, **changes)
    assert reading.sample is not None
    # all the objects are there
    assert reading.sample.exhaustive
    assert [problem.code for problem in reading.problems] == [code]
    assert reading.problems[0].place == f"mine.jsonl: line 1, {where}"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"colour": "red"}, "bad_record"),
        ({"box_format": "yxyx"}, "bad_record"),
        ({"objects": 3}, "bad_record"),
        ({"exhaustive": "yes"}, "bad_record"),
        ({"salient": 77}, "unknown_annotation"),
        ({"image": None}, "bad_record"),
        ({"width": 1.5}, "bad_number"),
    ],
)
def test_a_line_that_is_wrong_as_a_whole_is_left_out(
    tmp_path: Path, changes: dict[str, Any], code: str
) -> None:
    reading = one(tmp_path, **changes)
    assert reading.sample is None
    assert [problem.code for problem in reading.problems] == [code]


def test_a_line_without_an_image_is_a_problem_of_the_file(tmp_path: Path) -> None:
    found = read(tmp_path, "[]", '{"a": 1}', '{"image": "a.png"')
    assert [one.code for one in found if isinstance(one, RecordProblem)] == [
        *("bad_record", "bad_record", "bad_json"),
    ]


def test_two_lines_of_one_id_are_both_left_out(tmp_path: Path) -> None:
    source = open_jsonl(write_lines(tmp_path / "mine.jsonl", [line(1), line(1)]))
    parts = [part for part in source.parts() if isinstance(part, Part)]
    reading = source.sample(parts[0].key, parts)
    assert reading.sample is None
    assert "line 1" in reading.problems[0].detail
    assert "line 2" in reading.problems[0].detail


def test_texts_are_kept_unchanged(tmp_path: Path) -> None:
    text = "the <REF> </Phrase> [VPT] “x” — 漢字 🙂"
    reading = one(tmp_path, expressions=[{"text": text, "objects": [0]}])
    assert reading.sample is not None
    assert reading.sample.expressions[0].text == text


def test_there_has_to_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="expected a JSON-lines file"):
        open_jsonl(tmp_path / "none.jsonl")
    assert json.dumps(line(1))

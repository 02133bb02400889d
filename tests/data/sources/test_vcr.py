"""Questions of VCR."""

from pathlib import Path
from typing import Any

import pytest
from data.sources.pictures import picture
from data.sources.reading import codes, collect, notes, samples, write_json, write_lines

from deixis.data.sources.vcr import open_vcr
from deixis.errors import AnnotationError
from deixis.geometry import Box


def _line(number: int, **more: Any) -> dict[str, Any]:
    return {
        "movie": "m",
        "objects": ["person", "person", "cup"],
        "img_fn": "lsmdc/a.jpg",
        "metadata_fn": "lsmdc/a.json",
        "question": ["Why", "is", [0], "pointing", "at", [1, 2], "?"],
        "answer_choices": [
            ["He", "does", "n't", "know", [1], "."],
            [[0], "'s", "hand", "is", "(", "very", ")", "cold", ",", "too", "."],
            ["a"],
            ["b"],
        ],
        "answer_label": 1,
        "rationale_choices": [["Since", [2], "is", "full", "."], ["c"], ["d"], ["e"]],
        "rationale_label": 0,
        "annot_id": f"train-{number}",
        **more,
    }


def _world(folder: Path, *lines: object, **metadata: Any) -> Path:
    write_lines(folder / "train.jsonl", lines)
    content = {
        "boxes": [[1, 1, 20, 40, 0.99], [30, 1, 60, 40, 0.98], [5, 5, 10, 10, 0.5]],
        "segms": [[[[1, 1], [20, 1], [20, 40]]], [], [[[5, 5], [6, 6]]]],
        "names": ["person", "person", "cup"],
        "width": 64,
        "height": 48,
        **metadata,
    }
    write_json(folder / "vcr1images" / "lsmdc" / "a.json", content)
    picture(folder / "vcr1images" / "lsmdc" / "a.jpg")
    return folder


def test_tags_become_places_and_tokens_a_text(tmp_path: Path) -> None:
    source = open_vcr(_world(tmp_path, _line(1)))
    (sample,) = samples(source).values()
    (question,) = sample.questions
    assert question.question == "Why is <region 0> pointing at <region 1> and <region 2>?"
    assert question.answer == "<region 0>'s hand is (very) cold, too."
    assert question.options[0] == "He doesn't know <region 1>."
    assert question.rationale == "Since <region 2> is full."
    assert (question.kind, question.instance) == ("regions", 0)
    first, second, _ = sample.instances
    assert first.box == Box(1, 1, 20, 40)
    assert first.mask is not None
    assert second.mask is None
    assert notes(collect(source)) == {"polygon_thin": 1}


def test_questions_without_tags_are_plain_choices(tmp_path: Path) -> None:
    words = [["yes"], ["no"], ["maybe"], ["never"]]
    line = _line(1, question=["Is", "it", "?"], answer_choices=words, rationale_choices=words)
    (sample,) = samples(open_vcr(_world(tmp_path, line))).values()
    (question,) = sample.questions
    assert (question.kind, question.instance, question.answer) == ("choice", None, "no")


def test_hostile_lines_are_problems(tmp_path: Path) -> None:
    lines: list[object] = [
        _line(1),
        _line(1),
        _line(2, answer_label=4),
        _line(3, question=["Why", [3], "?"]),
        _line(4, question=["Why", [0.5], "?"]),
        _line(5, question=["<region", "0>", "?"]),
        _line(6, question=[]),
        _line(7, answer_choices=None),
        {key: value for key, value in _line(8).items() if key != "answer_label"},
        _line(9, img_fn="lsmdc/../b.jpg"),
        _line(10, img_fn="lsmdc/b.jpg", metadata_fn="/etc/passwd"),
        _line(11, img_fn="lsmdc/c.jpg", metadata_fn="lsmdc/c.json"),
        _line(12, img_fn="lsmdc/d.jpg", objects=["person"]),
        "line",
    ]
    readings = collect(open_vcr(_world(tmp_path, *lines)))
    assert codes(readings) == {
        "duplicate_annotation": 1,
        "bad_record": 6,
        "unknown_annotation": 1,
        "bad_number": 1,
        "bad_text": 2,
        "path_escape": 2,
    }
    sample = readings["lsmdc/a.jpg"].sample
    assert sample is not None
    assert len(sample.questions) == 1


def test_questions_about_an_object_that_is_not_sound_are_problems(tmp_path: Path) -> None:
    boxes = [[1, 1, float("nan"), 40, 1], [30, 1, 60, 40, 1], [5, 5, 10, 10, 1]]
    folder = _world(tmp_path, _line(1), boxes=boxes, segms=None)
    assert codes(collect(open_vcr(folder))) == {"bad_number": 1, "unknown_annotation": 1}
    with pytest.raises(AnnotationError, match=r"val\.jsonl"):
        open_vcr(folder, split="val")

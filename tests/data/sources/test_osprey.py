"""Descriptions of masks."""

import json
from pathlib import Path

import pytest
from data.sources.pictures import linked, picture
from data.sources.reading import codes, collect, samples, write_json

from deixis.data.sources.osprey import open_osprey
from deixis.errors import AnnotationError
from deixis.geometry import Box, Mask

_SQUARE = [[10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]]


def _question(number: int, **more: object) -> dict[str, object]:
    return {
        "question_id": number,
        "image": "a.jpg",
        "category": "description",
        "text": "What is shown at <region>?",
        "annotation": {"bbox": [10, 10, 20, 20], "segmentation": _SQUARE},
        **more,
    }


def test_questions_meet_their_answers(tmp_path: Path) -> None:
    box = _question(2, category="reason", annotation={"bbox": [1, 2, 3, 4], "segmentation": []})
    write_json(tmp_path / "questions.json", [_question(1), box])
    rows = [{"question_id": number, "image": "a.jpg", "text": f"A {number}."} for number in (2, 1)]
    write_json(tmp_path / "answers.json", rows)
    picture(tmp_path / "a.jpg")
    (sample,) = samples(open_osprey(tmp_path)).values()
    described, reasoned = sample.questions
    assert (described.kind, described.answer) == ("detail", "A 1.")
    assert isinstance(described.region, Mask)
    assert described.region.area == 400
    assert (reasoned.kind, reasoned.region) == ("reason", Box(1, 2, 4, 6))


def test_hostile_questions_are_problems(tmp_path: Path) -> None:
    wrong: list[object] = [
        _question(1, annotation={"segmentation": [[0, 0, float("nan"), 1, 2, 2]]}),
        _question(2, annotation={"bbox": [0.1, 0.1, 0.2, 0.2]}),
        _question(3, text="What is it?"),
        _question(4, annotation=None),
        _question(5, image="../a.jpg"),
        _question(6),
        _question(7, image="gone.jpg"),
        "question",
    ]
    write_json(tmp_path / "questions.json", [_question(0), *wrong])
    rows = [
        {"question_id": number, "image": "a.jpg", "text": "It."} for number in (0, 1, 2, 3, 4, 9)
    ]
    write_json(tmp_path / "answers.json", rows)
    picture(tmp_path / "a.jpg")
    readings = collect(open_osprey(tmp_path))
    assert codes(readings) == {
        "mask_damaged": 1,
        "box_layout": 1,
        "bad_text": 1,
        "bad_record": 2,
        "path_escape": 1,
        "unknown_annotation": 2,
        "image_missing": 1,
    }
    sample = readings["a.jpg"].sample
    assert sample is not None
    assert len(sample.questions) == 1


def test_conversations_name_their_regions_by_number(tmp_path: Path) -> None:
    turns = [
        ("human", "What is <region1> doing to <region2>?"),
        ("gpt", "It eats it."),
        ("human", "What colour is <region2>?"),
        ("gpt", "Green, as is <region1>."),
        ("human", "What colour is <region1>?"),
        ("gpt", "Brown."),
        ("human", "Is it day?"),
        ("gpt", "Yes."),
    ]
    record = {
        "file_name": "COCO_train2014_000000000009.jpg",
        "width": 64,
        "height": 48,
        "annotation": [{"segmentation": _SQUARE, "bbox": [10, 10, 20, 20]}, {"bbox": [0, 0, 9, 9]}],
        "conversations": [{"from": who, "value": text} for who, text in turns],
    }
    missing = {**record, "conversations": [{"from": "human", "value": "<region3>?"}, turns[1]]}
    beyond = [{"from": "human", "value": "What is <region3>?"}, {"from": "gpt", "value": "It."}]
    write_json(tmp_path / "osprey.json", [record, missing, {**record, "conversations": beyond}])
    picture(tmp_path / "000000000009.jpg")
    readings = collect(open_osprey(tmp_path / "osprey.json"))
    assert codes(readings) == {"bad_record": 1, "unknown_annotation": 1}
    (sample,) = [one.sample for one in readings.values() if one.sample is not None]
    assert sample.image == tmp_path / "000000000009.jpg"
    asked = [(one.kind, one.question, one.answer) for one in sample.questions]
    assert len(sample.instances) == 6
    first = sample.questions[0].instance
    assert first is not None
    assert asked == [
        ("regions", f"What is <region {first}> doing to <region {first + 1}>?", "It eats it."),
        ("regions", f"What colour is <region {first + 1}>?", f"Green, as is <region {first}>."),
        ("region", "What colour is <region>?", "Brown."),
        ("vqa", "Is it day?", "Yes."),
    ]


def test_descriptions_of_regions_are_about_instances(tmp_path: Path) -> None:
    record = {
        "file_name": "a.jpg",
        "width": 64,
        "height": 48,
        "annotation": [{"segmentation": _SQUARE}, {"segmentation": []}],
        "description": ["<region1>: A red square: plain."],
    }
    write_json(tmp_path / "osprey.json", [record])
    picture(tmp_path / "a.jpg")
    readings = collect(open_osprey(tmp_path / "osprey.json"))
    sample = readings["a.jpg"].sample
    assert sample is not None
    (question,) = sample.questions
    assert (question.kind, question.instance) == ("description", 0)
    assert question.answer == "A red square: plain."
    assert codes(readings) == {"bad_record": 1}


def test_questions_without_a_file_of_answers_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "only.json", [_question(1)])
    with pytest.raises(AnnotationError, match="no answers"):
        open_osprey(tmp_path / "only.json")


def test_an_image_that_is_stored_turned_is_not_guessed_at(tmp_path: Path) -> None:
    write_json(tmp_path / "questions.json", [_question(1)])
    write_json(tmp_path / "answers.json", [{"question_id": 1, "image": "a.jpg", "text": "It."}])
    picture(tmp_path / "a.jpg", orientation=6)
    assert codes(collect(open_osprey(tmp_path))) == {"orientation_ambiguous": 1}


@pytest.mark.shared_data
def test_true_questions_of_osprey_are_read_whole(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "formats" / "osprey" / "osprey" / "eval" / "description"
    names = [row["image"] for row in json.loads((folder / "questions.json").read_text())]
    sizes = {
        row["image"]: (row["width"], row["height"])
        for row in json.loads((folder / "prompt.json").read_text())
    }
    for name in names:
        picture(tmp_path / name, *sizes[name])
    found = samples(open_osprey(folder, images=tmp_path))
    asked = [question for sample in found.values() for question in sample.questions]
    assert len(asked) == 80
    masks = [question.region for question in asked if isinstance(question.region, Mask)]
    assert len(masks) == 80
    assert min(mask.area for mask in masks) > 100


@pytest.mark.shared_data
def test_true_boxes_of_ferret_bench_are_regions(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "formats" / "osprey" / "osprey" / "eval" / "ferret-bench"
    path = folder / "box_refer_reason.json"
    rows = json.loads(path.read_text())
    said = [
        {"question_id": row["question_id"], "image": row["image"], "text": "So."} for row in rows
    ]
    answers = write_json(tmp_path / "answers.json", said)
    images = linked(tmp_path / "images", (row["image"] for row in rows), width=640, height=640)
    found = samples(open_osprey(path, answers=answers, images=images))
    asked = [question for sample in found.values() for question in sample.questions]
    assert len(asked) == 40
    assert {question.kind for question in asked} == {"reason"}

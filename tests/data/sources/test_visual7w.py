"""Questions of Visual7W."""

from pathlib import Path
from typing import Any

from data.sources.pictures import picture
from data.sources.reading import codes, collect, notes, samples, write_json

from deixis.data.sources.reading.slots import places_in
from deixis.data.sources.visual7w import open_visual7w
from deixis.geometry import Box


def _pair(number: int, question: str, answer: object, *others: object) -> dict[str, Any]:
    return {
        "qa_id": number,
        "question": question,
        "answer": answer,
        "multiple_choices": list(others),
        "type": "which",
    }


def _image(number: int, *pairs: object, split: str = "train") -> dict[str, Any]:
    return {
        "image_id": number,
        "filename": f"v7w_{number}.jpg",
        "split": split,
        "qa_pairs": list(pairs),
    }


def _box(number: object, x: object, y: object, width: object, height: object) -> dict[str, Any]:
    return {"box_id": number, "name": "pillow", "x": x, "y": y, "width": width, "height": height}


def test_telling_questions_have_choices_in_random_order(tmp_path: Path) -> None:
    pairs = [
        _pair(1, "What is it?", "Trees.", "Cats.", "Buses.", "Zebras."),
        _pair(2, "Who is it?", "A man.", "Nobody."),
    ]
    write_json(tmp_path / "telling.json", {"dataset": "visual7w", "images": [_image(7, *pairs)]})
    picture(tmp_path / "images" / "v7w_7.jpg")
    (sample,) = samples(open_visual7w(tmp_path / "telling.json")).values()
    first, second = sample.questions
    assert (first.answer, first.kind) == ("Trees.", "choice")
    assert first.options == ("Buses.", "Cats.", "Trees.", "Zebras.")
    assert second.options == ("A man.", "Nobody.")
    assert sample.split == "train"


def test_pointing_chooses_one_of_four_boxes(tmp_path: Path) -> None:
    boxes = [_box(number, number, 5, 10, 10) for number in (30, 10, 20, 40, 50)]
    images = [
        _image(7, _pair(1, "Which pillow is nearest?", 30, 10, 20, 40)),
        _image(8, _pair(2, "Which one is it?", 50, 50), split="test"),
    ]
    write_json(tmp_path / "pointing.json", {"boxes": boxes, "images": images})
    picture(tmp_path / "v7w_7.jpg")
    picture(tmp_path / "v7w_8.jpg")
    found = samples(open_visual7w(tmp_path / "pointing.json", split="train"))
    assert list(found) == ["v7w_7.jpg"]
    sample = found["v7w_7.jpg"]
    (question,) = sample.questions
    assert question.kind == "which"
    assert question.instance is not None
    assert sample.instances[question.instance].box == Box(30, 5, 40, 15)
    assert places_in(question.answer) == (question.instance,)
    candidates = [index for option in question.options for index in places_in(option)]
    assert [sample.instances[index].box.x1 for index in candidates] == [10, 20, 30, 40]
    assert len(samples(open_visual7w(tmp_path / "pointing.json"))) == 2


def test_images_may_come_before_the_boxes_and_boxes_begin_outside(tmp_path: Path) -> None:
    images = [_image(7, _pair(1, "Which?", 1, 2))]
    boxes = [_box(1, -1, 0, 10, 10), _box(2, 0, 0, 64, 48), _box(99, 0, 0, 5, 5)]
    write_json(tmp_path / "pointing.json", {"images": images, "boxes": boxes})
    picture(tmp_path / "v7w_7.jpg")
    readings = collect(open_visual7w(tmp_path / "pointing.json"))
    assert codes(readings) == {}
    assert notes(readings) == {"box_clipped": 1}
    sample = readings["v7w_7.jpg"].sample
    assert sample is not None
    assert len(sample.instances) == 2


def test_hostile_boxes_and_questions_are_problems(tmp_path: Path) -> None:
    images = [
        _image(
            7,
            _pair(1, "Which?", 1, 2),
            _pair(2, "Which?", 3, 4),
            _pair(3, "Which?", 5, 6),
            _pair(4, "Which?", 1.5, 2),
            _pair(5, "", 1, 2),
            {"question": "Which?", "answer": 1},
            "pair",
        ),
        {"filename": "../v7w_8.jpg", "qa_pairs": []},
        {"filename": "v7w_9.jpg", "qa_pairs": None},
        {"qa_pairs": []},
    ]
    boxes = [
        _box(1, 1, 1, 10, 10),
        _box(2, 20, 1, 10, 10),
        _box(3, 20, 1, 0, 10),
        _box(4, 20, "1", 10, 10),
        _box(5, 2000, 1, 10, 10),
        _box(1, 1, 1, 10, 10),
        _box("1", 1, 1, 10, 10),
    ]
    write_json(tmp_path / "pointing.json", {"boxes": boxes, "images": images})
    picture(tmp_path / "v7w_7.jpg")
    readings = collect(open_visual7w(tmp_path / "pointing.json"))
    assert codes(readings) == {
        "box_degenerate": 1,
        "bad_number": 3,
        "box_outside": 1,
        "duplicate_annotation": 1,
        "unknown_annotation": 2,
        "bad_text": 1,
        "bad_record": 3,
        "path_escape": 1,
        "image_missing": 1,
    }
    sample = readings["v7w_7.jpg"].sample
    assert sample is not None
    assert len(sample.questions) == 1

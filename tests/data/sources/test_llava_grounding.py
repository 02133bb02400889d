"""Conversations that point at COCO's annotations."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.sources.reading import codes, collect, notes, samples, write_json

from deixis.data.sources.llava_grounding import open_llava_grounding
from deixis.data.tasks import DEFAULT_RULES, TASKS
from deixis.errors import AnnotationError
from deixis.structures import GroundedText


def _turns(*texts: str) -> list[dict[str, str]]:
    speakers = ("human", "gpt") * len(texts)
    return [{"from": who, "value": text} for who, text in zip(speakers, texts, strict=False)]


def _world(folder: Path, *records: object, last: object = 50) -> Path:
    def annotation(number: int, x: object) -> dict[str, Any]:
        box = [x, 10, 10, 10]
        return {"id": number, "image_id": 42, "category_id": 1, "bbox": box, "iscrowd": 0}

    instances = {
        "images": [
            {"id": 42, "file_name": "42.jpg", "width": 64, "height": 48},
            {"id": 43, "file_name": "43.jpg", "width": 64, "height": 48},
        ],
        "annotations": [annotation(7, 10), annotation(8, 30), annotation(9, last)],
        "categories": [{"id": 1, "name": "person"}],
    }
    write_json(folder / "instances_train2017.json", instances)
    return write_json(folder / "conversations.json", list(records))


def test_requests_are_answered_by_captions_that_point(tmp_path: Path) -> None:
    record = {
        "id": "000000000042",
        "conversations": _turns(
            "<image>\nDescribe the image. (with grounding)",
            " <g_s> Two men <g_e> <seg> and <g_s> a dog <g_e> <seg>, <g_s> one <g_e> .",
        ),
        "gd_ls": [[8, 7, 8], None],
    }
    (sample,) = samples(open_llava_grounding(_world(tmp_path, record))).values()
    (caption,) = sample.captions
    assert caption.text == "Two men and a dog, one ."
    (phrase,) = caption.phrases
    assert phrase.text == "Two men"
    assert [box.x1 for box in phrase.boxes] == [30, 10]
    (question,) = sample.questions
    assert (question.question, question.answer) == ("Describe the image.", caption.text)


def test_the_turns_of_a_talk_point(tmp_path: Path) -> None:
    record = {
        "id": 42,
        "conversations": _turns("Who is it?", "<g_s> A man <g_e> <seg>.", "Is it day?", "Yes."),
        "gd_ls": [[7]],
    }
    readings = collect(open_llava_grounding(_world(tmp_path, record)))
    assert not notes(readings)
    sample = readings["42"].sample
    assert sample is not None
    assert not sample.captions
    asked = [(one.question, one.answer, one.kind) for one in sample.questions]
    assert asked == [("Who is it?", "A man.", "dialogue"), ("Is it day?", "Yes.", "dialogue")]
    first, second = sample.questions
    assert [(one.text, [box.x1 for box in one.boxes]) for one in first.phrases] == [("A man", [10])]
    assert not second.phrases
    turns = TASKS["conversation"].make(sample, np.random.default_rng(0), DEFAULT_RULES)
    assert [turn.answer for turn in turns] == [
        GroundedText("A man.", first.phrases),
        GroundedText("Yes."),
    ]
    # alone, the second makes no sense
    asked_alone = {
        TASKS["vqa"].make(sample, np.random.default_rng(seed), DEFAULT_RULES)[0].question
        for seed in range(9)
    }
    assert asked_alone == {("Who is it?",)}


def test_hostile_conversations_are_problems(tmp_path: Path) -> None:
    def record(answer: str, grounds: object, number: object = "42") -> dict[str, Any]:
        return {"id": number, "conversations": _turns("Who?", answer), "gd_ls": grounds}

    path = _world(
        tmp_path,
        record("<g_s> A man <g_e> <seg>", [[9]]),
        record("<g_s> A man <g_e> <seg>", [[1000]]),
        record("<g_s> A man <g_e> <seg>", []),
        record("<g_s> A man <g_e> <seg>", 7),
        record("<g_s> <g_e>", None),
        record("A man", None, "44"),
        record("A man", None, None),
        {"id": "42"},
        last="x",
    )
    readings = collect(open_llava_grounding(path))
    assert codes(readings) == {
        "unknown_annotation": 2,
        "bad_record": 3,
        "bad_text": 1,
        "bad_number": 2,
        "unknown_image": 1,
    }


def test_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="name the file of instances"):
        open_llava_grounding(tmp_path / "conversations.json")
    with pytest.raises(AnnotationError, match="expected a file"):
        open_llava_grounding(tmp_path / "a.json", instances=tmp_path / "b.json")

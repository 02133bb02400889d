"""Conversations in LLaVA's form."""

from pathlib import Path

import pytest
from data.sources.pictures import picture
from data.sources.reading import codes, collect, samples, write_json, write_lines

from deixis.data.sources.llava import open_llava
from deixis.data.sources.reading.turns import without_placeholder
from deixis.errors import AnnotationError


def _record(*values: object, image: object = "coco/1.jpg") -> dict[str, object]:
    speakers = ("human", "gpt") * len(values)
    turns = [{"from": who, "value": value} for who, value in zip(speakers, values, strict=False)]
    return {"id": "1", "image": image, "conversations": turns}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<image>\nWhat is this?", "What is this?"),
        ("What is this?\n<image>", "What is this?"),
        ("<image>What is <image>?", "What is <image>?"),
        ("What does <image> mean in HTML?", "What does <image> mean in HTML?"),
        ("<image>\n<image>", "<image>"),
        ("<image> <REF> </Phrase>", "<REF> </Phrase>"),
    ],
)
def test_the_image_placeholder_is_removed_once(text: str, left: str) -> None:
    assert without_placeholder(text) == left


def test_turns_keep_their_order_and_conversations_are_separate_samples(tmp_path: Path) -> None:
    rows = [
        _record("<image>\nWhat is it?", "A bus.", "What colour?", "Red, <image> says."),
        _record("Is it day?\n<image>", "Yes."),
    ]
    write_json(tmp_path / "llava_instruct_150k.json", rows)
    picture(tmp_path / "coco" / "1.jpg")
    found = list(samples(open_llava(tmp_path)).values())
    assert len({sample.id for sample in found}) == 2
    said = {
        tuple((one.question, one.answer, one.kind) for one in sample.questions) for sample in found
    }
    assert said == {
        (("What is it?", "A bus.", "dialogue"), ("What colour?", "Red, <image> says.", "dialogue")),
        (("Is it day?", "Yes.", "dialogue"),),
    }


def test_answers_can_be_captions(tmp_path: Path) -> None:
    rows = [_record("<image>", "A red bus on a street.", image="1.jpg")]
    write_lines(tmp_path / "chat.jsonl", rows)
    picture(tmp_path / "images" / "1.jpg")
    (sample,) = samples(open_llava(tmp_path / "chat.jsonl", captions=True)).values()
    assert [caption.text for caption in sample.captions] == ["A red bus on a street."]
    assert not sample.questions
    assert codes(collect(open_llava(tmp_path / "chat.jsonl"))) == {"bad_text": 1}


def test_hostile_conversations_are_problems(tmp_path: Path) -> None:
    wrong_speaker = _record("What?", "That.")
    wrong_speaker["conversations"] = [{"from": "gpt", "value": "That."}] * 2
    rows = [
        _record("What?", "That.", "And?"),
        _record("What?", ""),
        _record("What?", None),
        wrong_speaker,
        _record(),
        _record("What?", "That.", image="/etc/passwd"),
        _record("What?", "That.", image=["1.jpg", "2.jpg"]),
        _record("What?", "\ud800"),
        _record("What?", "That."),
        _record("What?", "That."),
        "record",
    ]
    no_image = _record("What?", "That.")
    del no_image["image"]
    write_json(tmp_path / "chat.json", [*rows, no_image])
    picture(tmp_path / "coco" / "1.jpg")
    readings = collect(open_llava(tmp_path / "chat.json"))
    assert codes(readings) == {
        "bad_record": 6,
        "bad_text": 1,
        "path_escape": 1,
        "bad_encoding": 1,
        "duplicate_annotation": 1,
    }
    assert len([one for one in readings.values() if one.sample is not None]) == 1


def test_a_folder_without_conversations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="expected a file of conversations"):
        open_llava(tmp_path)

"""Questions about diagrams, charts and documents."""

from pathlib import Path

import pytest
from data.sources.pictures import picture
from data.sources.reading import codes, collect, samples, write_json

from deixis.data.sources.diagrams import (
    open_ai2d,
    open_docvqa,
    open_dvqa,
    open_iconqa,
    open_scienceqa,
)
from deixis.errors import AnnotationError


def test_iconqa_is_read_from_its_folders(tmp_path: Path) -> None:
    root = tmp_path / "train"
    chosen = {
        "question": "How many flowers are there?",
        "choices": ["4", "1", "5"],
        "answer": 2,
        "ques_type": "choose_txt",
    }
    write_json(root / "choose_txt" / "12" / "data.json", chosen)
    picture(root / "choose_txt" / "12" / "image.png")
    filled = {"question": "The key is about _ inches long.", "answer": "3"}
    write_json(root / "fill_in_blank" / "9" / "data.json", filled)
    picture(root / "fill_in_blank" / "9" / "image.png")
    write_json(root / "choose_img" / "1" / "data.json", {"question": "Which?"})
    found = samples(open_iconqa(tmp_path))
    assert list(found) == ["choose_txt/12/image.png", "fill_in_blank/9/image.png"]
    asked = [question for sample in found.values() for question in sample.questions]
    assert [(question.kind, question.answer) for question in asked] == [
        ("choice", "5"),
        ("vqa", "3"),
    ]


def test_damaged_folders_of_iconqa_are_problems(tmp_path: Path) -> None:
    root = tmp_path / "train" / "choose_txt"
    (root / "1").mkdir(parents=True)
    write_json(root / "2" / "data.json", {"question": "Which?", "choices": "ab", "answer": 0})
    write_json(root / "3" / "data.json", [])
    (root / "4").mkdir()
    (root / "4" / "data.json").write_bytes(b'{"question": "\xff"}')
    for number in range(1, 5):
        picture(root / str(number) / "image.png")
    readings = collect(open_iconqa(tmp_path))
    assert codes(readings) == {"bad_record": 3, "bad_encoding": 1}


def test_dvqa_is_read_from_its_list(tmp_path: Path) -> None:
    rows = [
        {
            "image": "bar_train_00000001.png",
            "question": "What is the value of the first bar?",
            "question_id": 1,
            "answer": 4,
            "answer_bbox": [],
        },
        {"image": "bar_train_00000001.png", "question": "Which?", "question_id": 2, "answer": "a"},
        {"image": "bar_train_00000001.png", "question": "Which?", "question_id": 3, "answer": None},
    ]
    write_json(tmp_path / "train_qa.json", rows)
    picture(tmp_path / "images" / "bar_train_00000001.png")
    readings = collect(open_dvqa(tmp_path))
    sample = readings["bar_train_00000001.png"].sample
    assert sample is not None
    assert [question.answer for question in sample.questions] == ["4", "a"]
    assert codes(readings) == {"bad_number": 1}


def test_docvqa_is_read_from_its_object(tmp_path: Path) -> None:
    rows = [
        {
            "questionId": 337,
            "question": "what is the date mentioned in this letter?",
            "image": "documents/xnbl0037_1.png",
            "docId": 279,
            "answers": ["1/8/93", "8 January"],
        },
        {"questionId": 338, "question": "who?", "image": "documents/xnbl0037_1.png", "answers": []},
    ]
    head = {"dataset_name": "docvqa", "dataset_split": "train"}
    write_json(tmp_path / "train_v1.0.json", {**head, "data": rows})
    picture(tmp_path / "documents" / "xnbl0037_1.png")
    readings = collect(open_docvqa(tmp_path))
    sample = readings["documents/xnbl0037_1.png"].sample
    assert sample is not None
    assert [question.answer for question in sample.questions] == ["1/8/93"]
    assert codes(readings) == {"bad_text": 1}


def test_ai2d_has_a_file_for_each_image(tmp_path: Path) -> None:
    questions = {
        "What does the arrow show?": {
            "abcLabel": False,
            "answerTexts": ["rain", "sun", "wind", "snow"],
            "correctAnswer": 1,
            "questionId": "0.png-0",
        },
        "What else?": {"answerTexts": ["rain"], "correctAnswer": 7},
    }
    path = tmp_path / "questions" / "0.png.json"
    write_json(path, {"imageName": "0.png", "questions": questions})
    write_json(tmp_path / "questions" / "1.png.json", {"imageName": "/etc/1.png", "questions": {}})
    picture(tmp_path / "images" / "0.png")
    readings = collect(open_ai2d(tmp_path))
    sample = readings["0.png"].sample
    assert sample is not None
    (question,) = sample.questions
    assert (question.answer, question.options[3]) == ("sun", "snow")
    assert codes(readings) == {"bad_record": 1, "path_escape": 1}


def test_scienceqa_sets_the_hint_before_the_question(tmp_path: Path) -> None:
    problem = {
        "question": "Which is larger?",
        "choices": ["West Virginia", "Louisiana"],
        "answer": 1,
        "hint": "Look at the map.",
        "image": "image.png",
        "split": "train",
        "solution": "Louisiana is larger.",
    }
    problems = {
        "1": problem,
        "2": {**problem, "image": None},
        "3": {**problem, "split": "val"},
        "4": {**problem, "hint": "", "answer": -1},
        "5": 7,
    }
    write_json(tmp_path / "problems.json", problems)
    for number in "1345":
        picture(tmp_path / "images" / "train" / number / "image.png")
    readings = collect(open_scienceqa(tmp_path, split="train"))
    sample = readings["train/1/image.png"].sample
    assert sample is not None
    (question,) = sample.questions
    assert question.question == "Look at the map.\nWhich is larger?"
    assert (question.answer, question.rationale) == ("Louisiana", "Louisiana is larger.")
    assert (sample.split, sample.id) == ("train", "scienceqa/train/1/image.png")
    assert set(readings) == {"", "train/1/image.png", "train/4/image.png"}
    assert codes(readings) == {"bad_record": 2}


def test_folders_without_the_files_are_refused(tmp_path: Path) -> None:
    for opener in (open_iconqa, open_dvqa, open_docvqa, open_ai2d, open_scienceqa):
        with pytest.raises(AnnotationError, match="expected"):
            opener(tmp_path)

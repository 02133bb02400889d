"""Questions about photographs."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
from data.sources.pictures import linked, picture
from data.sources.reading import codes, collect, samples, write_json, write_lines

from deixis.data.scenes.export import write_scenes
from deixis.data.sources.base import Source
from deixis.data.sources.reading.questions import majority
from deixis.data.sources.vqa import open_aokvqa, open_gqa, open_pope, open_vqa, open_vsr
from deixis.errors import AnnotationError


def _answers(*texts: object) -> list[dict[str, object]]:
    return [{"answer": text, "answer_confidence": "yes"} for text in texts]


def _vqa(folder: Path, questions: object, annotations: object) -> Path:
    head = {"data_subtype": "val2014"}
    write_json(
        folder / "v2_OpenEnded_mscoco_val2014_questions.json", {**head, "questions": questions}
    )
    write_json(folder / "v2_mscoco_val2014_annotations.json", {**head, "annotations": annotations})
    picture(folder / "val2014" / "COCO_val2014_000000000042.jpg")
    return folder


def test_exported_vqav2_reads_back(tmp_path: Path) -> None:
    write_scenes(tmp_path, split="val", count=3, format="vqav2", seed=4)
    found = samples(open_vqa(tmp_path))
    questions = json.loads((tmp_path / "v2_OpenEnded_scenes_val_questions.json").read_text())
    assert sum(len(sample.questions) for sample in found.values()) == len(questions["questions"])
    assert {str(sample.image) for sample in found.values()} == {
        str(path) for path in (tmp_path / "val").glob("*.png")
    }
    assert all(sample.split == "val" and not sample.exhaustive for sample in found.values())


def test_the_answer_that_most_people_gave_counts(tmp_path: Path) -> None:
    folder = _vqa(
        tmp_path,
        [{"image_id": 42, "question": "How many? ", "question_id": 420}],
        [
            {
                "image_id": 42,
                "question_id": 420,
                "answers": _answers("two", "2", "2", "", ""),
                "multiple_choice_answer": "2",
            }
        ],
    )
    (sample,) = samples(open_vqa(folder)).values()
    (question,) = sample.questions
    assert (question.question, question.answer, question.kind) == ("How many?", "2", "vqa")
    assert sample.id == "vqa/COCO_val2014_000000000042.jpg"
    assert sample.size.width == 64


def test_of_answers_given_as_often_the_preferred_one_counts() -> None:
    assert majority(["red", "blue", "blue", "red"], "blue") == "blue"
    assert majority(["red", "blue", "blue", "red"], "green") == "red"


def test_questions_without_answers_and_answers_without_questions_are_problems(
    tmp_path: Path,
) -> None:
    folder = _vqa(
        tmp_path,
        [
            {"image_id": 42, "question": "Who?", "question_id": 1},
            {"image_id": 42, "question": "Why?", "question_id": 3},
            {"image_id": 42, "question": "Why?", "question_id": 3},
            {"image_id": 42, "question": float("nan"), "question_id": 4},
            {"image_id": "42", "question": "What?", "question_id": 5},
            {"image_id": 42, "question": "What?"},
        ],
        [
            {"image_id": 42, "question_id": 2, "answers": _answers("a")},
            {"image_id": 42, "question_id": 3, "answers": _answers("because")},
            {"image_id": 42, "question_id": 4, "answers": _answers("a")},
            {"image_id": 43, "question_id": 6, "answers": "a"},
        ],
    )
    readings = collect(open_vqa(folder))
    assert codes(readings) == {
        "unknown_annotation": 2,
        "duplicate_annotation": 1,
        "bad_record": 2,
        "bad_number": 1,
        "image_missing": 1,
    }
    sample = readings["COCO_val2014_000000000042.jpg"].sample
    assert sample is not None
    assert [question.answer for question in sample.questions] == ["because"]


def test_names_of_coco_2017_are_found_by_looking(tmp_path: Path) -> None:
    folder = _vqa(
        tmp_path,
        [{"image_id": 7, "question": "Who?", "question_id": 1}],
        [{"image_id": 7, "question_id": 1, "answers": _answers("a man")}],
    )
    picture(folder / "val2014" / "000000000007.jpg")
    assert list(samples(open_vqa(folder))) == ["000000000007.jpg"]


def test_a_folder_without_a_pair_of_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="expected one file"):
        open_vqa(tmp_path)
    (tmp_path / "a_questions.json").write_text("{}")
    with pytest.raises(AnnotationError, match="has no annotations"):
        open_vqa(tmp_path / "a_questions.json")


def test_aokvqa_gives_a_choice_and_an_open_question(tmp_path: Path) -> None:
    record = {
        "split": "val",
        "image_id": 5,
        "question_id": "22MexNkBPpdZGX6sxbxVBH",
        "question": "What is in the motorcyclist's mouth?",
        "choices": ["toothpick", "food", "popsicle stick", "cigarette"],
        "correct_choice_idx": 3,
        "direct_answers": ["cigarette", "cigarette", "smoke"],
        "difficult_direct_answer": False,
        "rationales": ["He is smoking.", "It glows."],
    }
    hard = {**record, "question_id": "b", "difficult_direct_answer": True, "direct_answers": []}
    wrong = {**record, "question_id": "c", "correct_choice_idx": 4}
    write_json(tmp_path / "aokvqa_v1p0_val.json", [record, hard, wrong])
    picture(tmp_path / "000000000005.jpg")
    readings = collect(open_aokvqa(tmp_path))
    assert codes(readings) == {"bad_record": 1}
    sample = readings["000000000005.jpg"].sample
    assert sample is not None
    assert [question.kind for question in sample.questions] == ["choice", "vqa", "choice"]
    chosen, said, _ = sample.questions
    assert chosen.answer == said.answer == "cigarette"
    assert chosen.options[2] == "popsicle stick"
    assert chosen.rationale == "He is smoking."


def test_gqa_is_read_from_a_folder_of_files(tmp_path: Path) -> None:
    def one(text: str) -> dict[str, object]:
        return {"imageId": "n161313", "question": text, "answer": "no", "isBalanced": True}

    write_json(tmp_path / "q" / "train_0.json", {"07333408": one("Is it?"), "2": one("Is it?")})
    write_json(tmp_path / "q" / "train_1.json", {"3": one("Was it?"), "4": {"question": "Who?"}})
    picture(tmp_path / "images" / "n161313.jpg")
    readings = collect(open_gqa(tmp_path / "q", images=tmp_path / "images"))
    sample = readings["n161313.jpg"].sample
    assert sample is not None
    assert len(sample.questions) == 3
    assert codes(readings) == {"bad_record": 1}


def test_statements_are_true_or_not(tmp_path: Path) -> None:
    rows = [
        {"image": "a.jpg", "caption": "The cat is on the mat.", "label": 1},
        {"image": "a.jpg", "caption": "The mat is on the cat.", "label": 0},
        {"image": "a.jpg", "caption": "Neither.", "label": 2},
        {"image": "a.jpg", "caption": "The mat is on the cat.", "label": 1},
        {"image": "../a.jpg", "caption": "Out.", "label": 1},
        {"image": "a.jpg", "caption": 3, "label": 1},
    ]
    write_lines(tmp_path / "train.jsonl", rows)
    picture(tmp_path / "a.jpg")
    readings = collect(open_vsr(tmp_path))
    assert codes(readings) == {"bad_record": 2, "duplicate_annotation": 1, "path_escape": 1}
    sample = readings["a.jpg"].sample
    assert sample is not None
    said = {question.question: question.answer for question in sample.questions}
    assert said["The cat is on the mat."] == "yes"
    assert {question.kind for question in sample.questions} == {"statement"}


def test_lines_in_single_quotes_are_read_as_literals_and_never_run(tmp_path: Path) -> None:
    lines = [
        '{"question_id": 1, "image": "a.jpg", "text": "Is there a dog?", "label": "yes"}',
        "{'question_id': 2, 'image': 'a.jpg', 'text': \"Is there a dog's bed?\", 'label': 'no'}",
        "{'question_id': 3, 'image': 'a.jpg', 'text': __import__('os'), 'label': 'no'}",
        "{'question_id': 4, 'image': 'a.jpg', 'text': 'Is there?', 'label': 'maybe'}",
        "{'question_id': 5, 'image': 'a.jpg', 'text': {'a', 'set'}, 'label': 'yes'}",
        "{'question_id': 6, 'image': 'a.jpg', 'text': '" + "x" * 9000 + "', 'label': 'yes'}",
        "{'question_id': 7, 'image': 'a.jpg', " + "'a': [" * 200,
        "{",
    ]
    (tmp_path / "pope.json").write_text("\n".join(lines))
    picture(tmp_path / "a.jpg")
    readings = collect(open_pope(tmp_path / "pope.json"))
    assert codes(readings) == {"bad_json": 5, "bad_record": 1}
    sample = readings["a.jpg"].sample
    assert sample is not None
    asked = [(question.question, question.answer, question.kind) for question in sample.questions]
    assert asked == [
        ("Is there a dog?", "yes", "presence"),
        ("Is there a dog's bed?", "no", "presence"),
    ]


def test_exported_pope_reads_back(tmp_path: Path) -> None:
    write_scenes(tmp_path, split="val", count=3, format="pope", seed=4)
    path = tmp_path / "scenes_pope_popular_val.json"
    found = samples(open_pope(path, images=tmp_path / "val"))
    asked = [question for sample in found.values() for question in sample.questions]
    assert len(asked) == len(path.read_text().splitlines())
    assert sum(question.answer == "yes" for question in asked) * 2 == len(asked)


def test_sources_travel_to_other_processes(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", [{"image": "a.jpg", "caption": "It is.", "label": 1}])
    picture(tmp_path / "a.jpg")
    source = open_vsr(tmp_path)
    assert isinstance(source, Source)
    assert collect(pickle.loads(pickle.dumps(source))) == collect(source)  # noqa: S301


def test_an_invalid_image_loses_its_questions(tmp_path: Path) -> None:
    rows = [
        {"image": name, "caption": "It is.", "label": 1}
        for name in ("empty.jpg", "text.jpg", "folder.jpg", "missing.jpg")
    ]
    write_lines(tmp_path / "train.jsonl", rows)
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("<html>")
    (tmp_path / "folder.jpg").mkdir()
    found = {key: one.problems[0].code for key, one in collect(open_vsr(tmp_path)).items()}
    assert found == {
        "empty.jpg": "image_empty",
        "text.jpg": "image_unreadable",
        "folder.jpg": "not_regular_file",
        "missing.jpg": "image_missing",
    }


def test_a_list_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pope.json").write_text('[{"question_id": 1, "image": "a.jpg", "te')
    with pytest.raises(AnnotationError, match=r"pope\.json: at character"):
        collect(open_pope(tmp_path / "pope.json"))


@pytest.mark.shared_data
def test_true_files_of_vsr_are_read_whole(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "formats" / "vsr" / "data"
    path = folder / "splits" / "zeroshot" / "test.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    images = linked(tmp_path, (row["image"] for row in rows))
    found = samples(open_vsr(path.parent, images=images, split="test"))
    asked = [question for sample in found.values() for question in sample.questions]
    assert (len(found), len(asked)) == (715, 1222)
    assert sum(question.answer == "yes" for question in asked) == 629


@pytest.mark.shared_data
@pytest.mark.parametrize(
    "name",
    [
        "coco/coco_pope_adversarial.json",
        "seem/aokvqa/aokvqa_pope_seem_random.json",
        "seem/gqa/gqa_pope_seem_popular.json",
    ],
)
def test_true_files_of_pope_are_read_whole(shared_data: Path, tmp_path: Path, name: str) -> None:
    path = shared_data / "formats" / "pope" / "output" / name
    text = path.read_text()
    rows = json.loads(text if text[0] == "[" else f"[{','.join(text.splitlines())}]")
    images = linked(tmp_path, (row["image"] for row in rows))
    found = samples(open_pope(path, images=images))
    assert sum(len(sample.questions) for sample in found.values()) == 3000


@pytest.mark.shared_data
def test_true_photos_take_the_questions_asked_about_them(shared_data: Path, tmp_path: Path) -> None:
    for path in (shared_data / "photos" / "images").glob("*/*.jpg"):
        shutil.copy(path, tmp_path)
    questions = shared_data / "photos" / "questions"
    statements = samples(open_vsr(questions / "vsr.jsonl", images=tmp_path))
    assert sum(len(sample.questions) for sample in statements.values()) == 9
    presence = samples(open_pope(questions / "pope.jsonl", images=tmp_path))
    assert sum(len(sample.questions) for sample in presence.values()) == 144

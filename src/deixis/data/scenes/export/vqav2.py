"""Writes VQAv2: questions about pictures, with ten answers each."""

from collections.abc import Iterator

from deixis.data.scenes.export.files import JsonValue, OutputFolder
from deixis.data.scenes.export.scene_items import DESCRIPTION, Item

_ANSWERS = 10
_QUESTIONS_PER_IMAGE = 1000
_ANSWER_TYPES = {"presence": "yes/no", "number": "number"}
_DIGITS = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
}


def write_vqav2(folder: OutputFolder, items: Iterator[Item], split: str) -> None:
    """Write ``<split>/*.png``, the questions and the annotations."""
    questions: list[JsonValue] = []
    annotations: list[JsonValue] = []
    for item in items:
        folder.image(f"{split}/{item.file_name}", item.scene.image)
        asked = [entry for entry in item.sample.questions if entry.instance is None]
        for position, entry in enumerate(asked):
            number = item.id * _QUESTIONS_PER_IMAGE + position
            questions.append(
                {"image_id": item.id, "question": entry.question, "question_id": number}
            )
            annotations.append(
                _annotation(item.id, number, entry.question, entry.answer, entry.kind)
            )
    head: dict[str, JsonValue] = {
        "info": {"description": DESCRIPTION},
        "license": {},
        "data_type": "scenes",
        "data_subtype": split,
    }
    folder.json(f"v2_scenes_{split}_annotations.json", {**head, "annotations": annotations})
    folder.json(
        f"v2_OpenEnded_scenes_{split}_questions.json",
        {**head, "task_type": "Open-Ended", "questions": questions},
    )


def _annotation(image: int, number: int, question: str, answer: str, kind: str) -> JsonValue:
    said = answer.rstrip(".").lower()
    said = said.removeprefix("the letter ").removeprefix("the digit ")
    said = _DIGITS.get(said, said)
    answers: list[JsonValue] = [
        {"answer": said, "answer_confidence": "yes", "answer_id": position + 1}
        for position in range(_ANSWERS)
    ]
    return {
        "question_id": number,
        "image_id": image,
        "question_type": " ".join(question.rstrip("?").split()[:2]).lower(),
        "answer_type": _ANSWER_TYPES.get(kind, "other"),
        "multiple_choice_answer": said,
        "answers": answers,
    }

"""Questions about photographs: VQAv2, OK-VQA, A-OKVQA, GQA, VSR and POPE.

Fields used, and irregularities:

- VQAv2 and OK-VQA are two files, joined by ``question_id``: ``questions`` with ``image_id`` and
  ``question``, ``annotations`` with ten ``answers``. The answer is the most frequent one; ties go to
  ``multiple_choice_answer`` or the first. A question without annotation, or an annotation without
  question, is a problem.
- A-OKVQA is one list: ``choices`` with ``correct_choice_idx`` give a question of kind ``choice``
  whose rationale is the first of ``rationales``; ``direct_answers`` give an open one, unless
  ``difficult_direct_answer`` is set.
- GQA's questions are an object by question ids, in one file or a folder of files: ``imageId``,
  ``question``, ``answer``. The scene graphs have their own reader (`deixis.data.sources.gqa`).
- VSR is JSON lines: ``caption`` is true of ``image`` if ``label`` is 1.
- POPE is JSON lines or a list: ``text`` is asked of ``image``, ``label`` is yes or no. Lines that are
  Python dictionaries in single quotes are read as literals. The three settings are three files.

These formats have no geometry; sizes are read from the images. VSR and POPE were tested on original files,
VQAv2 and POPE on exports of deixis, the others on files written by hand to the published format.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.fields import (
    as_key,
    as_list,
    as_object,
    record,
    required,
    sortable,
    text_field,
)
from deixis.data.sources.reading.questions import (
    Fields,
    Form,
    Questions,
    asked_sample,
    choice,
    majority,
    named_image,
    number_field,
    once_each,
    text_field_or,
    texts,
    the_file,
    yes_or_no,
)
from deixis.data.sources.reading.records import Record, parts_of, records
from deixis.errors import AnnotationError
from deixis.structures import QuestionAnswer

_ANSWERED, _ASKED = "answer", "question"
_MEMBERS = {_ASKED: "questions", _ANSWERED: "annotations"}


@dataclass(frozen=True, slots=True)
class Vqa:
    """VQAv2 or OK-VQA: a file of questions and one of annotations.

    ``image_name`` makes a file name of an image's number: ``COCO_val2014_{:012d}.jpg``.
    """

    name: str
    questions: Path
    annotations: Path
    images: Path
    image_name: str
    split: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """Both files."""
        return str(self.questions), str(self.annotations)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield questions, then answers."""
        for kind, path in ((_ASKED, self.questions), (_ANSWERED, self.annotations)):
            yield from parts_of(records(path, _MEMBERS[kind]), partial(self._part, kind))

    def _part(self, kind: str, one: Record) -> Part:
        fields = as_object(one.value, kind)
        key = named_image(self.image_name, number_field(fields, "image_id"))
        order = sortable(as_key(required(fields, "question_id"), "question_id"))
        return Part(key, kind, order, one.place, one.text)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of an image with its questions and answers."""
        problems: list[RecordProblem] = []
        kept = list(once_each(parts, problems))
        answers = {part.order: part for part in kept if part.kind == _ANSWERED}
        asked: list[QuestionAnswer] = []
        for part in kept:
            if part.kind == _ANSWERED:
                continue
            try:
                answer = _agreed(record(_answers(answers, part.order)))
                asked.append(QuestionAnswer(text_field(record(part), "question"), answer))
            except BadRecord as error:
                problems.append(error.problem(part.place))
        problems += [
            RecordProblem("unknown_annotation", f"answers to no question {part.order}", part.place)
            for part in answers.values()
        ]
        return asked_sample(
            self.name, self.images, key, asked, problems, split=self.split, place=parts[0].place
        )


def _answers(answers: dict[str, Part], order: str) -> Part:
    if order not in answers:
        raise BadRecord("unknown_annotation", f"question {order} has no answers")
    return answers.pop(order)


def _agreed(fields: Fields) -> str:
    answers = [
        text_field(as_object(value, "answer"), "answer", empty=True)
        for value in as_list(required(fields, "answers"), "answers")
    ]
    return majority(answers, text_field_or(fields, "multiple_choice_answer", ""))


def open_vqa(
    path: Path,
    *,
    name: str = "vqa",
    annotations: Path | None = None,
    images: Path | None = None,
    image_name: str = "",
    split: str = "",
) -> Vqa:
    """Open a folder with one file of questions and one of annotations, or the two files.

    The names end in ``_questions.json`` and ``_annotations.json``; ``split`` selects one of several.
    Without ``image_name``, the names of COCO's images are tried on the first question, then those of
    drawn scenes.

    Raises:
        AnnotationError: The files are missing, or ``split`` is needed to choose among several.
    """
    if path.is_file():
        folder = path.parent
        questions = path
        annotations = annotations or folder / path.name.replace(
            "_questions.json", "_annotations.json"
        ).replace("OpenEnded_", "")
    else:
        if not path.is_dir():
            raise AnnotationError(f"{path}: expected a file of questions, or a folder")
        folder = path
        questions = _only(path, "_questions.json", split)
        annotations = annotations or _only(path, "_annotations.json", split)
    if not annotations.is_file():
        raise AnnotationError(f"{questions}: has no annotations, expected {annotations}")
    split = split or questions.name.removesuffix(".gz").split("_")[-2]
    places = [images] if images else [folder / split, folder / "images" / split, folder]
    root = next(place for place in places if place.is_dir() or place == places[-1])
    if not image_name:
        candidates = (f"COCO_{split}_{{:012d}}.jpg", "{:012d}.jpg", f"{split}_{{:06d}}.png")
        image_name = _fitting(questions, root, candidates)
    return Vqa(name, questions, annotations, root, image_name, split)


def _only(folder: Path, ending: str, split: str) -> Path:
    names = sorted(path.name for path in folder.iterdir())
    found = [name for name in names if name.endswith((ending, f"{ending}.gz")) and split in name]
    if len(found) != 1:
        raise AnnotationError(f"{folder}: expected one file *{ending}, found {found[:6]}")
    return folder / found[0]


def _fitting(questions: Path, images: Path, candidates: Sequence[str]) -> str:
    for one in records(questions, "questions"):
        if isinstance(one, RecordProblem) or not isinstance(one.value, dict):
            continue
        for candidate in candidates:
            try:
                file_name = named_image(candidate, number_field(one.value, "image_id"))
            except BadRecord:
                continue
            if (images / file_name).is_file():
                return candidate
        break
    return candidates[0]


def _number_of_image(fields: Fields) -> str | int:
    return number_field(fields, "image_id")


def _question_id(fields: Fields) -> str:
    return sortable(as_key(required(fields, "question_id"), "question_id"))


def _aokvqa(fields: Fields) -> list[QuestionAnswer]:
    question = text_field(fields, "question")
    rationales = texts(fields, "rationales") if "rationales" in fields else []
    rationale = rationales[0] if rationales else ""
    number = number_field(fields, "correct_choice_idx")
    asked = [choice(question, texts(fields, "choices"), number, rationale=rationale)]
    if fields.get("difficult_direct_answer") is not True:
        answer = majority(texts(fields, "direct_answers", empty=True))
        asked.append(QuestionAnswer(question, answer, rationale=rationale))
    return asked


def open_aokvqa(
    path: Path, *, name: str = "aokvqa", images: Path | None = None, split: str = "val"
) -> Questions:
    """Open ``aokvqa_v1p0_SPLIT.json``, or its folder.

    Images have the names of COCO 2017; they are in the given folder ``images``, else in the file's folder.

    Raises:
        AnnotationError: The file is missing.
    """
    file = the_file(path, f"aokvqa_v1p0_{split}.json")
    form = Form(_number_of_image, _question_id, _aokvqa)
    return Questions(name, (file,), images or file.parent, form, "{:012d}.jpg", split)


def _gqa_image(fields: Fields) -> str:
    return as_key(required(fields, "imageId"), "imageId")


def _record_id(fields: Fields) -> str:
    return sortable(as_key(required(fields, "id"), "id"))


def _gqa(fields: Fields) -> list[QuestionAnswer]:
    return [QuestionAnswer(text_field(fields, "question"), text_field(fields, "answer"))]


def open_gqa(
    path: Path, *, name: str = "gqa", images: Path | None = None, split: str = ""
) -> Questions:
    """Open a file of GQA's questions, or a folder of such files (``train_all_questions``).

    Raises:
        AnnotationError: The file is missing.
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise AnnotationError(f"{path}: expected a file of questions, or a folder of them")
    root = files[0].parent
    place = root / "images" if (root / "images").is_dir() else root
    form = Form(_gqa_image, _record_id, _gqa, keyed=True)
    return Questions(name, tuple(files), images or place, form, "{}.jpg", split)


def _named_or_numbered(fields: Fields) -> str:
    if "image" in fields:
        return text_field(fields, "image")
    return named_image("{:012d}.jpg", number_field(fields, "image_id"))


def _caption(fields: Fields) -> str:
    return text_field(fields, "caption")


def _vsr(fields: Fields) -> list[QuestionAnswer]:
    label = number_field(fields, "label")
    if label not in {0, 1}:
        raise BadRecord("bad_record", f"label: expected 0 or 1, got {label}")
    return [QuestionAnswer(_caption(fields), ("no", "yes")[label], kind="statement")]


def open_vsr(
    path: Path, *, name: str = "vsr", images: Path | None = None, split: str = "train"
) -> Questions:
    """Open a JSON-lines file of VSR, or a folder with ``SPLIT.jsonl``.

    Raises:
        AnnotationError: The file is missing.
    """
    file = the_file(path, f"{split}.jsonl")
    form = Form(_named_or_numbered, _caption, _vsr)
    return Questions(name, (file,), images or file.parent, form, split=split)


def _pope_order(fields: Fields) -> str:
    # a question is in several settings, which are different questions
    return f"{text_field_or(fields, 'split', '')} {_question_id(fields)}".strip()


def _pope(fields: Fields) -> list[QuestionAnswer]:
    return [QuestionAnswer(text_field(fields, "text"), yes_or_no(fields, "label"), kind="presence")]


def open_pope(
    path: Path, *, name: str = "pope", images: Path | None = None, split: str = ""
) -> Questions:
    """Open one file of POPE: one setting of one image set.

    Raises:
        AnnotationError: The file is missing.
    """
    file = the_file(path)
    form = Form(_named_or_numbered, _pope_order, _pope)
    return Questions(name, (file,), images or file.parent, form, split=split or file.stem)

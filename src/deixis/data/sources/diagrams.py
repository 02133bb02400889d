"""Questions about diagrams, charts and documents: IconQA, DVQA, DocVQA, AI2D and ScienceQA.

Fields used, and irregularities:

- IconQA is folders ``SPLIT/TASK/ID`` with ``data.json`` and ``image.png``. ``choose_txt`` gives
  choices, ``fill_in_blank`` open questions; ``choose_img``, whose choices are images, is not read.
- DVQA is one list: ``image``, ``question``, ``answer``. Boxes of answers are not used.
- DocVQA has its records in ``data``: ``image``, ``question``, ``answers``, of which the first counts.
- AI2D has one file per image, ``questions/NAME.json``: questions by their text, with
  ``answerTexts`` and ``correctAnswer``.
- ScienceQA is an object by problem ids: ``question``, ``choices``, ``answer``, ``image``, ``split``,
  a ``hint``, which is put before the question, and a ``solution``, the rationale. Exercises whose
  ``image`` is null are skipped and counted.

These formats have no geometry; sizes are read from the images. All were tested on files written by hand to
the published format.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deixis.data.sources.base import NO_IMAGE, BadRecord, Part, PassedOver, Reading, RecordProblem
from deixis.data.sources.reading.fields import (
    as_integer,
    as_key,
    as_object,
    as_text,
    record,
    required,
    sortable,
    text_field,
)
from deixis.data.sources.reading.file_names import first_folder
from deixis.data.sources.reading.questions import (
    Fields,
    Form,
    Questions,
    asked_sample,
    choice,
    number_field,
    once_each,
    text_field_or,
    texts,
    the_file,
)
from deixis.data.sources.reading.records import (
    Record,
    file_record,
    named_records,
    parts_of,
    place_in,
)
from deixis.errors import AnnotationError
from deixis.structures import QuestionAnswer

_ICON_TASKS = ("choose_txt", "fill_in_blank")


def _image(fields: Fields) -> str:
    return text_field(fields, "image")


def _dvqa_order(fields: Fields) -> str:
    return sortable(as_key(required(fields, "question_id"), "question_id"))


def _dvqa(fields: Fields) -> list[QuestionAnswer]:
    answer = required(fields, "answer")
    said = str(as_integer(answer, "answer")) if not isinstance(answer, str) else answer
    return [QuestionAnswer(text_field(fields, "question"), as_text(said, "answer"))]


def open_dvqa(
    path: Path, *, name: str = "dvqa", images: Path | None = None, split: str = "train"
) -> Questions:
    """Open ``SPLIT_qa.json``, or its folder; images are in ``images`` beside it.

    Raises:
        AnnotationError: The file is missing.
    """
    file = the_file(path, f"{split}_qa.json", f"qa/{split}_qa.json")
    form = Form(_image, _dvqa_order, _dvqa)
    return Questions(name, (file,), images or _beside(file), form, split=split)


def _docvqa_order(fields: Fields) -> str:
    return sortable(as_key(required(fields, "questionId"), "questionId"))


def _docvqa(fields: Fields) -> list[QuestionAnswer]:
    answers = texts(fields, "answers")
    if not answers:
        raise BadRecord("bad_text", "answers: none")
    return [QuestionAnswer(text_field(fields, "question"), answers[0])]


def open_docvqa(
    path: Path, *, name: str = "docvqa", images: Path | None = None, split: str = "train"
) -> Questions:
    """Open ``SPLIT_v1.0.json``, or its folder; image names are relative to that folder.

    Raises:
        AnnotationError: The file is missing.
    """
    file = the_file(path, f"{split}_v1.0.json", f"{split}_v1.0_withQT.json")
    form = Form(_image, _docvqa_order, _docvqa, member="data")
    return Questions(name, (file,), images or file.parent, form, split=split)


def _beside(file: Path) -> Path:
    return first_folder(file.parent / "images", file.parent.parent / "images", file.parent)


@dataclass(frozen=True, slots=True)
class ScienceQa:
    """``problems.json`` of ScienceQA, and the folder of its images (``SPLIT/ID/image.png``)."""

    name: str
    path: Path
    images: Path
    split: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The file."""
        return (str(self.path),)

    def parts(self) -> Iterator[Part | RecordProblem | PassedOver]:
        """Yield one part per problem of the split."""
        return parts_of(named_records(self.path), self._part)

    def _part(self, one: Record) -> Part | PassedOver | None:
        fields = as_object(one.value, "problem")
        split = text_field(fields, "split")
        if self.split not in {"", split}:
            return None
        if required(fields, "image") is None:
            return NO_IMAGE
        image = f"{split}/{as_key(one.name, 'problem')}/{text_field(fields, 'image')}"
        return Part(image, "question", "", one.place, one.text)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of a problem."""
        problems: list[RecordProblem] = []
        asked: list[QuestionAnswer] = []
        for part in once_each(parts, problems):
            try:
                asked.append(_science(record(part)))
            except BadRecord as error:
                problems.append(error.problem(part.place))
        split = key.partition("/")[0]
        return asked_sample(
            self.name, self.images, key, asked, problems, split=split, place=parts[0].place
        )


def _science(fields: Fields) -> QuestionAnswer:
    hint = text_field_or(fields, "hint", "")
    question = text_field(fields, "question")
    rationale = text_field_or(fields, "solution", "")
    number = number_field(fields, "answer")
    return choice(
        f"{hint}\n{question}" if hint else question,
        texts(fields, "choices"),
        number,
        rationale=rationale,
    )


def open_scienceqa(
    path: Path, *, name: str = "scienceqa", images: Path | None = None, split: str = ""
) -> ScienceQa:
    """Open ``problems.json``, or its folder; without ``split``, all splits.

    Raises:
        AnnotationError: The file is missing.
    """
    file = the_file(path, "problems.json", "data/scienceqa/problems.json")
    images = images or first_folder(file.parent / "images", file.parent)
    return ScienceQa(name, file, images, split)


@dataclass(frozen=True, slots=True)
class Diagrams:
    """Folders with one small file per image; ``form`` is ``iconqa`` or ``ai2d``.

    Files are read in the order of their names, folder by folder.
    """

    name: str
    path: Path
    images: Path
    form: str
    split: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The folder of the files."""
        return (str(self.path),)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part per file."""
        for key, file in self._listed():
            place = place_in(file, self.path)
            try:
                one = file_record(file, place)
                named = key or self._named(one)
                yield Part(named, self.form, "", place, one.text)
            except BadRecord as error:
                yield error.problem(place)

    def _listed(self) -> Iterator[tuple[str, Path]]:
        if self.form == "ai2d":
            for file in sorted(self.path.glob("*.json")):
                yield "", file
            return
        for task in _ICON_TASKS:
            folder = self.path / task
            for one in sorted(folder.iterdir()) if folder.is_dir() else []:
                if one.is_dir():
                    yield f"{task}/{one.name}/image.png", one / "data.json"

    def _named(self, one: Record) -> str:
        return text_field(as_object(one.value, "file"), "imageName")

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of an image with the questions of its file."""
        problems: list[RecordProblem] = []
        asked: list[QuestionAnswer] = []
        for part in once_each(parts, problems):
            try:
                fields = record(part)
                if self.form == "iconqa":
                    asked.append(_icon(fields))
                    continue
                for text, value in as_object(required(fields, "questions"), "questions").items():
                    try:
                        asked.append(_ai2d(text, as_object(value, "question")))
                    except BadRecord as error:
                        problems.append(error.problem(part.place))
            except BadRecord as error:
                problems.append(error.problem(part.place))
        return asked_sample(
            self.name, self.images, key, asked, problems, split=self.split, place=parts[0].place
        )


def _icon(fields: Fields) -> QuestionAnswer:
    question = text_field(fields, "question")
    if "choices" in fields:
        return choice(question, texts(fields, "choices"), number_field(fields, "answer"))
    return QuestionAnswer(question, text_field(fields, "answer"))


def _ai2d(text: str, fields: Fields) -> QuestionAnswer:
    question = as_text(text, "question")
    return choice(question, texts(fields, "answerTexts"), number_field(fields, "correctAnswer"))


def open_iconqa(
    path: Path, *, name: str = "iconqa", images: Path | None = None, split: str = "train"
) -> Diagrams:
    """Open IconQA's folder, with ``SPLIT/choose_txt`` and ``SPLIT/fill_in_blank``.

    Raises:
        AnnotationError: Both are missing.
    """
    root = path / split if (path / split).is_dir() else path
    if not any((root / task).is_dir() for task in _ICON_TASKS):
        raise AnnotationError(f"{path}: expected {split}/{' or '.join(_ICON_TASKS)} in it")
    return Diagrams(name, root, images or root, "iconqa", split)


def open_ai2d(
    path: Path, *, name: str = "ai2d", images: Path | None = None, split: str = ""
) -> Diagrams:
    """Open AI2D's folder, with ``questions`` and ``images``.

    Raises:
        AnnotationError: The folder ``questions`` is missing.
    """
    if not (path / "questions").is_dir():
        raise AnnotationError(f"{path}: expected questions in it")
    return Diagrams(name, path / "questions", images or path / "images", "ai2d", split)

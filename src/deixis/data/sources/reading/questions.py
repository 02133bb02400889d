"""Reads data sets of questions about images.

Each data set has three functions of a record: its image, its order among the questions of the image,
and its question with the answer. This module has the rest. The image size is read from the image.

Kinds of questions that the readers of this package give:

- ``vqa``: an open question with a short answer;
- ``choice``: one answer of several, which ``options`` lists;
- ``presence``: whether an instance of a class is present, yes or no;
- ``statement``: whether a sentence about the image is true, yes or no;
- ``dialogue``: turns of one conversation, in their order; a sample has one conversation;
- ``region``: about the instance at ``region``;
- ``detail``: a long description of the instance at ``region``;
- ``reason``: about the instance at ``region``, with an answer that needs more than the image;
- ``which``: the answer is ``instance``, chosen from the instances in ``options``;
- ``regions``: with several regions in the text (`deixis.data.sources.reading.slots`);
- ``prompt_point``, ``prompt_scribble``, ``prompt_box``, ``prompt_mask``: ``region`` is a person's mark
  of ``instance``.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.fields import (
    as_integer,
    as_list,
    as_object,
    as_text,
    image_path,
    record,
    required,
    text_field,
)
from deixis.data.sources.reading.image_header import header_size
from deixis.data.sources.reading.records import Record, named_records, parts_of, records
from deixis.errors import AnnotationError
from deixis.structures import QuestionAnswer, Sample

Fields = Mapping[str, Any]
_ASKED = "question"


@dataclass(frozen=True, slots=True)
class Form:
    """The layout of one data set's questions.

    ``image`` returns the image of a record, ``order`` its order among the questions of the image, and
    ``read`` the question with its answer. ``member`` names the list of records inside a JSON object.
    With ``keyed`` the file is a JSON object of records by id, and ``order`` gets only the ``id``.
    """

    image: Callable[[Fields], str | int]
    order: Callable[[Fields], str]
    read: Callable[[Fields], Sequence[QuestionAnswer]]
    member: str = ""
    keyed: bool = False


@dataclass(frozen=True, slots=True)
class Questions:
    """Files of questions about the images of one folder.

    ``image_name`` is a template of file names from image numbers or names: ``{:012d}.jpg``.
    """

    name: str
    paths: tuple[Path, ...]
    images: Path
    form: Form
    image_name: str = "{}"
    split: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The files."""
        return tuple(map(str, self.paths))

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part a question."""
        for path in self.paths:
            found: Iterator[Record | RecordProblem] = (
                named_records(path) if self.form.keyed else records(path, self.form.member)
            )
            yield from parts_of(found, self._part)

    def _part(self, one: Record) -> Part:
        fields = as_object(one.value, "record")
        key = named_image(self.image_name, self.form.image(fields))
        order = self.form.order({"id": one.name} if self.form.keyed else fields)
        return Part(key, _ASKED, order, one.place, one.text)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Make a sample from an image and the questions about it."""
        asked: list[QuestionAnswer] = []
        problems: list[RecordProblem] = []
        for part in once_each(parts, problems):
            try:
                asked += self.form.read(record(part))
            except BadRecord as error:
                problems.append(error.problem(part.place))
        return asked_sample(
            self.name, self.images, key, asked, problems, split=self.split, place=parts[0].place
        )


def once_each(parts: Sequence[Part], problems: list[RecordProblem]) -> Iterator[Part]:
    """Yield parts, and of those that have one kind and order only the first."""
    seen: set[tuple[str, str]] = set()
    for part in parts:
        name = (part.kind, part.order)
        if name in seen:
            problems.append(
                RecordProblem("duplicate_annotation", f"{part.kind} {part.order}", part.place)
            )
        else:
            seen.add(name)
            yield part


def asked_sample(
    name: str,
    images: Path,
    key: str,
    asked: Sequence[QuestionAnswer],
    problems: Sequence[RecordProblem],
    *,
    split: str,
    place: str,
) -> Reading:
    """Return a sample of an image and questions; its size is the file's."""
    try:
        path = image_path(images, key)
        size = header_size(path)
    except BadRecord as error:
        return Reading(None, (error.problem(place),))
    sample = Sample(
        id=f"{name}/{key}",
        image=path,
        size=size,
        questions=tuple(asked),
        source=name,
        split=split,
        exhaustive=False,
    )
    return Reading(sample, tuple(problems))


def named_image(template: str, value: str | int) -> str:
    """Return the file name from a template and an image's number or name.

    Raises:
        BadRecord: The template needs a number, but the value is not a number.
    """
    try:
        return as_text(template.format(value), "image")
    except (ValueError, IndexError, KeyError):
        raise BadRecord("bad_record", f"image {value!r} does not fit {template!r}") from None


def majority(answers: Sequence[str], preferred: str = "") -> str:
    """Return the answer that most people gave; of several, the preferred or the first.

    Raises:
        BadRecord: There is no answer, or all are empty.
    """
    counts = Counter(answer for answer in answers if answer)
    if not counts:
        raise BadRecord("bad_text", "no answer that is not empty")
    most = max(counts.values())
    if counts[preferred] == most:
        return preferred
    return next(answer for answer, count in counts.items() if count == most)


def choice(
    question: str, options: Sequence[str], number: int, *, rationale: str = ""
) -> QuestionAnswer:
    """Return a multiple-choice question; the answer is the index of an option, from 0.

    Raises:
        BadRecord: No option has this index.
    """
    if not 0 <= number < len(options):
        raise BadRecord("bad_record", f"option {number} of {len(options)}")
    return QuestionAnswer(
        question, options[number], kind="choice", options=tuple(options), rationale=rationale
    )


def texts(fields: Fields, name: str, *, empty: bool = False) -> list[str]:
    """Return a required field, a list of texts."""
    return [as_text(value, name, empty=empty) for value in as_list(required(fields, name), name)]


def number_field(fields: Fields, name: str) -> int:
    """Return a required integer field."""
    return as_integer(required(fields, name), name)


def text_field_or(fields: Fields, name: str, default: str) -> str:
    """Return an optional text field."""
    value = fields.get(name)
    return default if value is None else as_text(value, name, empty=True)


def yes_or_no(fields: Fields, name: str) -> str:
    """Return a required field, yes or no, in lower case.

    Raises:
        BadRecord: The field has another value.
    """
    answer = text_field(fields, name).lower()
    if answer not in {"yes", "no"}:
        raise BadRecord("bad_record", f"{name}: expected yes or no, got {answer[:40]!r}")
    return answer


def the_file(path: Path, *names: str) -> Path:
    """Return the path if it is a file, or the first of some names in the folder.

    Raises:
        AnnotationError: No such file exists.
    """
    for candidate in [path / name for name in names] if path.is_dir() else [path]:
        if candidate.is_file():
            return candidate
    expected = f"{' or '.join(names)} in it" if path.is_dir() else "a file"
    raise AnnotationError(f"{path}: expected {expected}")

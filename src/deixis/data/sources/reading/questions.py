"""A reader of questions about whole images, for data sets with different record layouts.

A `Form` describes a layout by three functions of a record: the key of its image, the key of its
question, and the question with its answer. The size of an image is read from its file.

Kinds of questions:

- ``vqa``: an open question with a short answer;
- ``choice``: one answer of several, which ``options`` lists;
- ``presence``: whether the image shows an instance of a class, yes or no;
- ``statement``: whether a sentence about the image is true, yes or no;
- ``dialogue``: the turns of one conversation in order; a sample has one conversation;
- ``region``: about the instance at ``region``;
- ``detail``: a long description of the instance at ``region``;
- ``reason``: about the instance at ``region``; the answer needs knowledge beyond the image;
- ``which``: the answer is ``instance``, one of the instances in ``options``;
- ``regions``: the text contains several regions (`deixis.data.sources.reading.slots`);
- ``prompt_point``, ``prompt_scribble``, ``prompt_box``, ``prompt_mask``: ``region`` is a prompt that
  a person drew for ``instance``.
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
    """The layout of the question files of one data set.

    ``image`` returns the key of a record's image, ``order`` the key of the question within its
    image, and ``read`` the question with its answer. ``member`` names the list of records if the
    file is an object. If ``keyed``, the file is an object of records by id, and ``order`` receives
    only ``id``.
    """

    image: Callable[[Fields], str | int]
    order: Callable[[Fields], str]
    read: Callable[[Fields], Sequence[QuestionAnswer]]
    member: str = ""
    keyed: bool = False


@dataclass(frozen=True, slots=True)
class Questions:
    """Files of questions about the images of one folder.

    ``image_name`` is the template of file names, filled with the image key: ``{:012d}.jpg``.
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
        """Yield one part per question."""
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
        """Return the sample of one image with its questions."""
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
    """Yield the first part of each kind and order; list the others as problems."""
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
    """Return the sample of an image with questions; its size is read from the image file."""
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
        BadRecord: The template needs a number and the value is not a number.
    """
    try:
        return as_text(template.format(value), "image")
    except (ValueError, IndexError, KeyError):
        raise BadRecord("bad_record", f"image {value!r} does not fit {template!r}") from None


def majority(answers: Sequence[str], preferred: str = "") -> str:
    """Return the most frequent answer; ties go to the preferred or the first one.

    Raises:
        BadRecord: All answers are empty, or the list is.
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
    """Return a multiple choice question; ``number`` is the index of the answer, from 0.

    Raises:
        BadRecord: No option has this index.
    """
    if not 0 <= number < len(options):
        raise BadRecord("bad_record", f"option {number} of {len(options)}")
    return QuestionAnswer(
        question, options[number], kind="choice", options=tuple(options), rationale=rationale
    )


def texts(fields: Fields, name: str, *, empty: bool = False) -> list[str]:
    """Return a field that has to be a list of texts."""
    return [as_text(value, name, empty=empty) for value in as_list(required(fields, name), name)]


def number_field(fields: Fields, name: str) -> int:
    """Return a field that has to be an integer."""
    return as_integer(required(fields, name), name)


def text_field_or(fields: Fields, name: str, default: str) -> str:
    """Return a text field, or the default if it is missing."""
    value = fields.get(name)
    return default if value is None else as_text(value, name, empty=True)


def yes_or_no(fields: Fields, name: str) -> str:
    """Return a field that has to be yes or no, in lower case.

    Raises:
        BadRecord: The field has another value.
    """
    answer = text_field(fields, name).lower()
    if answer not in {"yes", "no"}:
        raise BadRecord("bad_record", f"{name}: expected yes or no, got {answer[:40]!r}")
    return answer


def the_file(path: Path, *names: str) -> Path:
    """Return ``path`` if it is a file, else the first existing file of the names in the folder.

    Raises:
        AnnotationError: The file does not exist.
    """
    for candidate in [path / name for name in names] if path.is_dir() else [path]:
        if candidate.is_file():
            return candidate
    expected = f"{' or '.join(names)} in it" if path.is_dir() else "a file"
    raise AnnotationError(f"{path}: expected {expected}")

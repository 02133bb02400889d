"""PointQA (Local and Look Twice): questions about a point in an image.

The published files are objects of lists of records by image ids; copies are JSON lines with the image in
``file_path`` or ``genome_id``. Fields used:

- Local: ``question``, and ``points`` with ``x``, ``y`` and ``ans`` each, or ``point`` and ``answer``;
- Look Twice: ``obj_question`` (how many of these cups), ``super_question`` (of these objects) and
  ``general_question`` (of these), or ``pt_question``, as they are there; ``point``, and ``ans`` or
  ``answer``.

A place is ``{"x", "y"}`` or ``[x, y]`` in pixels of the image, whose size is read from the file. It is
the ``region`` of its question, of kind ``region``. Images are Visual Genome's: ``ID.jpg`` in the folder,
in ``VG_100K`` or in ``VG_100K_2``. Other objects that have the answer are not used. Tested on files
written to the published format.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.fields import (
    as_key,
    as_list,
    as_number,
    as_object,
    as_text,
    image_path,
    required,
)
from deixis.data.sources.reading.questions import Fields, once_each, the_file
from deixis.data.sources.reading.records import Record, digest, named_records, parts_of, records
from deixis.data.sources.reading.spans import located_size
from deixis.data.sources.reading.streaming import parse_json
from deixis.geometry import ImageSize, Point
from deixis.structures import QuestionAnswer, Sample

_WORDED = ("question", "obj_question", "super_question", "general_question", "pt_question")
_FOLDERS = ("", "VG_100K", "VG_100K_2", "images/VG_100K", "images2/VG_100K_2")


@dataclass(frozen=True, slots=True)
class PointQa:
    """A file of PointQA, and the folder of Visual Genome's images."""

    name: str
    path: Path
    images: Path
    split: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The file."""
        return (str(self.path),)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part per image or per line."""
        if self.path.suffix == ".jsonl":
            return parts_of(records(self.path), self._line)
        return parts_of(named_records(self.path), self._keyed)

    def _line(self, one: Record) -> Part:
        key = _image(as_object(one.value, "line"))
        return Part(key, "question", digest(one.text), one.place, one.text)

    def _keyed(self, one: Record) -> Part:
        key = f"{as_key(one.name, 'image id')}.jpg"
        return Part(key, "questions", "", one.place, one.text)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of an image with the questions about its points."""
        try:
            path = self._path(key)
            size = located_size(path)
        except BadRecord as error:
            return Reading(None, (error.problem(parts[0].place),))
        problems: list[RecordProblem] = []
        asked: list[QuestionAnswer] = []
        for part in once_each(parts, problems):
            try:
                value = parse_json(part.payload)
                found = as_list(value, "image") if part.kind == "questions" else [value]
            except BadRecord as error:
                problems.append(error.problem(part.place))
                continue
            for number, one in enumerate(found):
                try:
                    asked += _questions(as_object(one, "record"), size)
                except BadRecord as error:
                    problems.append(error.problem(f"{part.place}[{number}]"))
        sample = Sample(
            id=f"{self.name}/{key}",
            image=path,
            size=size,
            questions=tuple(asked),
            source=self.name,
            split=self.split,
            exhaustive=False,
        )
        return Reading(sample, tuple(problems))

    def _path(self, key: str) -> Path:
        places = [image_path(self.images, f"{folder}/{key}".lstrip("/")) for folder in _FOLDERS]
        return next((place for place in places if place.exists()), places[0])


def _image(fields: Fields) -> str:
    if "file_path" in fields:
        return as_text(fields["file_path"], "file_path")
    return f"{as_key(required(fields, 'genome_id'), 'genome_id')}.jpg"


def _questions(fields: Fields, size: ImageSize) -> list[QuestionAnswer]:
    worded = [as_text(fields[name], name) for name in _WORDED if name in fields]
    if not worded:
        raise BadRecord("bad_record", f"expected one of {', '.join(_WORDED)}")
    if "points" in fields:
        places = [as_object(value, "point") for value in as_list(fields["points"], "points")]
        pairs = [(place, required(place, "ans")) for place in places]
    else:
        answer = fields["answer"] if "answer" in fields else required(fields, "ans")
        pairs = [(required(fields, "point"), answer)]
    return [
        QuestionAnswer(
            question, as_key(answer, "answer"), region=_point(place, size), kind="region"
        )
        for place, answer in pairs
        for question in worded
    ]


def _point(value: Any, size: ImageSize) -> Point:
    if isinstance(value, dict):
        numbers = [required(value, "x"), required(value, "y")]
    else:
        numbers = list(as_list(value, "point"))
    if len(numbers) != 2:
        raise BadRecord("bad_record", f"point: expected 2 numbers, got {len(numbers)}")
    x, y = (as_number(number, "point") for number in numbers)
    if not (0 <= x <= size.width and 0 <= y <= size.height):
        raise BadRecord("box_outside", f"point ({x}, {y}) leaves its {size} image")
    return Point(x, y)


def open_pointqa(
    path: Path, *, name: str = "pointqa", images: Path | None = None, split: str = ""
) -> PointQa:
    """Open a file of PointQA; images are in the given folder ``images``, else beside the file.

    Raises:
        AnnotationError: The file is missing.
    """
    file = the_file(path)
    return PointQa(name, file, images or file.parent, split)

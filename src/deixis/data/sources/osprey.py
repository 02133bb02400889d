"""Osprey: descriptions of masks, and conversations about them.

The reader distinguishes two layouts by their fields:

- questions about one region each (the evaluation files): ``image``, ``text`` with ``<region>`` in it,
  ``category``, and ``annotation`` with a ``segmentation`` or else a ``bbox``. Answers are in another
  file, joined by ``question_id``. The size is read from the image.
- Osprey-724K: ``file_name``, ``height``, ``width``, a list of ``annotation``, and either
  ``conversations`` about ``<region1>``, ``<region2>`` or a ``description`` of each region, which begins
  with ``<region1>:``.

Boxes are ``[x, y, width, height]``, segmentations COCO's; both are in pixels of the image. Images of
COCO 2014 are also found in a folder of COCO 2017, without ``COCO_train2014_`` in their names. Regions
have no class: instances have the category ``region``. A category with ``description`` gives questions
of kind ``detail``, one with ``reason`` questions of kind ``reason``. Tested on original evaluation
files, and on files of Osprey-724K written by hand to the published format.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.fields import (
    as_key,
    as_list,
    as_object,
    as_text,
    image_path,
    image_size,
    mask_box,
    read_box,
    read_mask,
    record,
    required,
    sortable,
    text_field,
)
from deixis.data.sources.reading.questions import once_each, text_field_or, the_file
from deixis.data.sources.reading.records import Record, digest, parts_of, records
from deixis.data.sources.reading.slots import about_regions, fill
from deixis.data.sources.reading.spans import known_index, located_size
from deixis.data.sources.reading.turns import exchanges
from deixis.data.wording import REGION_SLOT
from deixis.errors import AnnotationError
from deixis.geometry import Box, ImageSize, Mask
from deixis.structures import Instance, QuestionAnswer, Sample

_ANSWER, _QUESTION, _RECORD = "answer", "question", "record"
_KINDS = {"description": "detail", "reason": "reason"}
_NUMBERED = re.compile(r"<region(\d{1,4})>")
_DESCRIBED = re.compile(r"<region(\d{1,4})>\s*:\s*(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Osprey:
    """Files of Osprey about the images of one folder; ``answers`` belong to ``questions``."""

    name: str
    questions: Path
    images: Path
    answers: Path | None = None
    split: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The files."""
        return tuple(str(path) for path in (self.questions, self.answers) if path is not None)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield questions or records, then answers."""
        for kind, path in ((_QUESTION, self.questions), (_ANSWER, self.answers)):
            if path is not None:
                yield from parts_of(records(path), partial(self._part, kind))

    def _part(self, kind: str, one: Record) -> Part:
        fields = as_object(one.value, "record")
        if "file_name" in fields:
            key = text_field(fields, "file_name")
            return Part(key, _RECORD, digest(one.text), one.place, one.text)
        order = sortable(as_key(required(fields, "question_id"), "question_id"))
        return Part(text_field(fields, "image"), kind, order, one.place, one.text)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of an image with its regions and their questions."""
        try:
            path = self._path(key)
            reader = _Regions(self._size(path, parts))
        except BadRecord as error:
            return Reading(None, (error.problem(parts[0].place),))
        kept = list(once_each(parts, reader.problems))
        answers = {part.order: part for part in kept if part.kind == _ANSWER}
        for part in kept:
            try:
                if part.kind == _QUESTION:
                    reader.ask(record(part), _answer(answers, part.order))
                elif part.kind == _RECORD:
                    reader.converse(record(part), part.place)
            except BadRecord as error:
                reader.problems.append(error.problem(part.place))
        reader.problems += [
            RecordProblem(
                "unknown_annotation", f"an answer to no question {part.order}", part.place
            )
            for part in answers.values()
        ]
        sample = Sample(
            id=f"{self.name}/{key}",
            image=path,
            size=reader.size,
            instances=tuple(reader.instances),
            questions=tuple(reader.asked),
            source=self.name,
            split=self.split,
            exhaustive=False,
        )
        return Reading(sample, tuple(reader.problems), tuple(sorted(reader.notes.items())))

    def _path(self, key: str) -> Path:
        path = image_path(self.images, key)
        if key.startswith("COCO_") and not path.exists():
            return path.with_name(path.name.rpartition("_")[2])
        return path

    def _size(self, path: Path, parts: Sequence[Part]) -> ImageSize:
        sizes = set()
        for part in parts:
            fields = record(part)
            if part.kind == _RECORD:
                sizes.add(image_size(required(fields, "width"), required(fields, "height")))
        if len(sizes) > 1:
            raise BadRecord("duplicate_image", "two records disagree about its size")
        return sizes.pop() if sizes else located_size(path)


def _answer(answers: dict[str, Part], order: str) -> str:
    if order not in answers:
        raise BadRecord("unknown_annotation", f"question {order} has no answer")
    return text_field(record(answers.pop(order)), "text")


class _Regions:
    """Reads the regions of an image and their questions."""

    def __init__(self, size: ImageSize) -> None:
        self.size = size
        self.instances: list[Instance] = []
        self.asked: list[QuestionAnswer] = []
        self.problems: list[RecordProblem] = []
        self.notes: dict[str, int] = {}

    def ask(self, fields: Mapping[str, Any], answer: str) -> None:
        """Read a question about one region."""
        text = text_field(fields, "text")
        if REGION_SLOT not in text:
            raise BadRecord("bad_text", f"text: expected {REGION_SLOT} in it")
        kind = _KINDS.get(text_field_or(fields, "category", ""), "region")
        mask, box = self.region(required(fields, "annotation"))
        region = box if mask is None else mask
        self.asked.append(QuestionAnswer(text, answer, region=region, kind=kind))

    def converse(self, fields: Mapping[str, Any], place: str) -> None:
        """Read a conversation about several regions, or a description of each."""
        numbers: dict[str, int] = {}
        annotations = as_list(required(fields, "annotation"), "annotation")
        for number, value in enumerate(annotations, start=1):
            try:
                mask, box = self.region(value)
            except BadRecord as error:
                where = f"{place}, region {number}"
                self.problems.append(error.problem(where))
            else:
                numbers[str(number)] = len(self.instances)
                self.instances.append(Instance("region", box, mask))

        def found(number: int) -> int:
            return known_index(numbers, str(number))

        if "conversations" in fields:
            for asked, said in exchanges(required(fields, "conversations")):
                question, answer = fill(_NUMBERED, asked, found), fill(_NUMBERED, said, found)
                self.asked.append(about_regions(question, answer))
            return
        for text in as_list(required(fields, "description"), "description"):
            match = _DESCRIBED.fullmatch(as_text(text, "description"))
            if match is None:
                raise BadRecord("bad_text", "description: expected <region1>: and words")
            words = as_text(match[2], "description")
            self.asked.append(
                QuestionAnswer(
                    f"What is {REGION_SLOT}?",
                    words,
                    instance=found(int(match[1])),
                    kind="description",
                )
            )

    def region(self, value: object) -> tuple[Mask | None, Box]:
        """Read an annotation."""
        fields = as_object(value, "annotation")
        segmentation = fields.get("segmentation")
        mask = read_mask(segmentation, self.size) if segmentation not in (None, []) else None
        if fields.get("bbox") is not None:
            return mask, read_box(fields["bbox"], self.size, self.notes)
        if mask is None:
            raise BadRecord("bad_record", "neither bbox nor segmentation")
        return mask, mask_box(mask)


def open_osprey(
    path: Path,
    *,
    name: str = "osprey",
    answers: Path | None = None,
    images: Path | None = None,
    split: str = "",
) -> Osprey:
    """Open a file of Osprey-724K, or a file of questions with a file of answers.

    In a folder, ``questions.json`` and ``answers.json`` are read. For a file of questions, the answers
    are ``answers``, else ``answers.json`` beside it. Images are in the given folder ``images``, else
    beside the file.

    Raises:
        AnnotationError: A file is missing, or questions have no answers.
    """
    questions = the_file(path, "questions.json")
    if answers is None and (questions.parent / "answers.json").is_file():
        answers = questions.parent / "answers.json"
    first = next((one for one in records(questions) if not isinstance(one, RecordProblem)), None)
    has_own = first is None or not isinstance(first.value, dict) or "file_name" in first.value
    if has_own:
        answers = None
    elif answers is None:
        raise AnnotationError(f"{questions}: has questions and no answers; name a file of answers")
    return Osprey(name, questions, images or questions.parent, answers, split)

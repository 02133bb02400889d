"""Visual7W: telling and pointing questions, and the candidate boxes of pointing questions.

One object with ``images``, each with ``filename`` and ``qa_pairs``, and ``boxes`` that questions name
by ``box_id``. A question has an ``answer`` and three ``multiple_choices`` that are wrong:

- telling (*what*, *where*, *when*, *who*, *why*, *how*): they are texts, and the question is of kind
  ``choice``; options are the answer and the others, sorted, so that their order tells nothing;
- pointing (*which*): they are boxes. The question is of kind ``which``: ``instance`` is the answer,
  ``options`` are the places (`deixis.data.sources.reading.slots`) of the candidates in the order of their ids.

Boxes are ``x``, ``y``, ``width``, ``height`` in pixels of the image, whose size is read from the file;
some begin at -1 and are clipped. Only the questions link boxes to images, so the file is read twice;
memory holds 16 bytes for each box in a question. Other boxes are skipped. Tested on files written by hand
to the published format.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.fields import (
    as_integer,
    as_list,
    as_object,
    as_text,
    image_path,
    read_box,
    record,
    required,
    sortable,
    text_field,
)
from deixis.data.sources.reading.file_names import first_folder
from deixis.data.sources.reading.image_header import header_size
from deixis.data.sources.reading.questions import Fields, number_field, once_each, the_file
from deixis.data.sources.reading.slots import place_of
from deixis.data.sources.reading.spans import known_index, located_size
from deixis.data.sources.reading.streaming import list_elements
from deixis.structures import Instance, QuestionAnswer, Sample

_BOX, _IMAGE = "box", "image"
_SIDES = ("x", "y", "width", "height")


@dataclass(frozen=True, slots=True)
class Visual7W:
    """A file of Visual7W, and the folder of the images; without ``split``, all splits."""

    name: str
    path: Path
    images: Path
    split: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The file."""
        return (str(self.path),)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield images with their questions, and the boxes of each."""
        owners = _Owners(self.path, self.split)
        for element in list_elements(self.path, ("images", "boxes")):
            place = f"{self.path.name}: {element.member}[{element.number}]"
            try:
                fields = as_object(element.value, element.member)
                if element.member == "images":
                    key, kind, order = text_field(fields, "filename"), _IMAGE, ""
                    if self.split and fields.get("split") != self.split:
                        continue
                else:
                    number = number_field(fields, "box_id")
                    owner = owners.of(number)
                    if owner is None:
                        continue
                    key, kind, order = owner, _BOX, sortable(str(number))
                yield Part(key, kind, order, place, element.text)
            except BadRecord as error:
                yield error.problem(place)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of an image with its boxes and questions."""
        problems: list[RecordProblem] = []
        notes: dict[str, int] = {}
        kept = list(once_each(parts, problems))
        records = [part for part in kept if part.kind == _IMAGE]
        boxes = [part for part in kept if part.kind == _BOX]
        if not records:
            return Reading(None, (RecordProblem("unknown_image", f"image {key}", parts[0].place),))
        place = records[0].place
        try:
            path = image_path(self.images, key)
            size = located_size(path) if boxes else header_size(path)
            fields = record(records[0])
            pairs = as_list(required(fields, "qa_pairs"), "qa_pairs")
        except BadRecord as error:
            return Reading(None, (error.problem(place),))
        instances: list[Instance] = []
        indices: dict[str, int] = {}
        for part in boxes:
            try:
                values = record(part)
                corner = [required(values, side) for side in _SIDES]
                instance = Instance(text_field(values, "name"), read_box(corner, size, notes))
            except BadRecord as error:
                problems.append(error.problem(part.place))
            else:
                indices[str(number_field(values, "box_id"))] = len(instances)
                instances.append(instance)
        asked: list[QuestionAnswer] = []
        for number, value in enumerate(pairs):
            try:
                asked.append(_question(as_object(value, "qa_pair"), indices))
            except BadRecord as error:
                where = f"{place}, qa_pairs[{number}]"
                problems.append(error.problem(where))
        split = fields.get("split", self.split)
        sample = Sample(
            id=f"{self.name}/{key}",
            image=path,
            size=size,
            instances=tuple(instances),
            questions=tuple(asked),
            source=self.name,
            split=split if isinstance(split, str) else self.split,
            exhaustive=False,
        )
        return Reading(sample, tuple(problems), tuple(sorted(notes.items())))


def _question(fields: Fields, indices: dict[str, int]) -> QuestionAnswer:
    question = text_field(fields, "question")
    answer = required(fields, "answer")
    others = as_list(required(fields, "multiple_choices"), "multiple_choices")
    if isinstance(answer, str):
        options = {as_text(answer, "answer"), *(as_text(other, "choice") for other in others)}
        return QuestionAnswer(
            question, as_text(answer, "answer"), kind="choice", options=tuple(sorted(options))
        )
    numbers = [as_integer(number, "box id") for number in (answer, *others)]
    places = {number: known_index(indices, str(number)) for number in sorted(numbers)}
    chosen = places[numbers[0]]
    return QuestionAnswer(
        question,
        place_of(chosen),
        instance=chosen,
        kind="which",
        options=tuple(place_of(index) for index in places.values()),
    )


class _Owners:
    """The image of each box, from the questions: two numbers per box."""

    def __init__(self, path: Path, split: str) -> None:
        self.names: list[str] = []
        boxes, owners = array("q"), array("q")
        for element in list_elements(path, ("images",)):
            fields = element.value if isinstance(element.value, dict) else {}
            name, pairs = fields.get("filename"), fields.get("qa_pairs")
            if not isinstance(name, str) or not isinstance(pairs, list):
                continue
            if split and fields.get("split") != split:
                continue
            named = {number for pair in pairs if isinstance(pair, dict) for number in _ids(pair)}
            boxes.extend(sorted(named))
            owners.extend([len(self.names)] * len(named))
            self.names.append(name.strip())
        order = np.argsort(np.array(boxes, np.int64), kind="stable")
        self.boxes: Int64[np.ndarray, " boxes"] = np.array(boxes, np.int64)[order]
        self.owners: Int64[np.ndarray, " boxes"] = np.array(owners, np.int64)[order]

    def of(self, box: int) -> str | None:
        """Return the image of a box, or None if no question names the box."""
        at = int(np.searchsorted(self.boxes, box))
        if at == len(self.boxes) or self.boxes[at] != box:
            return None
        return self.names[int(self.owners[at])]


def _ids(pair: Fields) -> Iterator[int]:
    others = pair.get("multiple_choices")
    for value in (pair.get("answer"), *(others if isinstance(others, list) else ())):
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62:
            yield value


def open_visual7w(
    path: Path, *, name: str = "visual7w", images: Path | None = None, split: str = ""
) -> Visual7W:
    """Open ``dataset_v7w_pointing.json`` or ``dataset_v7w_telling.json``.

    Images (``v7w_ID.jpg``) are in the given folder ``images``, else in ``images`` beside the file, else
    beside the file.

    Raises:
        AnnotationError: The file is missing.
    """
    file = the_file(path)
    images = images or first_folder(file.parent / "images", file.parent)
    return Visual7W(name, file, images, split)

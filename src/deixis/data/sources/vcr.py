"""Visual Commonsense Reasoning: questions, four answers and four rationales, with tags of objects.

JSON lines. Fields used: ``img_fn``, ``metadata_fn``, ``objects`` (the class of each), ``question``,
``answer_choices`` and ``rationale_choices`` as lists of tokens, in which a list of numbers stands for
objects, ``answer_label`` and ``rationale_label``. The file that ``metadata_fn`` names gives ``width``,
``height``, ``boxes`` (``[x1, y1, x2, y2, score]``) and ``segms``, polygons of ``[x, y]`` of each object, all
in pixels of the image.

In texts, tags become places (`deixis.data.sources.reading.slots`): ``Why is <region 0> pointing at <region
1>?``. Questions with regions are of kind ``regions``, others of kind ``choice``. Options are the four
answers in the file's order. Tokens are joined with English spacing. An object with an invalid box is a
problem, and so is a question about it; polygons of fewer than three points are left out and counted in
the notes as ``polygon_thin``. The test split has no labels, so its questions are problems. Tested on files
written to the published format.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.fields import (
    as_integer,
    as_key,
    as_list,
    as_number,
    as_object,
    as_text,
    image_path,
    image_size,
    read_box,
    read_mask,
    record,
    required,
    sortable,
    text_field,
)
from deixis.data.sources.reading.questions import Fields, number_field, once_each, texts, the_file
from deixis.data.sources.reading.records import Record, digest, file_record, parts_of, records
from deixis.data.sources.reading.slots import about_regions, check_no_places, place_of
from deixis.data.sources.reading.spans import known_index
from deixis.geometry import ImageSize, Mask
from deixis.language import join
from deixis.structures import Instance, QuestionAnswer, Sample

# matches a run of blanks only from its start, for linear time
_BEFORE = re.compile(r"(?<!\s)\s++(?=[,.?!;:%)\]]|(?:'(?:s|re|ve|ll|d|m)|n't)\b)", re.IGNORECASE)
_AFTER = re.compile(r"(?<=[(\[$])\s+")


@dataclass(frozen=True, slots=True)
class Vcr:
    """A file of VCR, and the folder of its images and their metadata."""

    name: str
    path: Path
    images: Path
    split: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The file."""
        return (str(self.path),)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part per question."""
        return parts_of(records(self.path), self._part)

    def _part(self, one: Record) -> Part:
        fields = as_object(one.value, "line")
        order = sortable(as_key(fields.get("annot_id") or digest(one.text), "annot_id"))
        return Part(text_field(fields, "img_fn"), "question", order, one.place, one.text)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of an image with its objects and questions; reads the metadata."""
        place = parts[0].place
        try:
            fields = record(parts[0])
            path = image_path(self.images, key)
            named = image_path(self.images, required(fields, "metadata_fn"))
            reader = _Scene(fields, as_object(file_record(named, named.name).value, "metadata"))
            reader.things(place)
        except BadRecord as error:
            return Reading(None, (error.problem(place),))
        asked: list[QuestionAnswer] = []
        for part in once_each(parts, reader.problems):
            try:
                asked.append(reader.question(record(part)))
            except BadRecord as error:
                reader.problems.append(error.problem(part.place))
        sample = Sample(
            id=f"{self.name}/{key}",
            image=path,
            size=reader.size,
            instances=tuple(reader.instances),
            questions=tuple(asked),
            source=self.name,
            split=self.split,
            exhaustive=False,
        )
        return Reading(sample, tuple(reader.problems), tuple(sorted(reader.notes.items())))


class _Scene:
    """Reads the objects and questions of an image."""

    def __init__(self, fields: Fields, metadata: Mapping[str, Any]) -> None:
        self.classes = texts(fields, "objects")
        self.boxes = as_list(required(metadata, "boxes"), "boxes")
        self.segments = as_list(metadata.get("segms") or [], "segms")
        self.size = image_size(required(metadata, "width"), required(metadata, "height"))
        self.instances: list[Instance] = []
        self.indices: dict[str, int] = {}
        self.problems: list[RecordProblem] = []
        self.notes: dict[str, int] = {}
        if len(self.boxes) != len(self.classes):
            raise BadRecord(
                "bad_record", f"{len(self.classes)} objects, metadata have {len(self.boxes)} boxes"
            )

    def things(self, place: str) -> None:
        """Read the objects."""
        for number, (name, values) in enumerate(zip(self.classes, self.boxes, strict=True)):
            try:
                corners = list(as_list(values, "box")[:4])
                box = read_box(corners, self.size, self.notes, layout="xyxy")
                instance = Instance(name, box, self.mask(number, self.size))
            except BadRecord as error:
                self.problems.append(error.problem(f"{place}, object {number}"))
            else:
                self.indices[str(number)] = len(self.instances)
                self.instances.append(instance)

    def mask(self, number: int, size: ImageSize) -> Mask | None:
        """Return the mask of an object's polygons, if it has any."""
        if number >= len(self.segments):
            return None
        polygons = []
        for points in as_list(self.segments[number], "segms"):
            pairs = [as_list(point, "point") for point in as_list(points, "polygon")]
            if any(len(pair) != 2 for pair in pairs):
                raise BadRecord("mask_damaged", "a point is not two numbers")
            if len(pairs) < 3:
                self.notes["polygon_thin"] = self.notes.get("polygon_thin", 0) + 1
            else:
                polygons.append([as_number(value, "point") for pair in pairs for value in pair])
        return read_mask(polygons, size) if polygons else None

    def question(self, fields: Fields) -> QuestionAnswer:
        """Read a question with its options and rationale."""
        options = [self.text(one) for one in as_list(required(fields, "answer_choices"), "answers")]
        reasons = as_list(required(fields, "rationale_choices"), "rationale_choices")
        return about_regions(
            self.text(required(fields, "question")),
            _chosen(options, number_field(fields, "answer_label")),
            kind="choice",
            options=options,
            rationale=self.text(_chosen(reasons, number_field(fields, "rationale_label"))),
        )

    def text(self, tokens: object) -> str:
        """Return tokens as a text, with slots for their tags."""
        listed = as_list(tokens, "tokens")
        check_no_places(" ".join(token for token in listed if isinstance(token, str)))
        words = []
        for token in listed:
            if isinstance(token, str):
                words.append(as_text(token, "token", empty=True))
                continue
            numbers = [as_integer(number, "tag") for number in as_list(token, "tag")]
            indices = [known_index(self.indices, str(number)) for number in numbers]
            words.append(join([place_of(index) for index in indices]))
        joined = " ".join(word for word in words if word)
        return as_text(_AFTER.sub("", _BEFORE.sub("", joined)), "text")


def _chosen(options: Sequence[Any], number: int) -> Any:
    if not 0 <= number < len(options):
        raise BadRecord("bad_record", f"option {number} of {len(options)}")
    return options[number]


def open_vcr(
    path: Path, *, name: str = "vcr", images: Path | None = None, split: str = "train"
) -> Vcr:
    """Open ``SPLIT.jsonl``, or its folder.

    Images and metadata are in the given folder ``images``, else in ``vcr1images`` beside the file, else
    beside the file.

    Raises:
        AnnotationError: The file is missing.
    """
    file = the_file(path, f"{split}.jsonl")
    place = file.parent / "vcr1images"
    return Vcr(name, file, images or (place if place.is_dir() else file.parent), split)

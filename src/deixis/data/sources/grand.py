"""GranD: objects of photographs with labels and attributes, and captions with grounded phrases.

Each image has a file with one JSON object, whose key is the image's name. Fields used:

- ``objects`` and ``floating_objects`` (small or separate objects): ``id``, ``labels``, of which the
  first is the class, ``bbox`` and the optional ``segmentation``. ``attributes`` are phrases: each is a
  description of its object, and also an expression for it if no other object of the image has it.
  The prefixes ``Assistant:`` and ``istant:`` of a language model are removed.
- ``captions`` with ``relationships.grounding`` (levels 2 and 3): phrases and the ids that they refer
  to. A phrase is searched in every caption, as whole words in any case; one without a match is a
  problem.
- ``short_captions`` and ``dense_caption`` (as released): a ``caption`` with ``details``, whose
  ``tokens_positive`` are offsets; without offsets the ``phrase`` is searched.

Boxes are ``[x1, y1, x2, y2]`` in pixels of the image, whose size is read from the image file. Boxes
of detectors that exceed the image by up to a fiftieth of the side are clipped and counted in the notes
as ``box_clipped``. A duplicate id is a problem. Underscores in labels are blanks.
``floating_attributes`` have no class and are counted in the notes as ``without_label``; scores, depths,
landmarks and affordances are not used. Models made the annotations, so no sample is exhaustive. Tested
on original files of levels 3 and 4, and on files written by hand to the format of the release.
"""

import re
from collections import Counter
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
    read_box,
    read_mask,
    required,
    text_field,
)
from deixis.data.sources.reading.questions import texts
from deixis.data.sources.reading.records import file_record, json_files, place_in
from deixis.data.sources.reading.spans import Span, find_phrase, ground, known_index, located_size
from deixis.data.sources.reading.streaming import parse_json
from deixis.data.wording import REGION_SLOT
from deixis.errors import AnnotationError
from deixis.geometry import Box, ImageSize
from deixis.structures import Expression, GroundedText, Instance, QuestionAnswer, Sample

OVERSHOOT = 0.02
"""The share of the side by which a box may exceed the image; original files have up to 0.013."""

_LEFT_OVER = re.compile(r"^\s*(?:ass)?istant\s*:?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Grand:
    """A folder of GranD's files and the folder of the images."""

    name: str
    path: Path
    images: Path
    split: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The file, or the folder of files."""
        return (str(self.path),)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part per image; the files come in arbitrary order."""
        for path in json_files(self.path) if self.path.is_dir() else [self.path]:
            place = place_in(path, self.path)
            try:
                one = file_record(path, place)
                for key in as_object(one.value, "file"):
                    yield Part(as_key(key, "image"), "image", "", place, one.text)
            except BadRecord as error:
                yield error.problem(place)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of an image."""
        place = parts[0].place
        if len(parts) > 1:
            return Reading(
                None, (RecordProblem("duplicate_image", f"{len(parts)} records", place),)
            )
        try:
            fields = as_object(as_object(parse_json(parts[0].payload), "file")[key], "image")
            path = image_path(self.images, key)
            reader = _Image(fields, located_size(path), place)
            reader.read()
        except BadRecord as error:
            return Reading(None, (error.problem(place),))
        sample = Sample(
            id=f"{self.name}/{key}",
            image=path,
            size=reader.size,
            instances=tuple(reader.instances),
            expressions=tuple(reader.expressions()),
            captions=tuple(reader.captions),
            questions=tuple(reader.descriptions()),
            source=self.name,
            split=self.split,
            exhaustive=False,
        )
        return Reading(sample, tuple(reader.problems), tuple(sorted(reader.notes.items())))


class _Image:
    """Reads the record of one image; invalid pieces are left out and listed as problems."""

    def __init__(self, fields: Mapping[str, Any], size: ImageSize, place: str) -> None:
        self.fields = fields
        self.size = size
        self.place = place
        self.instances: list[Instance] = []
        self.described: list[tuple[int, str]] = []
        self.captions: list[GroundedText] = []
        self.indices: dict[str, int] = {}
        self.problems: list[RecordProblem] = []
        self.notes: dict[str, int] = {}

    def read(self) -> None:
        """Read objects, then captions."""
        for name in ("objects", "floating_objects"):
            for number, value in enumerate(as_list(self.fields.get(name, []), name)):
                try:
                    self.thing(as_object(value, "object"))
                except BadRecord as error:
                    self.problem(error, f"{name}[{number}]")
        loose = len(as_list(self.fields.get("floating_attributes", []), "floating_attributes"))
        if loose:
            self.notes["without_label"] = loose
        self.searched()
        for number, value in enumerate(
            as_list(self.fields.get("short_captions", []), "short_captions")
        ):
            self.detailed(value, f"short_captions[{number}]")
        if self.fields.get("dense_caption") is not None:
            self.detailed(self.fields["dense_caption"], "dense_caption")

    def problem(self, error: BadRecord, where: str) -> None:
        """List the problem of a piece that was left out."""
        self.problems.append(error.problem(f"{self.place}, {where}"))

    def thing(self, fields: Mapping[str, Any]) -> None:
        """Read an object, or a floating one."""
        labels = texts(fields, "labels")
        if not labels:
            raise BadRecord("bad_record", "labels: none")
        key = as_key(required(fields, "id"), "id")
        if key in self.indices:
            raise BadRecord("duplicate_annotation", f"object {key}")
        segmentation = fields.get("segmentation")
        instance = Instance(
            category=labels[0].replace("_", " "),
            box=self.box(required(fields, "bbox")),
            mask=None if segmentation in (None, []) else read_mask(segmentation, self.size),
        )
        attributes = fields.get("attributes") or []
        phrases = [attributes] if isinstance(attributes, str) else as_list(attributes, "attributes")
        cleaned = [_LEFT_OVER.sub("", as_text(phrase, "attribute")) for phrase in phrases]
        self.indices[key] = len(self.instances)
        self.described += [(len(self.instances), phrase) for phrase in cleaned if phrase]
        self.instances.append(instance)

    def box(self, values: object) -> Box:
        """Read a box and clip it to the image."""
        corners = [as_number(value, "box") for value in as_list(values, "box")]
        sides = (self.size.width, self.size.height) * 2
        clipped = [
            min(max(corner, 0), side) if -reach <= corner <= side + reach else corner
            for corner, side in zip(corners, sides, strict=False)
            for reach in [OVERSHOOT * side]
        ]
        if len(corners) == 4 and clipped != corners:
            self.notes["box_clipped"] = self.notes.get("box_clipped", 0) + 1
            corners = clipped
        return read_box(corners, self.size, self.notes, layout="xyxy")

    def searched(self) -> None:
        """Read captions whose phrases are given as words."""
        captions = []
        for number, value in enumerate(as_list(self.fields.get("captions", []), "captions")):
            try:
                captions.append(as_text(value, "caption"))
            except BadRecord as error:
                self.problem(error, f"captions[{number}]")
        spans: list[list[Span]] = [[] for _ in captions]
        for number, value in enumerate(self.grounding()):
            try:
                phrase, indices = self.phrase(as_object(value, "grounding"))
                found = _found(captions, phrase)
            except BadRecord as error:
                self.problem(error, f"grounding[{number}]")
            else:
                for at, where in enumerate(found):
                    spans[at] += [Span(*where, indices)] if where is not None else []
        for caption, chosen in zip(captions, spans, strict=True):
            self.add(caption, chosen, "captions")

    def grounding(self) -> Sequence[Any]:
        """Return the phrases of the relationships; empty for other layouts of relationships."""
        relationships = self.fields.get("relationships")
        if not isinstance(relationships, dict):
            return ()
        return as_list(relationships.get("grounding", []), "grounding")

    def phrase(self, fields: Mapping[str, Any]) -> tuple[str, tuple[int, ...]]:
        """Read a phrase and the indices of its objects."""
        numbers: list[Any] = []
        for name in ("object_ids", "floating_object_ids", "ids", "id"):
            value = fields.get(name)
            numbers += value if isinstance(value, list) else [] if value is None else [value]
        indices = [known_index(self.indices, as_key(number, "id")) for number in numbers]
        return text_field(fields, "phrase"), tuple(dict.fromkeys(indices))

    def detailed(self, value: object, where: str) -> None:
        """Read a caption whose details have offsets, or phrases to search."""
        try:
            fields = as_object(value, where)
            caption = required(fields, "caption")
            as_text(caption, "caption")
            details = as_list(fields.get("details", []), "details")
        except BadRecord as error:
            self.problem(error, where)
            return
        spans: list[Span] = []
        for number, detail in enumerate(details):
            try:
                part = as_object(detail, "detail")
                phrase, indices = self.phrase(part)
                spans.append(Span(*self.offsets(part, caption, phrase), indices))
            except BadRecord as error:
                self.problem(error, f"{where}, details[{number}]")
        self.add(caption, spans, where)

    def offsets(self, fields: Mapping[str, Any], caption: str, phrase: str) -> tuple[int, int]:
        """Return start and end of a detail's phrase."""
        given = fields.get("tokens_positive")
        if given is None:
            found = find_phrase(caption, phrase)
            if found is None:
                raise BadRecord("span_damaged", f"phrase {phrase[:80]!r} is not in its caption")
            return found
        values = as_list(given, "tokens_positive")
        if len(values) == 1:
            values = as_list(values[0], "tokens_positive")
        if len(values) != 2:
            raise BadRecord("bad_record", "tokens_positive: expected two offsets")
        return as_integer(values[0], "offset"), as_integer(values[1], "offset")

    def add(self, caption: str, spans: Sequence[Span], where: str) -> None:
        """Add a caption with its phrases."""
        self.captions.append(
            ground(
                caption,
                spans,
                self.instances,
                notes=self.notes,
                problems=self.problems,
                place=f"{self.place}, {where}",
            )
        )

    def expressions(self) -> Iterator[Expression]:
        """Yield the phrases that describe exactly one object of the image."""
        counts = Counter(phrase.lower() for _, phrase in self.described)
        for index, phrase in self.described:
            if counts[phrase.lower()] == 1:
                yield Expression(phrase, (index,))

    def descriptions(self) -> Iterator[QuestionAnswer]:
        """Yield a description of each object."""
        for index, phrase in self.described:
            yield QuestionAnswer(
                f"What is {REGION_SLOT}?", phrase, instance=index, kind="description"
            )


def _found(captions: Sequence[str], phrase: str) -> list[tuple[int, int] | None]:
    found = [find_phrase(caption, phrase) for caption in captions]
    if not any(found):
        raise BadRecord("span_damaged", f"phrase {phrase[:80]!r} is in no caption")
    return found


def open_grand(
    path: Path, *, name: str = "grand", images: Path | None = None, split: str = ""
) -> Grand:
    """Open a folder of files, or one file; images are in the given folder ``images``, else beside the files.

    Raises:
        AnnotationError: The file is missing.
    """
    if not path.is_file() and not (path.is_dir() and any(json_files(path))):
        raise AnnotationError(f"{path}: expected JSON files, one per image")
    return Grand(name, path, images or (path if path.is_dir() else path.parent), split)

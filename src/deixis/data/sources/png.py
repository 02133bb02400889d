"""Panoptic Narrative Grounding: narratives whose phrases refer to panoptic segments.

It needs ``png_coco_SPLIT.json``, a list of narratives with ``image_id``, ``caption`` and
``segments`` (each an ``utterance`` and the ``segment_ids`` that it means); COCO's
``panoptic_SPLIT.json``; and its pictures of segments (`deixis.data.sources.panoptic` says how those two
are read).

Utterances are searched in the caption in order, in any case; one with segments but without a match is a
problem. Boxes are the bounding boxes of segments. Every segment of an image is an instance; an image
without narrative gives a sample without caption.
Tested on files written by hand to the published format, with true panoptic files.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.panoptic import (
    Panoptic,
    PanopticCategory,
    open_panoptic,
    panoptic_masks,
    segment_instance,
)
from deixis.data.sources.reading.coco_records import image_of
from deixis.data.sources.reading.fields import (
    as_key,
    as_list,
    as_object,
    as_text,
    record,
    required,
    text_field,
)
from deixis.data.sources.reading.questions import Fields, number_field, once_each, the_file
from deixis.data.sources.reading.records import Record, digest, parts_of, records
from deixis.data.sources.reading.spans import Span, ground, known_index
from deixis.geometry import ImageSize
from deixis.structures import GroundedText, Instance, Sample

_ANNOTATION, _IMAGE, _NARRATIVE = "annotation", "image", "narrative"


@dataclass(frozen=True, slots=True)
class PanopticNarratives:
    """Narratives and their panoptic file."""

    name: str
    narratives: Path
    panoptic: Panoptic
    split: str = ""

    @property
    def images(self) -> Path:
        """The folder of the images."""
        return self.panoptic.images

    @property
    def files(self) -> tuple[str, ...]:
        """The narratives, then the panoptic files."""
        return str(self.narratives), *self.panoptic.files

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield narratives, then images and their segments."""
        yield from parts_of(records(self.narratives), self._part)
        yield from self.panoptic.parts()

    def _part(self, one: Record) -> Part:
        key = image_number(as_object(one.value, "narrative"))
        return Part(key, _NARRATIVE, digest(one.text), one.place, one.text)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of an image with its segments and narratives."""
        place = parts[0].place
        try:
            path, size = image_of([part for part in parts if part.kind == _IMAGE], self.images)
            reader = _Narratives(size, self.panoptic.categories)
            annotations = [part for part in parts if part.kind == _ANNOTATION]
            for part in once_each(annotations, reader.problems):
                place = part.place
                reader.segments(record(part), self.panoptic.segments, place)
        except BadRecord as error:
            return Reading(None, (error.problem(place),))
        narratives = [part for part in parts if part.kind == _NARRATIVE]
        for part in once_each(narratives, reader.problems):
            try:
                reader.narrative(record(part), part.place)
            except BadRecord as error:
                reader.problems.append(error.problem(part.place))
        sample = Sample(
            id=f"{self.name}/{key}",
            image=path,
            size=size,
            instances=tuple(reader.instances),
            captions=tuple(reader.captions),
            source=self.name,
            split=self.split,
            exhaustive=False,
        )
        return Reading(sample, tuple(reader.problems), tuple(sorted(reader.notes.items())))


class _Narratives:
    """Reads the segments and narratives of one image."""

    def __init__(self, size: ImageSize, categories: Mapping[int, PanopticCategory]) -> None:
        self.size = size
        self.categories = categories
        self.instances: list[Instance] = []
        self.captions: list[GroundedText] = []
        self.problems: list[RecordProblem] = []
        self.notes: dict[str, int] = {}
        self.indices: dict[str, int] = {}

    def segments(self, fields: Fields, folder: Path, place: str) -> None:
        """Read the segments as instances."""
        masks = panoptic_masks(folder, required(fields, "file_name"), self.size)
        listed = as_list(required(fields, "segments_info"), "segments_info")
        for number, value in enumerate(listed):
            try:
                info = as_object(value, "segment")
                category = self.categories.get(number_field(info, "category_id"))
                instance = segment_instance(info, masks, category)
            except BadRecord as error:
                where = f"{place}, segments_info[{number}]"
                self.problems.append(error.problem(where))
            else:
                self.indices[str(number_field(info, "id"))] = len(self.instances)
                self.instances.append(instance)

    def narrative(self, fields: Fields, place: str) -> None:
        """Read a caption with its phrases."""
        caption = text_field(fields, "caption")
        spans: list[Span] = []
        cursor = 0
        for number, value in enumerate(as_list(required(fields, "segments"), "segments")):
            try:
                segment = as_object(value, "segment")
                start, end = _found(caption, required(segment, "utterance"), cursor)
                cursor = max(cursor, end)
                meant = self.meant(segment)
                if meant:
                    spans.append(Span(start, end, meant))
            except BadRecord as error:
                where = f"{place}, segments[{number}]"
                self.problems.append(error.problem(where))
        self.captions.append(
            ground(
                caption,
                spans,
                self.instances,
                notes=self.notes,
                problems=self.problems,
                place=place,
            )
        )

    def meant(self, fields: Fields) -> tuple[int, ...]:
        """Return the instances of a segment of the caption."""
        numbers = as_list(required(fields, "segment_ids"), "segment_ids")
        keys = [as_key(number, "segment id") for number in numbers]
        return tuple(dict.fromkeys(known_index(self.indices, key) for key in keys))


def _found(caption: str, value: Any, cursor: int) -> tuple[int, int]:
    """Return the span of an utterance; it is empty for an unmatched utterance without segments."""
    utterance = as_text(value, "utterance", empty=True)
    start = caption.lower().find(utterance.lower(), cursor) if utterance else -1
    return (start, start + len(utterance)) if start >= 0 else (0, 0)


def image_number(fields: Fields, name: str = "image_id") -> str:
    """Return the id of an image, without leading zeros if it is a text of digits."""
    key = as_key(required(fields, name), name)
    return str(int(key)) if key.isascii() and key.isdigit() and len(key) < 20 else key


def open_png(
    path: Path,
    *,
    name: str = "png",
    panoptic: Path | None = None,
    segments: Path | None = None,
    images: Path | None = None,
    split: str = "val2017",
) -> PanopticNarratives:
    """Open the benchmark's folder, or a file of narratives with the paths of the other files.

    The folder holds ``annotations/png_coco_SPLIT.json``, ``annotations/panoptic_SPLIT.json``,
    ``annotations/panoptic_segmentation/SPLIT`` and ``images/SPLIT``.

    Raises:
        AnnotationError: A file or folder is missing, or has no valid categories.
    """
    file = the_file(path, f"annotations/png_coco_{split}.json", f"png_coco_{split}.json")
    pictures = file.parent / "panoptic_segmentation" / split
    found = open_panoptic(
        panoptic or file.parent / f"panoptic_{split}.json",
        name=name,
        split=split,
        images=images,
        segments=segments or (pictures if pictures.is_dir() else None),
    )
    return PanopticNarratives(name, file, found, split)

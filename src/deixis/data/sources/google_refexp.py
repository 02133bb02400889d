"""Google RefExp (the original RefCOCOg): sentences about one annotation of a COCO image.

The reader detects three layouts. The release, ``google_refexp_{train,val}_201511.json``,
has lists of ``annotations`` and ``refexps``; the toolkit's ``..._coco_aligned.json`` has the same as
objects by number, and COCO's fields with them; flattened JSON lines have a sentence each, with
``image_id``, ``annotation_id``, ``raw`` and perhaps ``category``, ``bbox`` and ``segmentation``.

Fields used: those, ``refexp_ids`` and ``refexp_id``; region candidates, tokens and parses are not.
All but the aligned form need COCO's ``instances_train2014.json``, whose annotations of an image all
become instances. Boxes are COCO's ``[x, y, width, height]`` in pixels.

Irregularities: only the annotation of a sentence names its image, so memory holds the numbers of all
sentences during reading; ``bbox`` may be null; an annotation may be missing in the instances file
(then the line's own box is used, else ``unknown_annotation``).

Tested on original JSON lines (5,000 of the validation set), and on files written to the other two
published forms.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.coco_records import (
    COCO_CATEGORIES,
    Annotated,
    coco_parts,
    image_of,
    read_categories,
)
from deixis.data.sources.reading.fields import (
    as_key,
    as_list,
    as_object,
    record,
    required,
    sortable,
    text_field,
)
from deixis.data.sources.reading.file_names import say_which
from deixis.data.sources.reading.streaming import json_lines, list_elements, parse_json
from deixis.errors import AnnotationError
from deixis.structures import Expression, Sample

_ANNOTATION, _IMAGE, _OWN, _SENTENCE = "annotation", "image", "own", "sentence"
_OWN_FIELDS = ("bbox", "segmentation", "category", "category_id", "iscrowd")


@dataclass(frozen=True, slots=True)
class GoogleRefExp:
    """Sentences about COCO images, and their instances."""

    name: str
    images: Path
    sentences: Path
    instances: Path | None = None
    categories: Mapping[int, str] = field(default_factory=lambda: COCO_CATEGORIES)
    split: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The sentences and the instances."""
        paths = (self.sentences, self.instances)
        return tuple(str(path) for path in paths if path is not None)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield the sentences, then their images and all annotations of these images."""
        wanted: set[str] = set()
        lines = self.sentences.suffix in {".jsonl", ".ndjson"}
        for part in self._lines() if lines else self._toolkit():
            if isinstance(part, Part):
                wanted.add(part.key)
            yield part
        if self.instances is not None:
            yield from coco_parts(self.instances, wanted)

    def _lines(self) -> Iterator[Part | RecordProblem]:
        for number, line in json_lines(self.sentences):
            place = f"{self.sentences.name}: line {number}"
            try:
                fields = as_object(parse_json(line), "line")
                key = as_key(required(fields, "image_id"), "image_id")
                order = sortable(as_key(required(fields, "annotation_id"), "annotation_id"))
                yield Part(key, _SENTENCE, f"{order} {json.dumps(fields.get('raw'))}", place, line)
            except BadRecord as error:
                yield error.problem(place)

    def _toolkit(self) -> Iterator[Part | RecordProblem]:
        meant: dict[str, tuple[str, str]] = {}
        path = self.sentences
        for element in list_elements(path, ("annotations", "images"), objects=True):
            place = f"{path.name}: {element.member}[{element.number}]"
            try:
                fields = as_object(element.value, element.member)
                key = as_key(required(fields, "image_id"), "image_id")
                if element.member == "annotations":
                    yield from self._own(fields, key, place, meant)
                elif self.instances is None:
                    kept = {name: fields.get(name) for name in ("file_name", "width", "height")}
                    yield Part(key, _IMAGE, "", place, json.dumps(kept))
            except BadRecord as error:
                yield error.problem(place)
        for element in list_elements(path, ("refexps",), objects=True):
            place = f"{path.name}: {element.member}[{element.number}]"
            try:
                fields = as_object(element.value, "refexp")
                number = as_key(required(fields, "refexp_id"), "refexp_id")
                key, annotation = _meant(number, meant)
                kept = {"annotation_id": annotation, "raw": fields.get("raw")}
                yield Part(key, _SENTENCE, sortable(number), place, json.dumps(kept))
            except BadRecord as error:
                yield error.problem(place)

    def _own(
        self, fields: Mapping[str, Any], key: str, place: str, meant: dict[str, tuple[str, str]]
    ) -> Iterator[Part]:
        annotation = as_key(required(fields, "annotation_id"), "annotation_id")
        for number in as_list(required(fields, "refexp_ids"), "refexp_ids"):
            meant[as_key(number, "refexp_id")] = (key, annotation)
        if self.instances is None:
            kept = {name: fields[name] for name in _OWN_FIELDS if name in fields}
            yield Part(key, _OWN, sortable(annotation), place, json.dumps(kept))

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of an image with its annotations and sentences."""
        kinds = {
            kind: [part for part in parts if part.kind == kind]
            for kind in (_IMAGE, _ANNOTATION, _OWN, _SENTENCE)
        }
        try:
            path, size = image_of(kinds[_IMAGE], self.images)
        except BadRecord as error:
            return Reading(None, (error.problem(parts[0].place),))
        annotated = Annotated(size, self.categories, claimed=self.instances is not None)
        annotated.add_parts(kinds[_ANNOTATION] + kinds[_OWN])
        expressions: list[Expression] = []
        for part in kinds[_SENTENCE]:
            try:
                fields = record(part)
                number = required(fields, "annotation_id")
                if not annotated.knows(number) and fields.get("bbox") is not None:
                    annotated.add(sortable(as_key(number, "annotation_id")), fields)
                expressions.append(
                    Expression(text_field(fields, "raw"), (annotated.index(number),), "long")
                )
            except BadRecord as error:
                if error.code == "bad_text":
                    annotated.remark(error, part.place)
                else:
                    annotated.problem(error, part.place)
        sample = Sample(
            id=f"{self.name}/{key}",
            image=path,
            size=size,
            instances=tuple(annotated.instances),
            expressions=tuple(expressions),
            source=self.name,
            split=self.split,
            left_out=annotated.left_out(),
        )
        return Reading(sample, tuple(annotated.problems), tuple(sorted(annotated.notes.items())))


def _meant(number: str, meant: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    if number not in meant:
        raise BadRecord("unknown_annotation", f"refexp {number} is in no annotation")
    return meant[number]


def open_google_refexp(
    path: Path,
    *,
    name: str = "google_refexp",
    split: str = "",
    instances: Path | None = None,
    images: Path | None = None,
) -> GoogleRefExp:
    """Find the files of the toolkit's folder, or take a file of sentences.

    Args:
        path: The folder of ``google_refexp_SPLIT_201511_coco_aligned.json`` or, without alignment,
            ``google_refexp_SPLIT_201511.json``; or one of these; or JSON lines.
        name: Prefix of the sample names.
        split: ``train`` or ``val``, if a folder has several.
        instances: COCO's instances of these images; not needed for the aligned layout.
        images: The folder of the images, COCO's ``train2014``.

    Raises:
        AnnotationError: The files are missing, or an option is needed to choose among several.
    """
    sentences = path if path.is_file() else _sentences_in(path, split)
    aligned = "aligned" in sentences.name
    if instances is None and not aligned:
        raise AnnotationError(
            f"{sentences}: is about COCO's annotations: expected instances=PATH of a file such as "
            "instances_train2014.json"
        )
    folder = sentences.parent
    places = (
        [images] if images else [folder / "train2014", folder / "images", folder.parent / "images"]
    )
    found = next((one for one in ("train", "val") if f"_{one}" in sentences.name), "")
    return GoogleRefExp(
        name=name,
        images=next((place for place in places if place.is_dir()), places[0]),
        sentences=sentences,
        instances=instances,
        categories=COCO_CATEGORIES if instances is None else read_categories(instances),
        split=split or found,
    )


def _sentences_in(folder: Path, split: str) -> Path:
    for ending in ("_201511_coco_aligned.json", "_201511.json"):
        found = sorted(folder.glob(f"google_refexp_{split or '*'}{ending}"))
        if len(found) == 1:
            return found[0]
        if found:
            names = [file.name for file in found]
            splits = [name.removeprefix("google_refexp_").removesuffix(ending) for name in names]
            raise AnnotationError(f"{folder}: has {names}{say_which('google_refexp', splits)}")
    raise AnnotationError(f"{folder}: expected google_refexp_{split or 'SPLIT'}_201511.json")

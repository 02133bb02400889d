"""Label Studio: JSON exports, and tasks with annotations or predictions.

A task has one picture. The reader takes one of its annotations: the one marked as ground truth, else
the last that was not cancelled; with ``results=predictions`` the last prediction. Coordinates are
percentages of the sides and become pixels rounded to a millionth.

The reader supports regions of the types ``rectanglelabels``, ``ellipselabels``, ``polygonlabels``,
``brushlabels`` and ``keypointlabels``; ``rectangle``, ``ellipse``, ``polygon`` and ``brush`` with their
label in a result ``labels`` of the same id; ``relation``; and ``textarea`` (each text without a region
is a caption). A mask or keypoint with a box as its parent belongs to that box. A mask or an ellipse
without a parent is an instance with the box around it; ellipses have no mask. A keypoint with
``occluded`` in its notes is not visible. Keypoints become COCO's if all names are COCO's; otherwise
their names form a new set.

A box is turned about its top left corner. Turned by a multiple of 90 degrees it stays a box; by any
other angle it becomes a polygon with the box around it (``box_turned``).

Results of other types are counted and left out (``results_of_other_types``). If such a result is a
region, its class is incomplete; a region without a label (``region_without_label``) makes all classes
incomplete. Tasks without an annotation and predictions are never exhaustive.

The picture is the field ``image`` of the data, or the only text that names a picture; ``picture`` selects
one of several. Its name is relative to the folder of the images: the part after ``?d=`` of Label Studio's
local files; the part after ``/data/`` (the folder is then Label Studio's media folder); the path of an
``s3://`` or ``gs://`` address without its host; the last piece of an ``http`` address.

Tested on files written by hand to the published format.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from jaxtyping import Bool

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.fields import (
    as_key,
    as_list,
    as_number,
    as_object,
    as_text,
    image_path,
    image_size,
    inside_box,
    mask_box,
    record,
    required,
    text_field,
)
from deixis.data.sources.reading.file_names import IMAGE_SUFFIXES
from deixis.data.sources.reading.image_header import header_size
from deixis.data.sources.reading.inventory import Inventory
from deixis.data.sources.reading.streaming import list_elements
from deixis.errors import AnnotationError, GeometryError, RecipeError
from deixis.geometry import COCO_KEYPOINTS, Box, CodedMask, ImageSize, Keypoints, Mask
from deixis.geometry.checks import shown
from deixis.structures import GroundedText, Instance, Relation, Sample

RESULTS = ("annotations", "predictions")
_BOX, _POLYGON, _BRUSH, _KEYPOINT, _ELLIPSE = (
    *("rectanglelabels", "polygonlabels", "brushlabels"),
    *("keypointlabels", "ellipselabels"),
)
_RELATION, _TEXT, _LABELS = "relation", "textarea", "labels"
_SHAPES = {
    **{kind: kind for kind in (_BOX, _POLYGON, _BRUSH, _KEYPOINT, _ELLIPSE)},
    **{kind.removesuffix(_LABELS): kind for kind in (_BOX, _POLYGON, _BRUSH, _ELLIPSE)},
}
"""Supported types of regions; the types without labels have their label in another result."""
_NOTES = frozenset(
    {
        *("choices", "rating", "number", "taxonomy", "datetime", "pairwise", "ranker", "video"),
        *(_TEXT, _RELATION),
    }
)
"""Types without geometry, about the whole picture or about a region of another result."""
_EVEN = 1e-3
"""Tolerance in degrees: angles that differ by less are equal."""
_DIGITS = 6
_BEYOND = 0.01
"""A turned box may exceed its image by this share of the sides; it is clipped."""
_HALF = 128
"""A pixel of a brush is set if its opacity is at least half."""


@dataclass(frozen=True, slots=True)
class LabelStudio:
    """A file of tasks and the folder of the pictures."""

    name: str
    path: Path
    images: Path
    results: str = "annotations"
    split: str = ""
    exhaustive: bool = True
    picture: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The file."""
        return (str(self.path),)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part per task."""
        for element in list_elements(self.path):
            place = f"{self.path.name}: task {element.number}"
            try:
                fields = as_object(element.value, "task")
                data = _data(fields)
                named = data.get("key", fields.get("id"))
                key = as_key(_picture(data, self.picture) if named is None else named, "id")
                yield Part(key, "image", "", place, element.text)
            except BadRecord as error:
                yield error.problem(place)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of a task; two tasks of one key are two problems."""
        place = parts[0].place
        if len(parts) > 1:
            places = ", ".join(part.place for part in parts[:3])
            return Reading(
                None, (RecordProblem("duplicate_image", f"{len(parts)} tasks: {places}"),)
            )
        found = Inventory(claimed=self.exhaustive and self.results != "predictions")
        try:
            task = record(parts[0])
            data = _data(task)
            path = image_path(self.images, picture_name(_picture(data, self.picture)), found.notes)
            results = _results(task, self.results, found)
            size = _size(data, results, path)
        except BadRecord as error:
            return Reading(None, (error.problem(place),))
        reader = _Task(size, place, found)
        reader.read(results)
        try:
            sample = Sample(
                id=f"{self.name}/{key}",
                image=path,
                size=size,
                instances=tuple(reader.instances()),
                relations=tuple(reader.relations()),
                captions=tuple(reader.captions),
                source=self.name,
                split=self.split,
                left_out=found.left_out(),
            )
        except AnnotationError as error:
            return Reading(None, (RecordProblem("bad_record", str(error), place),))
        return Reading(sample, tuple(found.problems), found.counts())


class _Task:
    """Reads the results of one task; invalid results are left out and listed as problems."""

    def __init__(self, size: ImageSize, place: str, found: Inventory) -> None:
        self.size = size
        self.place = place
        self.found = found
        self.captions: list[GroundedText] = []
        self.labels: dict[str, Sequence[Any]] = {}
        self.shaped: set[str] = set()
        self.regions: dict[str, Instance] = {}
        self.masks: dict[str, Mask] = {}
        self.joints: dict[str, dict[str, tuple[float, float, int]]] = {}
        self.numbers: dict[str, int] = {}
        self.links: list[tuple[int, str, str, str]] = []

    def read(self, results: Sequence[Any]) -> None:
        # boxes first, since masks and keypoints may refer to a later box
        order = {_BOX: 0, _ELLIPSE: 0, _POLYGON: 1, _BRUSH: 1}
        known = []
        for number, value in enumerate(results):
            try:
                fields = as_object(value, "result")
                kind = str(fields.get("type"))
                known.append((order.get(_SHAPES.get(kind, kind), 2), number, fields))
                self.look(kind, fields)
            except BadRecord as error:
                self.problem(number, error, {})
        for _, number, fields in sorted(known, key=lambda one: one[:2]):
            try:
                self.result(number, fields)
            except BadRecord as error:
                self.problem(number, error, fields)
            except GeometryError as error:
                self.problem(number, BadRecord("bad_record", str(error)), fields)

    def look(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Collect the labels and shapes by id, before results are read."""
        value, id_ = fields.get("value"), fields.get("id")
        if not isinstance(id_, str):
            return
        if kind in _SHAPES:
            self.shaped.add(id_)
        elif kind == _LABELS and isinstance(value, dict) and isinstance(value.get(_LABELS), list):
            self.labels[id_] = value[_LABELS]

    def problem(self, number: int, error: BadRecord, fields: Mapping[str, Any]) -> None:
        place = f"{self.place}, result {number}"
        if str(fields.get("type")) in _NOTES:
            self.found.remark(error, place)
            return
        said = self.said(fields)
        self.found.problem(error, place, category=said[0] if said else None)
        for name in said[1:]:
            self.found.lose(name)

    def said(self, fields: Mapping[str, Any]) -> list[str]:
        """Return the labels of an unsupported region; empty if unknown."""
        value = fields.get("value")
        lists = [self.labels.get(str(fields.get("id")), ())]
        if isinstance(value, dict):
            lists += [one for name, one in value.items() if name.endswith(_LABELS)]
        names = [name for one in lists if isinstance(one, list) for name in one]
        if not names or not all(isinstance(name, str) and name.strip() for name in names):
            return []
        return list(dict.fromkeys(name.strip().replace("_", " ") for name in names))

    def other(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Count a result of an unsupported type; a region makes its class incomplete."""
        self.found.note("results_of_other_types")
        value = fields.get("value")
        marks = isinstance(value, dict) and not value.keys().isdisjoint(
            {"x", "points", "rle", "vertices", "sequence", "imageDataURL"}
        )
        if kind in _NOTES or not (marks or kind.endswith(_LABELS)):
            return
        named: list[str | None] = [*self.said(fields)]
        for name in named or [None]:
            self.found.lose(name)

    def result(self, number: int, fields: Mapping[str, Any]) -> None:
        kind = text_field(fields, "type")
        if kind == _LABELS:
            # the labels of a region whose shape is another result
            if fields.get("id") in self.shaped:
                return
            value = fields.get("value")
            has_sides = isinstance(value, dict) and {"x", "y", "width", "height"} <= value.keys()
            kind = _BOX if has_sides else _LABELS
        if kind == _RELATION:
            self.relation(number, fields)
            return
        if kind != _TEXT and kind not in _SHAPES:
            self.other(kind, fields)
            return
        value = as_object(required(fields, "value"), "value")
        turn = as_number(fields.get("image_rotation", 0), "image_rotation")
        if kind != _TEXT and not _is_multiple(turn, 360):
            raise BadRecord("orientation_ambiguous", "results of a picture that was turned by hand")
        id_ = as_key(fields.get("id", f"result {number}"), "id")
        if kind != _TEXT:
            kind = _SHAPES[kind]
            if kind not in value:
                if id_ not in self.labels:
                    self.found.note("region_without_label")
                    self.found.lose(None)
                    return
                value = {**value, kind: self.labels[id_]}
        parent = fields.get("parentID")
        parent = parent if isinstance(parent, str) and parent in self.regions else None
        if kind in {_BOX, _ELLIPSE}:
            if id_ in self.regions:
                raise BadRecord("duplicate_annotation", f"region {shown(id_)}")
            label = _label(value, kind)
            self.regions[id_] = (
                Instance(label, self.ellipse(value))
                if kind == _ELLIPSE
                else self.rectangle(label, value)
            )
        elif kind in {_POLYGON, _BRUSH}:
            self.mask(value, kind, id_, parent)
        elif kind == _KEYPOINT:
            self.keypoint(fields, value, parent)
        elif fields.get("id") in self.regions:
            # a text about a region
            self.found.note("results_of_other_types")
        else:
            texts = required(value, "text")
            for text in texts if isinstance(texts, list) else [texts]:
                self.captions.append(GroundedText(as_text(text, "text")))

    def rectangle(self, label: str, value: Mapping[str, Any]) -> Instance:
        """Return the instance of a rectangle, which may be turned about its top left corner."""
        angle = as_number(value.get("rotation", 0), "rotation")
        x, y, width, height = (
            as_number(required(value, name), name) for name in ("x", "y", "width", "height")
        )
        left, top = self.across(x), self.down(y)
        wide, high = self.across(x + width) - left, self.down(y + height) - top
        if not (wide > 0 and high > 0):
            raise BadRecord("box_degenerate", f"box {x}, {y}, {width}, {height} has no extent")
        corners = _turned(left, top, wide, high, angle)
        xs, ys = [one[0] for one in corners], [one[1] for one in corners]
        edges = [min(xs), min(ys), max(xs), max(ys)]
        if _is_multiple(angle, 90):
            return Instance(label, inside_box(edges, self.size, self.found.notes))
        for edge, side in zip(edges, (self.size.width, self.size.height) * 2, strict=True):
            if not -_BEYOND * side <= edge <= (1 + _BEYOND) * side:
                raise BadRecord("box_outside", f"a box turned by {angle} degrees leaves its image")
        self.found.note("box_turned")
        try:
            mask = CodedMask([[number for corner in corners for number in corner]], self.size)
        except GeometryError as error:
            raise BadRecord("mask_damaged", str(error)) from None
        inner = [
            *(max(edges[0], 0.0), max(edges[1], 0.0)),
            *(min(edges[2], float(self.size.width)), min(edges[3], float(self.size.height))),
        ]
        return Instance(label, inside_box(inner, self.size, self.found.notes), mask)

    def ellipse(self, value: Mapping[str, Any]) -> Box:
        """Return the box around an ellipse, which may be turned about its centre."""
        x, y, across, down = (
            as_number(required(value, name), name) for name in ("x", "y", "radiusX", "radiusY")
        )
        angle = math.radians(as_number(value.get("rotation", 0), "rotation"))
        wide, high = across * self.size.width / 100, down * self.size.height / 100
        if not (wide > 0 and high > 0):
            raise BadRecord("box_degenerate", f"an ellipse of the radii {across} and {down}")
        half_width = math.hypot(wide * math.cos(angle), high * math.sin(angle))
        half_height = math.hypot(wide * math.sin(angle), high * math.cos(angle))
        middle = (x * self.size.width / 100, y * self.size.height / 100)
        edges = [
            *(middle[0] - half_width, middle[1] - half_height),
            *(middle[0] + half_width, middle[1] + half_height),
        ]
        return inside_box([round(edge, _DIGITS) for edge in edges], self.size, self.found.notes)

    def across(self, percent: float) -> float:
        return round(percent * self.size.width / 100, _DIGITS)

    def down(self, percent: float) -> float:
        return round(percent * self.size.height / 100, _DIGITS)

    def mask(self, value: Mapping[str, Any], kind: str, id_: str, parent: str | None) -> None:
        category = _label(value, kind)
        if kind == _BRUSH:
            mask: Mask = Mask(decode_brush(_bytes(value), self.size))
        else:
            mask = self.polygon(value)
        if parent is not None:
            if parent in self.masks:
                raise BadRecord("duplicate_annotation", f"a second mask of {shown(parent)}")
            self.masks[parent] = mask
        elif id_ in self.regions:
            raise BadRecord("duplicate_annotation", f"region {shown(id_)}")
        else:
            self.regions[id_] = Instance(category, mask_box(mask))
            self.masks[id_] = mask

    def polygon(self, value: Mapping[str, Any]) -> Mask:
        flat: list[float] = []
        for point in as_list(required(value, "points"), "points"):
            numbers = as_list(point, "point")
            if len(numbers) != 2:
                raise BadRecord("mask_damaged", f"point {shown(point)}: expected two numbers")
            flat.append(self.across(as_number(numbers[0], "point")))
            flat.append(self.down(as_number(numbers[1], "point")))
        try:
            return CodedMask([flat], self.size)
        except GeometryError as error:
            raise BadRecord("mask_damaged", str(error)) from None

    def keypoint(
        self, fields: Mapping[str, Any], value: Mapping[str, Any], parent: str | None
    ) -> None:
        if parent is None:
            raise BadRecord("unknown_annotation", "a keypoint that belongs to no box")
        name = _label(value, _KEYPOINT)
        found = self.joints.setdefault(parent, {})
        if name in found:
            raise BadRecord("keypoints_damaged", f"a second {shown(name)} of {shown(parent)}")
        x, y = (as_number(required(value, axis), axis) for axis in ("x", "y"))
        notes = fields.get("meta")
        texts = notes.get("text") if isinstance(notes, dict) else None
        hidden = isinstance(texts, list) and "occluded" in texts
        place = (x * self.size.width / 100, y * self.size.height / 100)
        if not (-1 <= place[0] <= self.size.width + 1 and -1 <= place[1] <= self.size.height + 1):
            raise BadRecord("keypoints_damaged", f"{shown(name)} lies outside: {x} %, {y} %")
        found[name] = (*place, 1 if hidden else 2)

    def relation(self, number: int, fields: Mapping[str, Any]) -> None:
        from_, to = (as_key(required(fields, name), name) for name in ("from_id", "to_id"))
        if fields.get("direction") == "left":
            from_, to = to, from_
        labels = as_list(fields.get("labels") or [], "labels")
        if not labels:
            raise BadRecord("bad_text", "a relation without a label")
        self.links += [(number, from_, as_text(label, "label"), to) for label in labels]

    def instances(self) -> Sequence[Instance]:
        for id_, region in self.regions.items():
            mask = self.masks.get(id_)
            self.numbers[id_] = self.found.add(
                Instance(
                    region.category,
                    region.box,
                    mask=region.mask if mask is None else mask,
                    keypoints=self.keypoints(self.joints.get(id_)),
                )
            )
        return self.found.instances

    def keypoints(self, found: Mapping[str, tuple[float, float, int]] | None) -> Keypoints | None:
        if not found:
            return None
        names = COCO_KEYPOINTS if set(found) <= set(COCO_KEYPOINTS) else tuple(found)
        rows = [found.get(name, (0.0, 0.0, 0)) for name in names]
        table = np.array(rows)
        places, seen = table[:, :2].astype(np.float32), table[:, 2].astype(np.int8)
        return Keypoints(places, seen, names).clip(self.size)

    def relations(self) -> Iterator[Relation]:
        numbers = self.numbers
        for number, from_, label, to in self.links:
            if from_ in numbers and to in numbers:
                yield Relation(numbers[from_], label, numbers[to])
            else:
                missing = from_ if from_ not in numbers else to
                error = BadRecord("unknown_annotation", f"region {shown(missing)}")
                self.found.remark(error, f"{self.place}, result {number}")


def _data(task: Mapping[str, Any]) -> Mapping[str, Any]:
    if "data" not in task:
        raise BadRecord("bad_record", "no data: export as JSON, not as JSON-MIN")
    return as_object(task["data"], "data")


def _label(value: Mapping[str, Any], kind: str) -> str:
    labels = as_list(required(value, kind), kind)
    if len(labels) != 1:
        raise BadRecord("bad_record", f"{kind}: expected one label, got {shown(labels)}")
    label = as_text(labels[0], kind)
    # underscores stand for blanks in classes; names of keypoints stay as they are
    return label if kind == _KEYPOINT else label.replace("_", " ")


def _picture(data: Mapping[str, Any], key: str) -> str:
    """Return the address of a task's picture: the given field, ``image``, or the only picture."""
    if key or "image" in data:
        return text_field(data, key or "image")
    names = [
        name
        for name, value in data.items()
        if isinstance(value, str) and picture_name(value).lower().endswith(IMAGE_SUFFIXES)
    ]
    if len(names) != 1:
        raise BadRecord(
            "bad_record",
            f"image: missing, found {shown(sorted(data)[:10])}; say which, as in "
            "label_studio:PATH,picture=NAME",
        )
    return text_field(data, names[0])


def _is_multiple(angle: float, of: int) -> bool:
    return abs(math.remainder(angle, of)) < _EVEN


def _turned(
    left: float, top: float, wide: float, high: float, angle: float
) -> list[tuple[float, float]]:
    """Return the corners of a box turned clockwise about its top left one; exact at right angles."""
    if _is_multiple(angle, 90):
        quarter = round(angle / 90) % 4
        cos, sin = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[quarter]
    else:
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    sides = ((0.0, 0.0), (wide, 0.0), (wide, high), (0.0, high))
    return [
        (round(left + x * cos - y * sin, _DIGITS), round(top + x * sin + y * cos, _DIGITS))
        for x, y in sides
    ]


def _results(task: Mapping[str, Any], kind: str, found: Inventory) -> Sequence[Any]:
    """Return the results of the ground truth, else of the last one that is not cancelled."""
    answers = [as_object(one, kind) for one in as_list(task.get(kind, []), kind)]
    standing = [one for one in answers if one.get("was_cancelled") is not True]
    truth = [one for one in standing if one.get("ground_truth") is True]
    chosen = (truth or standing)[-1:]
    if len(answers) > 1:
        found.note("one_of_several_annotations")
    if not chosen:
        found.lose(None)
    return as_list(required(chosen[0], "result"), "result") if chosen else []


def _size(data: Mapping[str, Any], results: Sequence[Any], path: Path) -> ImageSize:
    found = {
        image_size(one["original_width"], one["original_height"])
        for one in results
        if isinstance(one, dict) and "original_width" in one and "original_height" in one
    }
    if len(found) > 1:
        raise BadRecord("size_mismatch", f"results are of pictures of {sorted(map(str, found))}")
    if found:
        return found.pop()
    if "width" in data and "height" in data:
        return image_size(data["width"], data["height"])
    return header_size(path)


def picture_name(address: str) -> str:
    """Return the name of a picture, relative to the folder of images, from its address."""
    if "?d=" in address:
        return unquote(address.partition("?d=")[2].partition("&")[0])
    scheme, found, rest = address.partition("://")
    if found and re.fullmatch(r"[a-z][a-z0-9+.-]{0,20}", scheme, re.IGNORECASE):
        path = unquote(rest.partition("?")[0].partition("/")[2])
        return path.rpartition("/")[2] if scheme.lower() in {"http", "https"} else path
    return unquote(address.removeprefix("/data/")) if address.startswith("/data/") else address


def _bytes(value: Mapping[str, Any]) -> bytes:
    if value.get("format") != "rle":
        raise BadRecord("mask_damaged", f"brush: expected format rle, got {value.get('format')!r}")
    numbers = as_list(required(value, "rle"), "rle")
    if not all(type(number) is int and 0 <= number <= 255 for number in numbers):
        raise BadRecord("mask_damaged", "rle: expected numbers of 0 to 255")
    return bytes(numbers)


def decode_brush(data: bytes, size: ImageSize) -> Bool[np.ndarray, "height width"]:
    """Return the mask of a brush from its run lengths of RGBA values; only opacity is used.

    The layout is that of the ``rle-pack`` package. The header has the number of values (32 bits), the
    bits per value minus 1 (5 bits) and four count widths minus 1 (4 bits each). Each run has a flag
    (1 bit: 1 for a repeated value, 0 for single values), the index of its count width (2 bits), the
    count minus 1, and the value or values.

    Raises:
        BadRecord: The data are damaged, cut off, or of another size.
    """
    bits = _Bits(data)
    total, width = bits.take(32), bits.take(5) + 1
    lengths = [bits.take(4) + 1 for _ in range(4)]
    if total != 4 * size.area:
        raise BadRecord("mask_damaged", f"rle: {total} values, expected {4 * size.area} for {size}")
    flat = np.zeros(size.area, np.bool_)
    at = 0
    while at < total:
        repeated = bits.take(1)
        end = at + bits.take(lengths[bits.take(2)]) + 1
        if end > total:
            raise BadRecord("mask_damaged", "rle: more values than there are")
        if repeated:
            # the last of each four values is the opacity
            flat[at // 4 : end // 4] |= bits.take(width) >= _HALF
            at = end
        else:
            for place in range(at, end):
                value = bits.take(width)
                if place % 4 == 3:
                    flat[place // 4] = value >= _HALF
            at = end
    return flat.reshape(tuple(size))


class _Bits:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> int:
        first, end = self.at // 8, self.at + count
        if end > 8 * len(self.data):
            raise BadRecord("mask_damaged", "rle: cut off")
        last = -(-end // 8)
        word = int.from_bytes(self.data[first:last])
        self.at = end
        return word >> (8 * last - end) & ((1 << count) - 1)


def open_label_studio(
    path: Path,
    *,
    name: str = "label_studio",
    images: Path | None = None,
    results: str = "annotations",
    split: str = "",
    exhaustive: bool = True,
    picture: str = "",
) -> LabelStudio:
    """Open a file of tasks; picture names are relative to its folder or to ``images``.

    Args:
        path: A JSON file for import into or exported from Label Studio, or a folder with a
            ``tasks.json``.
        name: Prefix of the sample names.
        images: The folder of the images, or the media folder for pictures that were uploaded.
        results: Whether to read ``annotations`` or ``predictions``.
        split: The split of all samples.
        exhaustive: Every instance of the labels is annotated; ignored for predictions.
        picture: The data field of the picture, if it is not ``image``.

    Raises:
        AnnotationError: The file is missing.
        RecipeError: ``results`` has another value.
    """
    if results not in RESULTS:
        raise RecipeError(f"results {results!r}: expected one of {list(RESULTS)}")
    file = path / "tasks.json" if path.is_dir() else path
    if not file.is_file():
        raise AnnotationError(f"{file}: expected a JSON file of tasks")
    return LabelStudio(name, file, images or file.parent, results, split, exhaustive, picture)

"""VIA, the VGG Image Annotator: projects and annotations of versions 1 to 3, in JSON or CSV.

=============================  ======================================================================
version 2, project             an object with ``_via_img_metadata``
versions 1 and 2, annotations  that member alone: objects with ``filename`` and ``regions``
versions 1 and 2, CSV          a row a region: ``filename``, ``region_shape_attributes``, …
version 3, project             an object with ``file``, ``view`` and ``metadata``
=============================  ======================================================================

The shape ``rect`` is a box; ``circle``, ``ellipse`` (``theta`` in radians) and ``polygon`` are masks with
the box around them. Version 3's rectangles and circles by extreme points are converted to these. Points,
lines and polylines are counted and left out, and their image is not exhaustive. Coordinates are pixels
from 0; sizes are read from the pictures.

The class of a region is the value of an attribute: of ``label=NAME``, else the first of `LABELS` that the
region has, else its only attribute. Exactly one of several check boxes has to be set. A region without a
class is a problem, unless ``category=NAME`` gives its class. Other attributes are counted.

``filename`` may be an address, whose last piece is used, or a path with backslashes. Files of version 3
that are not pictures are skipped (``about_no_image``).

Tested on files written by hand to the published format.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import degrees, hypot
from pathlib import Path
from typing import Any, NamedTuple

from deixis.data.sources.base import NO_IMAGE, BadRecord, Part, PassedOver, Reading, RecordProblem
from deixis.data.sources.reading.fields import (
    as_key,
    as_list,
    as_number,
    as_object,
    as_text,
    image_path,
    read_box,
    record,
    required,
    sortable,
)
from deixis.data.sources.reading.image_header import header_size
from deixis.data.sources.reading.inventory import Inventory
from deixis.data.sources.reading.records import file_record
from deixis.data.sources.reading.shapes import category_name, elliptic, outlined
from deixis.data.sources.reading.streaming import list_elements, named_elements, parse_json
from deixis.data.sources.reading.tables import table_rows
from deixis.errors import AnnotationError
from deixis.geometry import ImageSize
from deixis.geometry.checks import VERTEX_LIMIT, shown
from deixis.structures import Instance

LABELS = ("label", "class", "name", "category", "type", "object", "Class", "Label", "Name")
"""Attributes that may have the class, in this order."""

_FILE, _REGION = "file", "region"
_LEFT_OUT = frozenset({"point", "polyline", "line"})
_PROJECT = "_via_img_metadata"
_SHAPES = {
    1: "point",
    2: "rect",
    3: "circle",
    4: "ellipse",
    5: "line",
    6: "polyline",
    7: "polygon",
    8: "extreme_rect",
    9: "extreme_circle",
}
"""Shapes by their number in version 3."""
_COLUMNS = ("filename", "region_shape_attributes", "region_attributes")
_IMAGE_TYPE = 2


@dataclass(frozen=True, slots=True)
class Via:
    """A file and the folder of its pictures; ``form`` is ``project``, ``annotations``, ``csv`` or ``3``."""

    name: str
    path: Path
    images: Path
    form: str
    label: str = ""
    category: str = ""
    split: str = ""
    exhaustive: bool = True

    @property
    def files(self) -> tuple[str, ...]:
        """The file."""
        return (str(self.path),)

    def parts(self) -> Iterator[Part | RecordProblem | PassedOver]:
        """Yield one part per picture, or per region of a table or of version 3."""
        if self.form == "csv":
            yield from self._rows()
        elif self.form == "3":
            yield from self._views()
        else:
            yield from self._pictures()

    def _pictures(self) -> Iterator[Part | RecordProblem]:
        elements = (
            list_elements(self.path, (_PROJECT,), objects=True)
            if self.form == "project"
            else named_elements(self.path)
        )
        for element in elements:
            place = f"{self.path.name}: picture {element.number}"
            try:
                fields = as_object(element.value, "picture")
                yield Part(_name(required(fields, "filename")), _FILE, "", place, element.text)
            except BadRecord as error:
                yield error.problem(place)

    def _rows(self) -> Iterator[Part | RecordProblem]:
        for number, row in table_rows(self.path, _COLUMNS):
            place = f"{self.path.name}: row {number}"
            try:
                if isinstance(row, BadRecord):
                    raise row
                key = _name(row["filename"])
            except BadRecord as error:
                yield error.problem(place)
                continue
            shape = row["region_shape_attributes"]
            # a picture without regions has one row
            if shape in {"", "{}"}:
                shape = ""
            values = {"shape": shape, "attributes": row["region_attributes"]}
            yield Part(key, _REGION, sortable(row.get("region_id", "")), place, json.dumps(values))

    def _views(self) -> Iterator[Part | RecordProblem | PassedOver]:
        project = _project(self.path)
        names: dict[str, str] = {}
        for key, value in project.views.items():
            place = f"{self.path.name}: view {shown(key)}"
            try:
                ids = as_list(required(as_object(value, "view"), "fid_list"), "fid_list")
                if len(ids) != 1:
                    yield RecordProblem(
                        "bad_record", f"a view of {len(ids)} files, expected one", place
                    )
                    continue
                file = as_object(required(project.files, as_key(ids[0], "fid")), "file")
                if as_number(file.get("type", _IMAGE_TYPE), "type") != _IMAGE_TYPE:
                    yield NO_IMAGE
                    continue
                names[key] = _name(required(file, "fname"))
                yield Part(names[key], _FILE, "", place, json.dumps({"regions": []}))
            except BadRecord as error:
                yield error.problem(place)
        for key, value in project.metadata.items():
            place = f"{self.path.name}: metadata {shown(key)}"
            try:
                fields = as_object(value, "metadata")
                view = as_key(required(fields, "vid"), "vid")
            except BadRecord as error:
                yield error.problem(place)
                continue
            if view not in names:
                yield NO_IMAGE
                continue
            try:
                shape = _shape_of(as_list(required(fields, "xy"), "xy"))
                words = project.words(as_object(fields.get("av") or {}, "av"))
                values: dict[str, object] = {"shape": shape, "attributes": words}
            except BadRecord as error:
                # a problem of its picture, which then lacks an instance
                values = {"fault": [error.code, error.detail]}
            yield Part(names[view], _REGION, key[:200], place, json.dumps(values))

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of a picture with its regions."""
        place = parts[0].place
        found = Inventory(claimed=self.exhaustive)
        try:
            path = image_path(self.images, key)
            size = header_size(path)
            regions = list(_regions(parts))
        except BadRecord as error:
            return Reading(None, (error.problem(place),))
        for region in regions:
            if region.problem is not None:
                found.problem(BadRecord(*region.problem), region.place)
                continue
            try:
                shape = _object(region.shape, "shape_attributes")
                if not shape:
                    continue
                if shape.get("name") in _LEFT_OUT:
                    found.lose(None, "shapes_of_other_types")
                    continue
                category = self._category(
                    _object(region.attributes, "region_attributes"), found.notes
                )
                found.add(_instance(shape, category, size, found.notes))
            except BadRecord as error:
                found.problem(error, region.place)
        return found.reading(key, path, size, source=self.name, split=self.split)

    def _category(self, attributes: Mapping[str, Any], notes: dict[str, int]) -> str:
        if self.label:
            name = self.label if self.label in attributes else ""
        else:
            only = next(iter(attributes)) if len(attributes) == 1 else ""
            name = next((one for one in LABELS if one in attributes), only)
        value = attributes.get(name)
        if isinstance(value, dict):
            chosen = [one for one, is_set in value.items() if is_set is True]
            if len(chosen) > 1:
                raise BadRecord("bad_record", f"{name}: expected one class, got {shown(chosen)}")
            value = chosen[0] if chosen else ""
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        text = "" if value is None else as_text(value, name or "class", empty=True)
        if not text:
            if not self.category:
                raise BadRecord(
                    "bad_text",
                    f"no class among the attributes {shown(sorted(attributes))}: "
                    "label=NAME says which is the class, category=NAME what regions without one are",
                )
            text = self.category
        others = len(attributes) - (name in attributes)
        if others:
            notes["attributes_of_other_names"] = notes.get("attributes_of_other_names", 0) + others
        return category_name(text)


class _Region(NamedTuple):
    """A region as the file has it: JSON texts or objects."""

    shape: object
    attributes: object
    place: str
    problem: tuple[str, str] | None = None


def _regions(parts: Sequence[Part]) -> Iterator[_Region]:
    files = [part for part in parts if part.kind == _FILE]
    if len(files) > 1:
        raise BadRecord(
            "duplicate_image", f"{len(files)} records: {files[0].place}, {files[1].place}"
        )
    for part in parts:
        fields = record(part)
        if part.kind == _REGION:
            if "fault" in fields:
                code, detail = fields["fault"]
                yield _Region({}, {}, part.place, (code, detail))
            else:
                yield _Region(fields["shape"], fields["attributes"], part.place)
            continue
        values = fields.get("regions") or []
        # version 1 has an object of regions by number
        listed = list(values.values()) if isinstance(values, dict) else as_list(values, "regions")
        for number, value in enumerate(listed):
            one = value if isinstance(value, dict) else {}
            place = f"{part.place}: region {number}"
            yield _Region(
                one.get("shape_attributes", value), one.get("region_attributes") or {}, place
            )


def _object(value: object, name: str) -> Mapping[str, Any]:
    if isinstance(value, str):
        value = parse_json(value) if value else {}
    return as_object(value, name)


def _name(value: object) -> str:
    text = as_text(value, "filename")
    if "://" in text:
        return text.partition("?")[0].rpartition("/")[2]
    return text.replace("\\", "/")


def _instance(
    shape: Mapping[str, Any], category: str, size: ImageSize, notes: dict[str, int]
) -> Instance:
    kind = shape.get("name")

    def numbers(*names: str) -> list[float]:
        return [float(as_number(required(shape, name), name)) for name in names]

    if kind == "rect":
        box = read_box(numbers("x", "y", "width", "height"), size, notes)
        return Instance(category, box)
    if kind in {"circle", "ellipse"}:
        cx, cy, *radii = numbers("cx", "cy", *(("r", "r") if kind == "circle" else ("rx", "ry")))
        turn = degrees(as_number(shape.get("theta") or 0, "theta")) if kind == "ellipse" else 0.0
        mask, box = elliptic((cx, cy), (radii[0], radii[1]), turn, size, notes)
        return Instance(category, box, mask=mask)
    if kind == "polygon":
        xs, ys = (as_list(required(shape, f"all_points_{axis}"), axis) for axis in "xy")
        if len(xs) != len(ys) or not 3 <= len(xs) <= VERTEX_LIMIT:
            raise BadRecord("mask_damaged", f"polygon of {len(xs)} and {len(ys)} coordinates")
        pairs = zip(xs, ys, strict=True)
        flat = [float(as_number(value, "point")) for pair in pairs for value in pair]
        mask, box = outlined([flat], size, notes)
        return Instance(category, box, mask=mask)
    raise BadRecord("bad_record", f"shape: expected one of VIA's, got {shown(kind)}")


class _Project(NamedTuple):
    """A project of version 3."""

    files: Mapping[str, Any]
    views: Mapping[str, Any]
    metadata: Mapping[str, Any]
    attributes: Mapping[str, Any]

    def words(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return attribute values by name, with options as their texts."""
        made: dict[str, Any] = {}
        for key, value in values.items():
            found = self.attributes.get(key)
            if not isinstance(found, dict):
                raise BadRecord("bad_record", f"attribute {shown(key)} is not there")
            name = as_text(required(found, "aname"), "aname")
            options = found.get("options")
            known = options if isinstance(options, dict) else {}
            made[name] = known.get(value, value) if isinstance(value, str) else value
        return made


def _project(path: Path) -> _Project:
    try:
        fields = as_object(file_record(path, path.name).value, "project")
        files, views, metadata = (
            as_object(required(fields, name), name) for name in ("file", "view", "metadata")
        )
        return _Project(
            files, views, metadata, as_object(fields.get("attribute") or {}, "attribute")
        )
    except BadRecord as error:
        raise AnnotationError(f"{path}: {error.detail}") from None


def _shape_of(values: Sequence[Any]) -> dict[str, Any]:
    """Return version 3's list of numbers as shape attributes of version 2."""
    if not values:
        # a temporal segment, or metadata of the whole file
        return {}
    number, *rest = [float(as_number(value, "xy")) for value in values]
    kind = _SHAPES.get(int(number))
    if kind == "extreme_rect" and len(rest) == 8:
        xs, ys = rest[0::2], rest[1::2]
        kind, rest = "rect", [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    if kind == "extreme_circle" and len(rest) == 6:
        kind, rest = "circle", _circle(rest)
    if kind == "polygon":
        return {"name": kind, "all_points_x": rest[0::2], "all_points_y": rest[1::2]}
    names = {
        "rect": ("x", "y", "width", "height"),
        "circle": ("cx", "cy", "r"),
        "ellipse": ("cx", "cy", "rx", "ry"),
    }
    if kind in _LEFT_OUT:
        return {"name": kind}
    if kind not in names or len(rest) != len(names[kind]):
        raise BadRecord("bad_record", f"xy: expected a shape of VIA's, got {shown(list(values))}")
    return {"name": kind, **dict(zip(names[kind], rest, strict=True))}


def _circle(points: Sequence[float]) -> list[float]:
    """Return centre and radius of the circle through three points."""
    ax, ay, bx, by, cx, cy = points
    area = 2 * (ax * (by - cy) + bx * (cy - ay) + cx * (ay - by))
    if area == 0:
        raise BadRecord("box_degenerate", f"circle through points on a line: {shown(list(points))}")
    a, b, c = ax * ax + ay * ay, bx * bx + by * by, cx * cx + cy * cy
    x = (a * (by - cy) + b * (cy - ay) + c * (ay - by)) / area
    y = (a * (cx - bx) + b * (ax - cx) + c * (bx - ax)) / area
    return [x, y, hypot(ax - x, ay - y)]


def open_via(
    path: Path,
    *,
    name: str = "via",
    images: Path | None = None,
    label: str = "",
    category: str = "",
    split: str = "",
    exhaustive: bool = True,
) -> Via:
    """Open a file of VIA; picture names are relative to its folder or to ``images``.

    Args:
        path: A project, or exported annotations, in JSON or CSV.
        name: Prefix of the sample names.
        images: The folder of the pictures.
        label: The attribute of a region with its class.
        category: The class of regions without a class.
        split: The split of all samples.
        exhaustive: Every instance of the classes is annotated.

    Raises:
        AnnotationError: The file is missing, or not a file of VIA.
    """
    if not path.is_file():
        raise AnnotationError(f"{path}: expected a file of VIA, in JSON or CSV")
    form = "csv" if path.suffix.lower() == ".csv" else _form(path)
    return Via(name, path, images or path.parent, form, label, category, split, exhaustive)


def _form(path: Path) -> str:
    members = {one.member: one.value for one in islice(named_elements(path), 64)}
    if _PROJECT in members:
        return "project"
    if {"file", "view", "metadata"} <= members.keys():
        return "3"
    first = next(iter(members.values()), None)
    if not isinstance(first, dict) or "filename" not in first:
        raise AnnotationError(
            f"{path}: expected a project of VIA or its annotations, got members "
            f"{sorted(members)[:10]}"
        )
    return "annotations"

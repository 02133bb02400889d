"""Segmentations in folders: pictures of class numbers (ADE20K), and polygons (Cityscapes).

**Index pictures.** ``images/SPLIT/NAME.jpg`` and ``annotations/SPLIT/NAME.png`` of the same names,
whose pixels are class numbers, and a list of the classes: ``object150_info.csv`` or
``objectInfo150.txt`` (columns separated by tabs or commas, named in the first line: ``Idx``, ``Name``,
optionally ``Stuff``), or one class per line, numbered from 1. The first of several synonyms is the class.
The numbers 0 and 255 have no class. All pixels of a class in an image become one instance: with the
attribute ``stuff`` (`MARKERS`) if the list says so, otherwise a crowd.

**Cityscapes.** ``gtFine/SPLIT/CITY/NAME_gtFine_polygons.json`` and ``leftImg8bit/SPLIT/CITY/
NAME_leftImg8bit.png``. Fields used: ``imgWidth``, ``imgHeight`` and of each object ``label``,
``polygon`` and ``deleted``. Polygons are drawn in the order of the file, later ones over earlier ones,
with the fill rule of the data set's own scripts; the mask of an instance is its visible part. Samples of
``gtCoarse`` are not exhaustive; people are not counted in images with riders. Names that end in ``group``
are crowds; classes without instances have the attribute ``stuff``; polygons of ``void`` labels hide
others and are not instances.

Boxes are the bounding boxes of the masks, in pixels from 0 with exclusive edges.

Irregularities: an index without a class (``unknown_category``); a fully hidden polygon, which is counted
(``hidden_polygon``); coordinates slightly outside the image, which are clipped.

Tested on files written by hand to the published formats.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.fields import (
    as_integer,
    as_list,
    as_number,
    as_object,
    as_text,
    image_path,
    image_size,
    record,
    required,
    text_field,
)
from deixis.data.sources.reading.file_names import (
    IMAGE_SUFFIXES,
    named_files,
    one_name,
    printable_name,
    say_which,
)
from deixis.data.sources.reading.image_header import MAX_PIXELS
from deixis.data.sources.reading.inventory import Inventory, Taxonomy
from deixis.data.sources.reading.segment_pictures import Segments, read_numbers
from deixis.data.sources.reading.streaming import opened
from deixis.data.sources.reading.xml_files import read_small_text
from deixis.errors import AnnotationError
from deixis.geometry import ImageSize
from deixis.geometry.checks import VERTEX_LIMIT, shown
from deixis.structures import Instance

NO_CLASS = (0, 255)
VOID = frozenset(
    {
        *("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic"),
        "ground",
    }
)
THINGS = frozenset(
    {
        *("person", "rider", "car", "truck", "bus", "caravan", "trailer", "train", "motorcycle"),
        *("bicycle", "license plate"),
    }
)
"""Labels of Cityscapes whose polygons are single instances."""
RIDERS = Taxonomy.of([("person", ""), ("rider", "person")])
"""Riders are people too, under another label."""
_IMAGE, _MASK, _POLYGONS = "image", "mask", "polygons"
_OBJECT_LIMIT = 10_000
_SPLITS = {"train": "training", "val": "validation"}


class SegmentClass(NamedTuple):
    """A class of index pictures; ``is_stuff`` may be unknown (None)."""

    name: str
    is_stuff: bool | None = None


@dataclass(frozen=True, slots=True)
class IndexPictures:
    """Pictures, and index pictures of the same names."""

    name: str
    images: Path
    annotations: Path
    classes: Mapping[int, SegmentClass] = field(default_factory=dict)
    class_file: Path | None = None
    split: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The list of classes and the two folders."""
        paths = (self.class_file, self.images, self.annotations)
        return tuple(str(path) for path in paths if path is not None)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield the names of pictures and index pictures."""
        for kind, folder in ((_IMAGE, self.images), (_MASK, self.annotations)):
            suffixes = IMAGE_SUFFIXES if kind == _IMAGE else (".png",)
            yield from named_files(folder, suffixes, kind)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of a picture; reads its index picture."""
        place = parts[0].place
        found = Inventory()
        try:
            path = image_path(self.images, one_name(parts, _IMAGE))
            numbers = read_numbers(self.annotations, one_name(parts, _MASK))
            segments = Segments.from_numbers(numbers)
        except BadRecord as error:
            return Reading(None, (error.problem(place),))
        for number, (mask, box) in segments.masks().items():
            known = self.classes.get(number)
            if known is not None:
                marks = ("stuff",) if known.is_stuff else ()
                found.add(
                    Instance(known.name, box, mask, attributes=marks, crowd=not known.is_stuff)
                )
            elif number not in NO_CLASS:
                found.problem(BadRecord("unknown_category", f"class {number}"), place)
        return found.reading(key, path, segments.size, source=self.name, split=self.split)


@dataclass(frozen=True, slots=True)
class Cityscapes:
    """Polygon files of one split, and the folder ``leftImg8bit`` of the same split."""

    name: str
    images: Path
    annotations: Path
    split: str = ""
    exhaustive: bool = True

    @property
    def files(self) -> tuple[str, ...]:
        """The folders of the cities."""
        return tuple(str(path) for path in sorted(self.annotations.iterdir()) if path.is_dir())

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part per polygon file."""
        ending = "_polygons.json"
        for path in sorted(self.annotations.glob(f"*/*{ending}")):
            # NAME_gtFine or NAME_gtCoarse
            stem = path.name.removesuffix(ending).rpartition("_")[0]
            place = printable_name(path)
            try:
                key = as_text(f"{path.parent.name}/{stem}", "file name")
                yield Part(key, _POLYGONS, "", place, read_small_text(path, "bad_json"))
            except BadRecord as error:
                yield error.problem(place)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of an image with the visible part of each polygon."""
        place = parts[0].place
        found = Inventory(claimed=self.exhaustive)
        try:
            path = image_path(self.images, f"{key}_leftImg8bit.png")
            size, values = _objects(parts)
        except BadRecord as error:
            return Reading(None, (error.problem(place),))
        labels, segments = _draw(values, size, place, found)
        masks = segments.masks()
        for number, label in labels.items():
            if number in masks:
                mask, box = masks[number]
                marks = () if label.name in THINGS else ("stuff",)
                found.add(Instance(label.name, box, mask, attributes=marks, crowd=label.is_group))
            else:
                found.note("hidden_polygon")
        return found.reading(key, path, size, source=self.name, split=self.split, taxonomy=RIDERS)


def _objects(parts: Sequence[Part]) -> tuple[ImageSize, Sequence[object]]:
    if len(parts) > 1:
        raise BadRecord("duplicate_image", f"{len(parts)} files")
    fields = record(parts[0])
    size = image_size(required(fields, "imgWidth"), required(fields, "imgHeight"))
    values = as_list(required(fields, "objects"), "objects")
    if size.area > MAX_PIXELS or len(values) > _OBJECT_LIMIT:
        raise BadRecord("bad_number", f"{len(values)} objects of a {size} image")
    return size, values


class _Label(NamedTuple):
    name: str
    is_group: bool


def _draw(
    values: Sequence[object], size: ImageSize, place: str, found: Inventory
) -> tuple[dict[int, _Label], Segments]:
    """Draw polygons in order, each with its number from 1; void is 0."""
    canvas = Image.new("I", (size.width, size.height))
    pen = ImageDraw.Draw(canvas)
    labels: dict[int, _Label] = {}
    for number, value in enumerate(values, start=1):
        label: _Label | None = None
        try:
            fields = as_object(value, "object")
            if as_integer(fields.get("deleted", 0), "deleted"):
                continue
            label = _label(text_field(fields, "label"))
            points = _points(required(fields, "polygon"), size)
        except BadRecord as error:
            category = None if label is None else label.name
            found.problem(error, f"{place}: object {number - 1}", category=category)
            continue
        if label.name not in VOID:
            labels[number] = label
        pen.polygon(points, fill=number if number in labels else 0)
    return labels, Segments.from_numbers(np.asarray(canvas).astype(np.uint16))


def _label(name: str) -> _Label:
    # "polegroup" is a stuff class
    group = name.endswith("group") and name.removesuffix("group") in THINGS
    return _Label(name.removesuffix("group") if name.endswith("group") else name, group)


def _points(value: object, size: ImageSize) -> list[tuple[float, float]]:
    pairs = [as_list(pair, "point") for pair in as_list(value, "polygon")]
    if not 2 <= len(pairs) <= VERTEX_LIMIT or any(len(pair) != 2 for pair in pairs):
        raise BadRecord("mask_damaged", f"polygon: expected points x y, got {shown(pairs[:3])}")
    points = [(as_number(x, "x"), as_number(y, "y")) for x, y in pairs]
    # the scripts draw any point; a point far outside the image is an error
    if any(abs(x) > 2 * size.width or abs(y) > 2 * size.height for x, y in points):
        raise BadRecord("mask_damaged", f"polygon: leaves its {size} image")
    return points


def read_classes(path: Path) -> dict[int, SegmentClass]:
    """Return the classes of a list: a table with a header, or one name per line.

    Raises:
        AnnotationError: The file is missing or empty, or a line has no number or no name.
    """
    with opened(path) as file:
        lines = [
            line
            for line in file.read(2**20).decode("utf-8-sig", "replace").splitlines()
            if line.strip()
        ]
    if not lines:
        raise AnnotationError(f"{path}: expected a list of classes, got nothing")
    separator = "\t" if "\t" in lines[0] else ","
    titles = [title.strip().lower() for title in lines[0].split(separator)]
    if "idx" not in titles:
        return {number: SegmentClass(_first(line)) for number, line in enumerate(lines, start=1)}
    if "name" not in titles:
        raise AnnotationError(f"{path}: expected a column Name, got {titles}")
    made: dict[int, SegmentClass] = {}
    for row in csv.DictReader(lines[1:], fieldnames=titles, delimiter=separator):
        number, name = (row.get("idx") or "").strip(), _first(row.get("name") or "")
        if not number.isascii() or not number.isdigit() or not name:
            raise AnnotationError(f"{path}: expected a number and a name, got {shown(row)}")
        stuff = (row.get("stuff") or "").strip()
        made[int(number)] = SegmentClass(name, None if stuff == "" else stuff == "1")
    return made


def _first(names: str) -> str:
    return names.replace(";", ",").split(",")[0].strip()


def open_ade20k(
    path: Path,
    *,
    name: str = "ade20k",
    split: str = "",
    images: Path | None = None,
    annotations: Path | None = None,
    classes: Path | None = None,
) -> IndexPictures:
    """Open ``ADEChallengeData2016``, or a folder of index pictures with a list of classes.

    Args:
        path: A folder with ``images``, ``annotations`` and ``objectInfo150.txt`` or ``object150_info.csv``.
        name: Prefix of the sample names.
        split: ``train`` (also ``training``) or ``val`` (``validation``), where the folders have
            splits.
        images: The folder of the pictures.
        annotations: The folder of the index pictures.
        classes: The list of the classes.

    Raises:
        AnnotationError: A file or folder is missing, or ``split`` is needed to choose.
    """
    folder = _SPLITS.get(split, split)
    if images is None and annotations is None and not split:
        found = sorted(one.name for one in (path / "annotations").glob("*") if one.is_dir())
        if found:
            raise AnnotationError(f"{path}: has splits {found}{say_which('ade20k', found)}")
    images = images or path / "images" / folder
    annotations = annotations or path / "annotations" / folder
    for one in (images, annotations):
        if not one.is_dir():
            raise AnnotationError(f"{one}: does not exist, expected a folder")
    named = [
        path / one
        for one in ("object150_info.csv", "objectInfo150.csv", "objectInfo150.txt", "classes.txt")
    ]
    listing = classes or next((one for one in named if one.is_file()), named[-2])
    return IndexPictures(
        name=name,
        images=images,
        annotations=annotations,
        classes=read_classes(listing),
        class_file=listing,
        split=split,
    )


def open_cityscapes(
    path: Path, *, name: str = "cityscapes", split: str = "", annotations: str = "gtFine"
) -> Cityscapes:
    """Open Cityscapes.

    Args:
        path: The folder with ``leftImg8bit`` and ``gtFine``.
        name: Prefix of the sample names.
        split: ``train``, ``val`` or ``test``.
        annotations: ``gtFine`` or ``gtCoarse``.

    Raises:
        AnnotationError: The folders are missing.
    """
    splits = sorted(one.name for one in (path / annotations).glob("*") if one.is_dir())
    if not splits:
        raise AnnotationError(f"{path / annotations}: expected a folder for each split")
    if split not in splits:
        raise AnnotationError(
            f"{path / annotations}: has splits {splits}{say_which('cityscapes', splits)}"
        )
    return Cityscapes(
        name=name,
        images=path / "leftImg8bit" / split,
        annotations=path / annotations / split,
        split=split,
        # coarse annotations are incomplete
        exhaustive=annotations == "gtFine",
    )

"""COCO panoptic: every pixel belongs to one segment, an instance or a region of stuff.

A JSON file lists ``images``, ``annotations`` (one per image, with ``segments_info``) and
``categories`` with ``isthing``; a folder beside it has a PNG of each image, whose colours are segment
numbers: ``id = R + 256 G + 256 * 256 B``, 0 for pixels without a segment.

Each segment becomes an instance with its mask. Stuff has the attribute ``stuff`` (`MARKERS`), so that
tasks about countable instances can skip it; an ``iscrowd`` segment is a crowd. Boxes are the bounding
boxes of the masks, in pixels from 0 with exclusive edges; ``bbox`` and ``area`` of the file are not
read.

Irregularities: stuff names lose COCO's own endings (``wall-other-merged`` is ``wall``, ``floor-wood`` is
``floor wood``), unless two names would become equal or ``plain_names`` is off; a segment without a
pixel (``mask_empty``) and pixels of a number without a record (``unknown_annotation``) are left out.

Tested on original files (53 images of COCO 2017 in both splits).
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.coco_records import image_of
from deixis.data.sources.reading.fields import (
    as_integer,
    as_key,
    as_list,
    as_object,
    record,
    required,
    text_field,
)
from deixis.data.sources.reading.file_names import first_folder
from deixis.data.sources.reading.inventory import NO_TAXONOMY, Inventory, Taxonomy
from deixis.data.sources.reading.segment_pictures import Segments, read_colours
from deixis.data.sources.reading.streaming import list_elements, member_value
from deixis.errors import AnnotationError
from deixis.geometry import Box, ImageSize, Mask
from deixis.structures import Instance

_ANNOTATION, _IMAGE = "annotation", "image"
_ENDING = re.compile(r"(-(?:merged|other|stuff))+$")


SegmentMasks = Mapping[int, tuple[Mask, Box]]
"""The mask and bounding box of each segment, by its number."""


class PanopticCategory(NamedTuple):
    """The name of a category, whether its instances are countable, and its supercategory."""

    name: str
    is_thing: bool
    group: str = ""


@dataclass(frozen=True, slots=True)
class Panoptic:
    """A panoptic file with its pictures of segments and its images."""

    name: str
    images: Path
    annotations: Path
    segments: Path
    categories: Mapping[int, PanopticCategory] = field(default_factory=dict)
    split: str = ""
    taxonomy: Taxonomy = NO_TAXONOMY

    @property
    def files(self) -> tuple[str, ...]:
        """The file, and the folder of the pictures of segments."""
        return str(self.annotations), str(self.segments)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield images and annotations."""
        for element in list_elements(self.annotations, ("images", "annotations")):
            place = f"{self.annotations.name}: {element.member}[{element.number}]"
            is_image = element.member == "images"
            try:
                fields = as_object(element.value, element.member)
                name = "id" if is_image else "image_id"
                key = as_key(required(fields, name), name)
                yield Part(key, _IMAGE if is_image else _ANNOTATION, "", place, element.text)
            except BadRecord as error:
                yield error.problem(place)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of an image; reads its picture of segments."""
        inventory = Inventory()
        annotations = [part for part in parts if part.kind == _ANNOTATION]
        place = parts[0].place
        try:
            path, size = image_of([part for part in parts if part.kind == _IMAGE], self.images)
            values, found = self._segments(annotations, size)
        except BadRecord as error:
            return Reading(None, (error.problem(place),))
        seen: set[int] = set()
        for number, value in enumerate(values):
            self._add(value, found, seen, inventory, f"{place}: segment {number}")
        for number in sorted(found.keys() - seen)[:10]:
            unknown = BadRecord("unknown_annotation", f"pixels of segment {number}")
            inventory.problem(unknown, place)
        return inventory.reading(
            key, path, size, source=self.name, split=self.split, taxonomy=self.taxonomy
        )

    def _segments(
        self, annotations: Sequence[Part], size: ImageSize
    ) -> tuple[Sequence[object], SegmentMasks]:
        if len(annotations) != 1:
            code = "duplicate_annotation" if annotations else "unknown_annotation"
            raise BadRecord(code, f"expected one annotation, got {len(annotations)}")
        fields = record(annotations[0])
        values = as_list(required(fields, "segments_info"), "segments_info")
        return values, panoptic_masks(self.segments, required(fields, "file_name"), size)

    def _add(
        self, value: object, masks: SegmentMasks, seen: set[int], found: Inventory, place: str
    ) -> None:
        category: str | None = None
        try:
            fields = as_object(value, "segment")
            number = as_integer(required(fields, "id"), "id")
            _check_once(number, seen, "duplicate_annotation", "segment")
            seen.add(number)
            known = self.categories.get(as_integer(required(fields, "category_id"), "category_id"))
            category = None if known is None else known.name
            found.add(segment_instance(fields, masks, known))
        except BadRecord as error:
            found.problem(error, place, category=category)


def _check_once(number: int, known: Collection[int], code: str, kind: str) -> None:
    if number in known:
        raise BadRecord(code, f"{kind} {number} comes twice")


def panoptic_masks(folder: Path, name: object, size: ImageSize) -> SegmentMasks:
    """Return mask and bounding box of each number of a picture of segments, without 0.

    Raises:
        BadRecord: The picture is missing, damaged, or differs in size from its image.
    """
    colours = read_colours(folder, name)
    height, width = colours.shape[:2]
    if ImageSize(height, width) != size:
        raise BadRecord("mask_damaged", f"segments of {width}x{height}, an image of {size}")
    red, green, blue = (colours[:, :, channel].astype(np.int32) for channel in range(3))
    found = Segments.from_numbers(red + 256 * green + 65536 * blue).masks()
    return {number: one for number, one in found.items() if number}


def segment_instance(
    fields: Mapping[str, Any], masks: SegmentMasks, category: PanopticCategory | None
) -> Instance:
    """Return the instance of an element of ``segments_info``.

    Raises:
        BadRecord: The segment has no pixels, or its category is unknown.
    """
    number = as_integer(required(fields, "id"), "id")
    if number not in masks:
        raise BadRecord("mask_empty", f"segment {number} has no pixels")
    if category is None:
        raise BadRecord("unknown_category", f"category of segment {number}")
    mask, box = masks[number]
    return Instance(
        category=category.name,
        box=box,
        mask=mask,
        attributes=() if category.is_thing else ("stuff",),
        crowd=as_integer(fields.get("iscrowd", 0), "iscrowd") == 1,
    )


def plain_stuff_names(names: Sequence[str]) -> list[str]:
    """Return stuff names without COCO's endings; a name stays if two would become equal.

    >>> plain_stuff_names(["wall-other-merged", "wall-wood", "dining table"])
    ['wall', 'wall wood', 'dining table']
    """
    plain = [_ENDING.sub("", name).replace("-", " ") for name in names]
    counts = Counter(plain)
    return [made if counts[made] == 1 else name for made, name in zip(plain, names, strict=True)]


def plain_group(name: str) -> str:
    """Return the name of a supercategory without COCO's endings.

    >>> plain_group("food-stuff")
    'food'
    """
    return _ENDING.sub("", name).replace("-", " ")


def _categories(path: Path, *, plain: bool) -> dict[int, PanopticCategory]:
    found: dict[int, tuple[str, bool]] = {}
    groups: list[str] = []
    try:
        for value in as_list(member_value(path, "categories"), "categories"):
            fields = as_object(value, "category")
            number = as_integer(required(fields, "id"), "id")
            is_thing = as_integer(required(fields, "isthing"), "isthing") == 1
            _check_once(number, found, "bad_record", "category")
            found[number] = (text_field(fields, "name"), is_thing)
            group = fields.get("supercategory")
            groups.append(group if isinstance(group, str) else "")
    except BadRecord as error:
        raise AnnotationError(f"{path}: {error.detail}") from error
    names = [name for name, _ in found.values()]
    if plain:
        names = plain_stuff_names(names)
    return {
        number: PanopticCategory(name, is_thing, plain_group(group))
        for name, (number, (_, is_thing)), group in zip(names, found.items(), groups, strict=True)
    }


def open_panoptic(
    path: Path,
    *,
    name: str = "panoptic",
    split: str = "",
    images: Path | None = None,
    segments: Path | None = None,
    plain_names: bool = True,
) -> Panoptic:
    """Open a COCO folder or one panoptic file.

    Args:
        path: A folder with ``annotations/panoptic_SPLIT.json``, or such a file.
        name: Prefix of the sample names.
        split: The split; required if there are several.
        images: The folder of the images, if it is not ``images/SPLIT``, ``SPLIT`` or ``images``.
        segments: The folder of the PNG files, if it is not beside the JSON file under the same
            name, or ``panoptic/SPLIT``.
        plain_names: Remove endings such as ``-merged`` from stuff names.

    Raises:
        AnnotationError: The files are missing, or ``split`` is needed to choose among several.
    """
    if path.is_file():
        file, split = path, split or path.stem.removeprefix("panoptic_")
    else:
        folder = path / "annotations" if (path / "annotations").is_dir() else path
        splits = sorted(
            one.stem.removeprefix("panoptic_") for one in folder.glob("panoptic_*.json")
        )
        if not splits:
            raise AnnotationError(f"{folder}: expected files such as panoptic_val2017.json")
        if (split or splits[0]) not in splits or (not split and len(splits) > 1):
            raise AnnotationError(
                f"{folder}: has splits {splits}; say which, as in panoptic:PATH,split={splits[0]}"
            )
        split = split or splits[0]
        file = folder / f"panoptic_{split}.json"
    root = file.parent.parent if file.parent.name == "annotations" else file.parent
    beside = [segments] if segments else [file.with_suffix(""), root / "panoptic" / split]
    pictures = next((place for place in beside if place.is_dir()), None)
    if pictures is None:
        raise AnnotationError(f"{beside[0]}: does not exist, expected a folder of PNG files")
    categories = _categories(file, plain=plain_names)
    return Panoptic(
        name=name,
        images=images or first_folder(root / "images" / split, root / split, root / "images", root),
        annotations=file,
        segments=pictures,
        categories=categories,
        split=split,
        taxonomy=Taxonomy.of((one.name, one.group) for one in categories.values()),
    )

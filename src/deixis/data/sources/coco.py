"""COCO: instances, keypoints, captions, and other files in their format (LVIS, Objects365, COCO-REM).

At least one of the files is required. Boxes are ``[x, y, width, height]``; keypoints are in the order
of their category. Panoptic files have another reader (`deixis.data.sources.panoptic`). Roboflow's export
has a folder for each split (``train``, ``valid``, ``test``) with ``_annotations.coco.json`` and the
images.

A category is absent from an image if none of its instances was left out, the file has annotations of it
in other images (a category that the file only lists may not have been annotated), and no related
category is present: its ``supercategory``, a category whose supercategory it is, or another spelling.
Related categories that are present are not counted either; notes count the categories that are
therefore not absent (``group_not_denied``).

An annotation with ``ignore`` or ``difficult`` has the attribute ``difficult`` (`MARKERS`); one with
``isgroupof`` or a similar flag is a crowd. Duplicate boxes count once (``box_twice``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.fields import (
    CROWDS,
    DOUBTFUL,
    as_integer,
    as_key,
    as_list,
    as_object,
    as_text,
    flagged,
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
from deixis.data.sources.reading.inventory import NO_TAXONOMY, Inventory, Taxonomy
from deixis.data.sources.reading.streaming import Unparsed, list_elements
from deixis.errors import AnnotationError, GeometryError
from deixis.geometry import ImageSize, Keypoints
from deixis.structures import GroundedText, Instance, LeftOut, Sample

KINDS = ("instances", "person_keypoints", "captions")
_LOOKED_AT = 5
ROBOFLOW = "_annotations.coco.json"
ROBOFLOW_SPLITS = ("train", "valid", "test")
_ANNOTATION, _CAPTION, _IMAGE, _KEYPOINTS = "annotation", "caption", "image", "keypoints"


@dataclass(frozen=True, slots=True)
class Category:
    """A category of a file: its name and the names of its keypoints, if any.

    ``group`` is the supercategory; ``labelled`` is true if the file has annotations of it.
    """

    name: str
    keypoints: tuple[str, ...] = ()
    group: str = ""
    labelled: bool = True


@dataclass(frozen=True, slots=True)
class Coco:
    """Files in COCO's format about the images of one folder.

    ``categories`` maps ids to categories; `open_coco` reads them. ``exhaustive`` is true if every
    instance of every category is annotated, unlike in LVIS.
    """

    name: str
    images: Path
    instances: Path | None = None
    keypoints: Path | None = None
    captions: Path | None = None
    categories: Mapping[int, Category] = field(default_factory=dict)
    split: str = ""
    exhaustive: bool = True
    taxonomy: Taxonomy = NO_TAXONOMY

    @property
    def files(self) -> tuple[str, ...]:
        """The annotation files."""
        return tuple(str(path) for path in self._paths().values())

    def _paths(self) -> dict[str, Path]:
        named = {
            _ANNOTATION: self.instances,
            _KEYPOINTS: self.keypoints,
            _CAPTION: self.captions,
        }
        return {kind: path for kind, path in named.items() if path is not None}

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield the images and annotations of every file."""
        for kind, path in self._paths().items():
            for element in list_elements(path, ("images", "annotations")):
                place = f"{path.name}: {element.member}[{element.number}]"
                try:
                    fields = as_object(element.value, element.member)
                    if element.member == "images":
                        key = as_key(required(fields, "id"), "id")
                        # the same image in several files is one image
                        yield Part(key, _IMAGE, kind, place, element.text)
                    else:
                        key = as_key(required(fields, "image_id"), "image_id")
                        order = sortable(as_key(required(fields, "id"), "id"))
                        yield Part(key, kind, order, place, element.text)
                except BadRecord as error:
                    yield error.problem(place)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of an image with its annotations."""
        images = [part for part in parts if part.kind == _IMAGE]
        if not images:
            return Reading(None, (RecordProblem("unknown_image", f"image {key}", parts[0].place),))
        found = Inventory(claimed=self.exhaustive and self.instances is not None)
        try:
            path, size = self._image(images, found.notes)
        except BadRecord as error:
            return Reading(None, (error.problem(images[0].place),))
        joints: dict[str, Part] = {part.order: part for part in parts if part.kind == _KEYPOINTS}
        captions: list[GroundedText] = []
        previous = ""
        for part in parts:
            if part.kind == _ANNOTATION:
                self._add(part, joints.pop(part.order, None), size, found, previous)
                previous = part.kind + part.order
            elif part.kind == _CAPTION:
                try:
                    previous = _next_id(part, previous)
                    captions.append(GroundedText(text_field(record(part), "caption")))
                except BadRecord as error:
                    found.remark(error, part.place)
        # people with keypoints who are not in the instances file
        for part in joints.values():
            self._add(part, part, size, found, "")
        left_out = found.left_out(self.taxonomy)
        present = {instance.category for instance in found.instances}
        spared = {one.name for one in self.categories.values()} & left_out.broader - present
        if spared:
            found.note("group_not_denied", len(spared))
        sample = Sample(
            id=f"{self.name}/{key}",
            image=path,
            size=size,
            instances=tuple(found.instances),
            captions=tuple(captions),
            absent_categories=self._absent(found.instances, left_out),
            source=self.name,
            split=self.split,
            left_out=left_out,
        )
        return Reading(sample, tuple(found.problems), found.counts())

    def _add(
        self, part: Part, joints: Part | None, size: ImageSize, found: Inventory, previous: str
    ) -> None:
        """Add an annotation; an invalid one makes its category incomplete."""
        category: str | None = None
        try:
            fields = record(part)
            category = self._category(fields).name
            _next_id(part, previous)
            found.add(self._instance(fields, joints, size, found.notes))
        except BadRecord as error:
            found.problem(error, part.place, category=category)

    def _absent(self, instances: Sequence[Instance], left_out: LeftOut) -> tuple[str, ...]:
        """Return the categories that are absent from the image."""
        if left_out.unknown:
            return ()
        doubtful = {instance.category for instance in instances}
        doubtful |= left_out.categories | left_out.broader
        names = {
            category.name: None
            for category in self.categories.values()
            if category.labelled and category.name not in doubtful
        }
        return tuple(names)

    def _image(self, parts: Sequence[Part], notes: dict[str, int]) -> tuple[Path, ImageSize]:
        kinds = [part.order for part in parts]
        if len(set(kinds)) < len(kinds):
            raise BadRecord("duplicate_image", f"{len(kinds)} records in {len(set(kinds))} files")
        found = set()
        for part in parts:
            fields = record(part)
            path = image_path(self.images, required(fields, "file_name"), notes)
            size = image_size(required(fields, "width"), required(fields, "height"))
            found.add((path, size))
        if len(found) > 1:
            raise BadRecord("duplicate_image", "two files disagree about its name or size")
        return found.pop()

    def _instance(
        self,
        fields: Mapping[str, Any],
        joints: Part | None,
        size: ImageSize,
        notes: dict[str, int],
    ) -> Instance:
        category = self._category(fields)
        segmentation = fields.get("segmentation")
        # some files write an empty list for a missing value
        mask = read_mask(segmentation, size) if segmentation not in (None, []) else None
        box_values = fields.get("bbox")
        if box_values is not None:
            box = read_box(box_values, size, notes)
        elif mask is not None:
            box = mask_box(mask)
        else:
            raise BadRecord("bad_record", "neither bbox nor segmentation")
        return Instance(
            category=category.name,
            box=box,
            mask=mask,
            keypoints=None if joints is None else self._keypoints(joints, size),
            attributes=("difficult",) if flagged(fields, DOUBTFUL) else (),
            crowd=flagged(fields, CROWDS),
        )

    def _category(self, fields: Mapping[str, Any]) -> Category:
        number = as_integer(required(fields, "category_id"), "category_id")
        if number not in self.categories:
            raise BadRecord("unknown_category", f"category {number}")
        return self.categories[number]

    def _keypoints(self, part: Part, size: ImageSize) -> Keypoints | None:
        fields = record(part)
        names = self._category(fields).keypoints
        values = fields.get("keypoints")
        if values is None or not names:
            return None
        if as_integer(fields.get("num_keypoints", 1), "num_keypoints") == 0:
            return None
        try:
            found = Keypoints.from_annotation(as_list(values, "keypoints"), names=names)
            return found.clip(size) if np.any(found.visibility > 0) else None
        except GeometryError as error:
            raise BadRecord("keypoints_damaged", str(error)) from None


def _next_id(part: Part, previous: str) -> str:
    this = part.kind + part.order
    if this == previous:
        raise BadRecord("duplicate_annotation", f"annotation {part.order.lstrip('0')}")
    return this


def open_coco(
    path: Path,
    *,
    name: str = "coco",
    split: str = "",
    images: Path | None = None,
    exhaustive: bool = True,
) -> Coco:
    """Open a COCO folder or one instances file.

    A folder has ``annotations/{instances,person_keypoints,captions}_SPLIT.json`` and the images in
    ``images/SPLIT``, ``SPLIT`` or ``images``; or, from Roboflow, ``SPLIT/_annotations.coco.json``
    with the images beside it. The images of a file are in the given folder ``images``, else in the
    file's folder or its parent.

    Raises:
        AnnotationError: The files are missing, or ``split`` is needed to choose among several.
    """
    if path.is_file():
        found = {"instances": path}
        split = split or _split_of(path)
        root = path.parent.parent if path.parent.name == "annotations" else path.parent
    else:
        found, split, root = _found(path, split)
    categories: dict[int, Category] = {}
    for kind in ("instances", "person_keypoints"):
        if kind in found:
            categories |= _categories(found[kind], known=categories)
    places = [images] if images else [root / "images" / split, root / split, root / "images", root]
    return Coco(
        name=name,
        images=_folder_of(places, next(iter(found.values()))),
        instances=found.get("instances"),
        keypoints=found.get("person_keypoints"),
        captions=found.get("captions"),
        categories=categories,
        split=split,
        exhaustive=exhaustive,
        taxonomy=Taxonomy.of((one.name, one.group) for one in categories.values()),
    )


def _folder_of(places: Sequence[Path], file: Path) -> Path:
    """Return the folder that has a file's first images, else the first existing folder."""
    if len(places) > 1:
        names = islice(list_elements(file, ("images",)), _LOOKED_AT)
        for element in names:
            fields = element.value if isinstance(element.value, dict) else {}
            for place in places:
                try:
                    if image_path(place, fields.get("file_name")).is_file():
                        return place
                except BadRecord:
                    break
    return next(place for place in places if place.is_dir() or place == places[-1])


def _split_of(path: Path) -> str:
    """Return the split of a file from its name or, for Roboflow's files, its folder."""
    if path.name == ROBOFLOW:
        return path.parent.name if path.parent.name in ROBOFLOW_SPLITS else ""
    return path.stem.partition("_")[2]


def _found(path: Path, split: str) -> tuple[dict[str, Path], str, Path]:
    """Return the files of a folder by kind, their split, and the folder of the images."""
    folder = path / "annotations" if (path / "annotations").is_dir() else path
    splits = sorted(
        {
            file.stem.removeprefix(f"{kind}_")
            for kind in KINDS
            for file in folder.glob(f"{kind}_*.json*")
        }
    )
    if not splits:
        return _roboflow(path, split)
    chosen = _chosen(folder, splits, split)
    found = {
        kind: folder / f"{kind}_{chosen}.json"
        for kind in KINDS
        if (folder / f"{kind}_{chosen}.json").is_file()
    }
    return found, chosen, path


def _roboflow(path: Path, split: str) -> tuple[dict[str, Path], str, Path]:
    if (path / ROBOFLOW).is_file():
        return {"instances": path / ROBOFLOW}, split or _split_of(path / ROBOFLOW), path
    splits = [one for one in ROBOFLOW_SPLITS if (path / one / ROBOFLOW).is_file()]
    if not splits:
        files = sorted(file.name for file in path.glob("*.json"))[:10] if path.is_dir() else []
        hint = f"\nhint: name the file, as in coco:{path / files[0]}" if files else ""
        raise AnnotationError(
            f"{path}: expected annotations/instances_train.json or train/{ROBOFLOW}, "
            f"found {files}{hint}"
        )
    if split == "val" and "valid" in splits:
        split = "valid"
    chosen = _chosen(path, splits, split)
    return {"instances": path / chosen / ROBOFLOW}, chosen, path / chosen


def _chosen(folder: Path, splits: Sequence[str], split: str) -> str:
    if not split and len(splits) > 1:
        raise AnnotationError(
            f"{folder}: has splits {splits}; say which, as in coco:PATH,split={splits[0]}"
        )
    if split and split not in splits:
        raise AnnotationError(f"{folder}: has splits {splits}, not {split!r}")
    return split or splits[0]


def _categories(path: Path, *, known: Mapping[int, Category]) -> dict[int, Category]:
    made: dict[int, Category] = {}
    labelled: set[int] = set()
    listed: list[object] = []
    # one pass: the categories may be before or after the annotations
    for element in list_elements(path, ("annotations", "categories")):
        if element.member == "categories":
            listed.append(element.value)
        elif isinstance(element.value, dict):
            number = element.value.get("category_id")
            if isinstance(number, int | float) and not isinstance(number, bool):
                labelled.add(int(number) if abs(number) < 1e15 else -1)
    if not listed:
        raise AnnotationError(f"{path}: expected categories, found none")
    try:
        for value in listed:
            number, category = _category(value)
            if number in made or known.get(number, category).name != category.name:
                raise AnnotationError(f"{path}: category {number} has two meanings")
            before = known.get(number)
            made[number] = replace(
                category, labelled=number in labelled or (before is not None and before.labelled)
            )
    except BadRecord as error:
        raise AnnotationError(f"{path}: {error.detail}") from error
    return made


def _category(value: object) -> tuple[int, Category]:
    fields = as_object(value, "category")
    joints = fields.get("keypoints") or []
    names = tuple(as_text(joint, "keypoint") for joint in as_list(joints, "keypoints"))
    # underscores stand for blanks
    name = text_field(fields, "name").replace("_", " ")
    group = fields.get("supercategory")
    above = group if isinstance(group, str) and not isinstance(group, Unparsed) else ""
    return as_integer(required(fields, "id"), "id"), Category(name, names, above.replace("_", " "))

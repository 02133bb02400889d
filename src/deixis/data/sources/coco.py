"""COCO: instances, keypoints, captions, and what keeps to their form (LVIS, Objects365, COCO-REM).

Each of the files may be missing but one. Boxes are ``[x, y, width, height]``, keypoints come in the
order that their category declares. Panoptic files are another reader (`deixis.data.sources.panoptic`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deixis.data.sources.base import BadRecord, Fault, Part, Reading
from deixis.data.sources.fields import (
    as_integer,
    as_key,
    as_list,
    as_object,
    as_text,
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
from deixis.data.sources.streaming import list_elements, member_value
from deixis.errors import AnnotationError, GeometryError
from deixis.geometry import ImageSize, Keypoints
from deixis.structures import GroundedText, Instance, Sample

KINDS = ("instances", "person_keypoints", "captions")
_ANNOTATION, _CAPTION, _IMAGE, _KEYPOINTS = "annotation", "caption", "image", "keypoints"


@dataclass(frozen=True, slots=True)
class Category:
    """A category of a file: its name, and names of its keypoints where it has any."""

    name: str
    keypoints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Coco:
    """Files of COCO's form about the images of one folder.

    ``categories`` maps ids to what they mean; `open_coco` reads them. ``exhaustive`` says that every
    thing of every category is annotated; LVIS, for one, is not.
    """

    name: str
    images: Path
    instances: Path | None = None
    keypoints: Path | None = None
    captions: Path | None = None
    categories: Mapping[int, Category] = field(default_factory=dict)
    split: str = ""
    exhaustive: bool = True

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

    def parts(self) -> Iterator[Part | Fault]:
        """Yield images and annotations of every file."""
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
                    yield Fault(error.code, error.detail, place)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Make a sample of an image and what its annotations say."""
        notes: dict[str, int] = {}
        faults: list[Fault] = []
        images = [part for part in parts if part.kind == _IMAGE]
        if not images:
            return Reading(None, (Fault("unknown_image", f"image {key}", parts[0].place),))
        try:
            path, size = self._image(images)
        except BadRecord as error:
            return Reading(None, (Fault(error.code, error.detail, images[0].place),))
        joints: dict[str, Part] = {part.order: part for part in parts if part.kind == _KEYPOINTS}
        instances: list[Instance] = []
        captions: list[GroundedText] = []
        previous = ""
        for part in parts:
            try:
                if part.kind in {_ANNOTATION, _CAPTION}:
                    previous = _next_id(part, previous)
                if part.kind == _ANNOTATION:
                    instances.append(
                        self._instance(part, joints.pop(part.order, None), size, notes)
                    )
                elif part.kind == _CAPTION:
                    captions.append(GroundedText(text_field(record(part), "caption")))
            except BadRecord as error:
                faults.append(Fault(error.code, error.detail, part.place))
        # people whose keypoints are annotated and who are in no instances file
        for part in joints.values():
            try:
                instances.append(self._instance(part, part, size, notes))
            except BadRecord as error:
                faults.append(Fault(error.code, error.detail, part.place))
        complete = self.exhaustive and not faults and self.instances is not None
        sample = Sample(
            id=f"{self.name}/{key}",
            image=path,
            size=size,
            instances=tuple(instances),
            captions=tuple(captions),
            absent_categories=self._absent(instances) if complete else (),
            source=self.name,
            split=self.split,
            exhaustive=complete,
        )
        return Reading(sample, tuple(faults), tuple(sorted(notes.items())))

    def _absent(self, instances: Sequence[Instance]) -> tuple[str, ...]:
        """Categories of the file that the image has nothing of."""
        present = {instance.category for instance in instances}
        return tuple(
            category.name for category in self.categories.values() if category.name not in present
        )

    def _image(self, parts: Sequence[Part]) -> tuple[Path, ImageSize]:
        kinds = [part.order for part in parts]
        if len(set(kinds)) < len(kinds):
            raise BadRecord("duplicate_image", f"{len(kinds)} records in {len(set(kinds))} files")
        found = set()
        for part in parts:
            fields = record(part)
            path = image_path(self.images, required(fields, "file_name"))
            size = image_size(required(fields, "width"), required(fields, "height"))
            found.add((path, size))
        if len(found) > 1:
            raise BadRecord("duplicate_image", "two files disagree about its name or size")
        return found.pop()

    def _instance(
        self, part: Part, joints: Part | None, size: ImageSize, notes: dict[str, int]
    ) -> Instance:
        fields = record(part)
        category = self._category(fields)
        segmentation = fields.get("segmentation")
        # an empty list is how some files say that there is none
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
            crowd=as_integer(fields.get("iscrowd", 0), "iscrowd") == 1,
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
    """Find the files of a COCO folder, or take one instances file.

    A folder holds ``annotations/{instances,person_keypoints,captions}_SPLIT.json`` and the images in
    ``images/SPLIT``, ``SPLIT`` or ``images``. A file's images lie in the folder that is given, else
    in the file's own or the one above.

    Raises:
        AnnotationError: Nothing of that kind is there, or there are several splits and none is named.
    """
    if path.is_file():
        found = {"instances": path}
        split = split or path.stem.partition("_")[2]
        root = path.parent.parent if path.parent.name == "annotations" else path.parent
    else:
        folder = path / "annotations" if (path / "annotations").is_dir() else path
        splits = sorted(
            {
                file.stem.removeprefix(f"{kind}_")
                for kind in KINDS
                for file in folder.glob(f"{kind}_*.json*")
            }
        )
        if not splits:
            raise AnnotationError(f"{folder}: expected files such as instances_train.json")
        if not split and len(splits) > 1:
            raise AnnotationError(
                f"{folder}: has splits {splits}; say which, as in coco:PATH,split={splits[0]}"
            )
        split = split or splits[0]
        if split not in splits:
            raise AnnotationError(f"{folder}: has splits {splits}, not {split!r}")
        found = {
            kind: folder / f"{kind}_{split}.json"
            for kind in KINDS
            if (folder / f"{kind}_{split}.json").is_file()
        }
        root = path
    categories: dict[int, Category] = {}
    for kind in ("instances", "person_keypoints"):
        if kind in found:
            categories |= _categories(found[kind], known=categories)
    places = [images] if images else [root / "images" / split, root / split, root / "images", root]
    return Coco(
        name=name,
        images=next(place for place in places if place.is_dir() or place == places[-1]),
        instances=found.get("instances"),
        keypoints=found.get("person_keypoints"),
        captions=found.get("captions"),
        categories=categories,
        split=split,
        exhaustive=exhaustive,
    )


def _categories(path: Path, *, known: Mapping[int, Category]) -> dict[int, Category]:
    made: dict[int, Category] = {}
    try:
        for value in as_list(member_value(path, "categories"), "categories"):
            number, category = _category(value)
            if number in made or known.get(number, category).name != category.name:
                raise AnnotationError(f"{path}: category {number} has two meanings")
            made[number] = category
    except BadRecord as error:
        raise AnnotationError(f"{path}: {error.detail}") from error
    return made


def _category(value: object) -> tuple[int, Category]:
    fields = as_object(value, "category")
    joints = fields.get("keypoints") or []
    names = tuple(as_text(joint, "keypoint") for joint in as_list(joints, "keypoints"))
    # file names do not like blanks, sentences do
    name = text_field(fields, "name").replace("_", " ")
    return as_integer(required(fields, "id"), "id"), Category(name, names)

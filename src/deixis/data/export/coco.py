"""Writes COCO files, and the variant that FiftyOne reads.

Boxes are ``[x, y, width, height]`` in pixels. Masks made of polygons stay polygons; other masks are
compressed run lengths. Classes and annotations are numbered from 1, in the order of the samples.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deixis.data.export.files import Records, write_document
from deixis.data.export.items import NO_SPLIT, Item, Losses, split_name
from deixis.errors import GeometryError, RecipeError
from deixis.geometry import Keypoints, mirrored_order
from deixis.structures import Instance, Sample

MOST_SPLITS = 16


class Categories:
    """Class numbers and keypoint names by class name."""

    def __init__(self, first: int = 1) -> None:
        self.first = first
        self.numbers: dict[str, int] = {}
        self.keypoints: dict[str, tuple[str, ...]] = {}

    def number(self, name: str) -> int:
        """Return the number of a class; a new class gets the next number."""
        return self.numbers.setdefault(name, len(self.numbers) + self.first)

    def takes(self, name: str, keypoints: Keypoints) -> bool:
        """Return whether the class has these keypoint names; its first keypoints decide."""
        return self.keypoints.setdefault(name, keypoints.names) == keypoints.names

    def records(self, *, only_keypoints: bool = False) -> list[dict[str, Any]]:
        """Return COCO's ``categories``."""
        made: list[dict[str, Any]] = []
        for name, number in self.numbers.items():
            joints = self.keypoints.get(name)
            fields: dict[str, Any] = {"id": number, "name": name, "supercategory": ""}
            if joints is not None:
                fields |= {"keypoints": list(joints), "skeleton": []}
            if joints is not None or not only_keypoints:
                made.append(fields)
        return made


class CocoWriter:
    """Writes ``annotations/{instances,person_keypoints,captions}_SPLIT.json`` for each split."""

    carries = frozenset({"masks", "keypoints", "crowd flags", "captions"})
    needs_look = False

    def __init__(self, folder: Path, losses: Losses) -> None:
        self.folder = folder
        self.losses = losses
        self.categories = Categories()
        self.splits: dict[str, _Split] = {}
        self.last = 0

    def look(self, sample: Sample) -> None:
        """Do nothing."""

    def add(self, item: Item) -> None:
        """Write an image and its annotations."""
        name = split_name(item.sample)
        boxes: list[Any] = []
        joints: list[Any] = []
        captions: list[Any] = []
        number = self.last
        for instance in item.sample.instances:
            number += 1
            record = instance_record(instance, self.categories, number=number, image=item.id)
            boxes.append(record)
            found = keypoint_fields(instance, self.categories, self.losses)
            if found:
                joints.append(record | found)
        for caption in item.sample.captions:
            number += 1
            captions.append({"id": number, "image_id": item.id, "caption": caption.text})
        split = self._split(name)
        split.images.add([image_record(item)])
        split.boxes.add(boxes)
        split.joints.add(joints)
        split.captions.add(captions)
        self.last = number

    def finish(self) -> None:
        """Assemble the files; without images, write one file with empty lists."""
        if not self.splits:
            self._split(NO_SPLIT)
        self.close()
        for name, split in sorted(self.splits.items()):
            head = header(name)
            place = self.folder / "annotations"
            images = {"images": split.images}
            write_document(
                place / f"instances_{name}.json",
                {**head, "categories": self.categories.records()},
                {**images, "annotations": split.boxes},
            )
            if split.joints.count:
                write_document(
                    place / f"person_keypoints_{name}.json",
                    {**head, "categories": self.categories.records(only_keypoints=True)},
                    {**images, "annotations": split.joints},
                )
            if split.captions.count:
                write_document(
                    place / f"captions_{name}.json",
                    head,
                    {**images, "annotations": split.captions},
                )
        shutil.rmtree(self.folder / ".drafts", ignore_errors=True)

    def close(self) -> None:
        """Close the temporary files."""
        for split in self.splits.values():
            split.close()

    def _split(self, name: str) -> "_Split":
        if name not in self.splits:
            if len(self.splits) == MOST_SPLITS:
                raise RecipeError(
                    f"more than {MOST_SPLITS} splits: {sorted([*self.splits, name])}\n"
                    "hint: name the split of the source, as in split=train"
                )
            self.splits[name] = _Split(self.folder / ".drafts" / name)
        return self.splits[name]


class _Split:
    def __init__(self, drafts: Path) -> None:
        self.images, self.boxes, self.joints, self.captions = (
            Records(drafts / name) for name in ("images", "boxes", "joints", "captions")
        )

    def close(self) -> None:
        for records in (self.images, self.boxes, self.joints, self.captions):
            records.close()


class FiftyOneWriter:
    """Writes ``labels.json`` with all splits; the pictures are in ``data``."""

    carries = frozenset({"masks", "keypoints", "crowd flags"})
    needs_look = False

    def __init__(self, folder: Path, losses: Losses) -> None:
        self.folder = folder
        self.losses = losses
        self.categories = Categories()
        self.images = Records(folder / ".drafts" / "images")
        self.annotations = Records(folder / ".drafts" / "annotations")

    def look(self, sample: Sample) -> None:
        """Do nothing."""

    def add(self, item: Item) -> None:
        """Write an image and its annotations, with keypoints as fields of an annotation."""
        records = []
        for number, instance in enumerate(item.sample.instances, start=self.annotations.count + 1):
            record = instance_record(instance, self.categories, number=number, image=item.id)
            records.append(record | keypoint_fields(instance, self.categories, self.losses))
        self.images.add([image_record(item)])
        self.annotations.add(records)

    def finish(self) -> None:
        """Assemble the file."""
        self.close()
        write_document(
            self.folder / "labels.json",
            {**header("all"), "categories": self.categories.records()},
            {"images": self.images, "annotations": self.annotations},
        )
        shutil.rmtree(self.folder / ".drafts", ignore_errors=True)

    def close(self) -> None:
        """Close the temporary files."""
        self.images.close()
        self.annotations.close()


def header(split: str) -> dict[str, Any]:
    """Return the first fields of every COCO file."""
    return {"info": {"description": "exported by deixis", "split": split}, "licenses": []}


def image_record(item: Item) -> dict[str, Any]:
    """Return COCO's record of an image."""
    size = item.sample.size
    return {
        "id": item.id,
        "file_name": item.file_name,
        "width": size.width,
        "height": size.height,
    }


def instance_record(
    instance: Instance, categories: Categories, *, number: int, image: int
) -> dict[str, Any]:
    """Return COCO's record of an instance."""
    mask = instance.mask
    return {
        "id": number,
        "image_id": image,
        "category_id": categories.number(instance.category),
        "bbox": list(instance.box.to_xywh()),
        "area": instance.box.area if mask is None else float(mask.area),
        "segmentation": [] if mask is None else segmentation(mask.to_annotation()),
        "iscrowd": int(instance.crowd),
    }


def segmentation(annotation: Mapping[str, object]) -> object:
    """Return COCO's ``segmentation``: polygons or run lengths."""
    return annotation["polygons"] if "polygons" in annotation else dict(annotation)


def keypoint_fields(instance: Instance, categories: Categories, losses: Losses) -> dict[str, Any]:
    """Return the keypoint fields of a record; empty for an instance without keypoints."""
    keypoints = instance.keypoints
    if keypoints is None:
        return {}
    if not categories.takes(instance.category, keypoints):
        losses.add("keypoints of other names than their class has")
        return {}
    return {"keypoints": keypoints.to_annotation(), "num_keypoints": keypoints.num_labeled}


def flip_order(names: tuple[str, ...]) -> list[int] | None:
    """Return the index of each keypoint's mirror image; None if a left or right one is missing."""
    try:
        return list(mirrored_order(names))
    except GeometryError:
        return None

"""Writes Pascal VOC: ``Annotations/NAME.xml``, ``JPEGImages`` and ``ImageSets/Main/SPLIT.txt``.

Box coordinates count from 1 and include the last pixel, as in VOC: ``(0, 0, 1, 1)`` is ``1 1 1 1``.
Fractions of a pixel are kept. All flags of `MARKERS` except ``stuff`` are written as flags.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree as ET

from deixis.data.export.coco import MOST_SPLITS
from deixis.data.export.files import created, write_text
from deixis.data.export.items import Item, Losses, split_name
from deixis.errors import AnnotationError, RecipeError
from deixis.storage import storing
from deixis.structures import Instance, Sample

_FLAGS = ("truncated", "difficult", "occluded")


class VocWriter:
    """Writes a file for each picture, and a list for each split."""

    # attributes that are not flags are counted as losses one by one
    carries = frozenset({"crowd flags", "attributes"})
    needs_look = False

    def __init__(self, folder: Path, losses: Losses) -> None:
        self.folder = folder
        self.losses = losses
        self.lists: dict[str, BinaryIO] = {}
        self._open = ExitStack()

    def look(self, sample: Sample) -> None:
        """Do nothing."""

    def add(self, item: Item) -> None:
        """Write a picture's file, and add its name to the list of its split."""
        sample = item.sample
        root = ET.Element("annotation")
        _texts(root, {"folder": "JPEGImages", "filename": item.file_name})
        _texts(ET.SubElement(root, "source"), {"database": sample.source or "deixis"})
        size = {"width": sample.size.width, "height": sample.size.height, "depth": 3}
        _texts(ET.SubElement(root, "size"), {name: str(value) for name, value in size.items()})
        _texts(root, {"segmented": "0"})
        for instance in sample.instances:
            if not instance.crowd:
                self._object(root, instance)
        ET.indent(root)
        stem = Path(item.file_name).stem
        text = f"{ET.tostring(root, encoding='unicode')}\n"
        self.losses.add("crowds", sum(one.crowd for one in sample.instances))
        write_text(self.folder / "Annotations" / f"{stem}.xml", text)
        listing = self._list(split_name(sample))
        with storing(self.folder / "ImageSets"):
            listing.write(f"{stem}\n".encode())

    def finish(self) -> None:
        """Finish the lists; without images, write an empty list."""
        if not self.lists:
            self._list("all")
        self.close()

    def close(self) -> None:
        """Close the lists."""
        self._open.close()

    def _object(self, root: ET.Element, instance: Instance) -> None:
        record = ET.SubElement(root, "object")
        _texts(record, {"name": _xml_text(instance.category), "pose": "Unspecified"})
        _texts(record, {flag: str(int(flag in instance.attributes)) for flag in _FLAGS})
        box = instance.box
        edges = {"xmin": box.x1 + 1, "ymin": box.y1 + 1, "xmax": box.x2, "ymax": box.y2}
        _texts(
            ET.SubElement(record, "bndbox"),
            {name: f"{value:.12g}" for name, value in edges.items()},
        )
        self.losses.add("attributes", sum(one not in _FLAGS for one in instance.attributes))

    def _list(self, split: str) -> BinaryIO:
        if split not in self.lists:
            if len(self.lists) == MOST_SPLITS:
                raise RecipeError(f"more than {MOST_SPLITS} splits: {sorted([*self.lists, split])}")
            # in VOC, a name with an underscore is the list of a single class
            name = split.replace("_", "-")
            path = self.folder / "ImageSets" / "Main" / f"{name}.txt"
            self.lists[split] = self._open.enter_context(created(path))
        return self.lists[split]


def _texts(element: ET.Element, values: Mapping[str, str]) -> None:
    for name, value in values.items():
        ET.SubElement(element, name).text = value


def _xml_text(text: str) -> str:
    """Return a text after a check that XML can hold it.

    Raises:
        AnnotationError: The text has a control character.
    """
    if any(ord(character) < 32 or character in "\ufffe\uffff" for character in text):
        raise AnnotationError(f"class {text!r}: has a character that XML cannot hold")
    return text

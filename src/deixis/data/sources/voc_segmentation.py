"""Pascal VOC's segmentations: PNG files of classes and objects, and other files in this format.

``SegmentationClass/NAME.png`` has the number of a class for each pixel (0 is the background),
``SegmentationObject/NAME.png`` the number of an object; 255 is void in both. The names of a split are in
``ImageSets/Segmentation/SPLIT.txt``; the pictures are ``JPEGImages/NAME.jpg``. Only the numbers count,
not the colours of the palette. Classes are VOC's twenty, or the lines of a ``labelmap.txt`` beside the
folders in their order (``background:0,0,0::`` first), as CVAT and Datumaro write it.

Each object is an instance with a mask; its class is the number of its pixels in the picture of classes.
If ``Annotations/NAME.xml`` exists, box and flags come from its object with the same index, provided that
the class is the same (`deixis.data.sources.voc`); otherwise the box is the bounding box of the mask.
Objects of the XML file without pixels are instances without a mask. Without pictures of objects, all
pixels of a class are one instance, a crowd.

Void pixels belong to no object: they are borders, about 5 pixels wide, and regions that annotators could
not identify. If some lie more than 10 pixels from every object (``void_region``), or the XML file and the
picture have different objects, the image is not exhaustive. VOC's own classes without an instance in an
exhaustive image are absent from it.

Irregularities: an object whose pixels have several classes is left out (``mask_damaged``).

Tested on files written by hand to the published format.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from jaxtyping import Integer

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.fields import (
    as_text,
    image_path,
    read_box,
    record,
    single,
    text_field,
)
from deixis.data.sources.reading.file_names import image_named, listed
from deixis.data.sources.reading.inventory import Inventory
from deixis.data.sources.reading.segment_pictures import Segments, read_numbers
from deixis.data.sources.reading.shapes import count
from deixis.data.sources.reading.streaming import opened
from deixis.data.sources.reading.xml_files import (
    child,
    child_flag,
    child_text,
    parse_xml,
    read_small_text,
)
from deixis.data.sources.voc import FLAGS, read_corners
from deixis.errors import AnnotationError
from deixis.geometry import Box, ImageSize, Mask
from deixis.structures import Instance

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa"),
    *("train", "tv monitor"),
)
"""VOC's classes, numbered from 1, in words (``diningtable`` is written as one)."""
VOID = 255
_BORDER = 10.0
_RUN_TOGETHER = {name.replace(" ", ""): name for name in VOC_CLASSES}


@dataclass(frozen=True, slots=True)
class VocSegmentation:
    """Pictures of segments from a list of names.

    ``classes`` are numbered as in the pictures; ``known`` is true for VOC's classes, all of which were
    annotated. ``objects`` and ``annotations`` may be missing.
    """

    name: str
    images: Path
    segments: Path
    objects: Path | None = None
    annotations: Path | None = None
    listing: Path | None = None
    classes: Mapping[int, str] = field(default_factory=lambda: dict(enumerate(VOC_CLASSES, 1)))
    known: bool = True
    split: str = ""
    exhaustive: bool = True

    @property
    def files(self) -> tuple[str, ...]:
        """The list of names and the folders."""
        paths = (self.listing, self.segments, self.objects, self.annotations)
        return tuple(str(path) for path in paths if path is not None)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part per name, with its XML."""
        for place, name in listed(self.listing, self.segments, ".png"):
            try:
                key = as_text(name, "name")
                image_path(self.segments, f"{key}.png")
                xml = "" if self.annotations is None else self._xml(key)
            except BadRecord as error:
                yield error.problem(place)
            else:
                yield Part(key, "image", "", f"{key}.png", json.dumps({"xml": xml}))

    def _xml(self, key: str) -> str:
        path = image_path(self.annotations or Path(), f"{key}.xml")
        return read_small_text(path, "bad_xml") if path.is_file() else ""

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of a picture; reads its pictures of segments."""
        place = parts[0].place
        found = Inventory(claimed=self.exhaustive)
        try:
            xml = text_field(record(single(parts)), "xml", empty=True)
            numbers = read_numbers(self.segments, f"{key}.png")
            size = ImageSize(*numbers.shape)
            objects = None if self.objects is None else _objects(self.objects, key, size)
            written = parse_xml(xml).findall("object") if xml else []
            image = image_named(self.images, key)
        except BadRecord as error:
            return Reading(None, (error.problem(place),))
        unknown = sorted(set(np.unique(numbers).tolist()) - {0, VOID} - set(self.classes))
        for number in unknown[:10]:
            found.problem(BadRecord("unknown_category", f"class {number}"), place)
        if objects is None:
            for number, (mask, box) in Segments.from_numbers(numbers).masks().items():
                if number in self.classes:
                    found.add(Instance(self.classes[number], box, mask, crowd=True))
        else:
            reader = _Objects(size, numbers, self.classes, found.notes)
            for number, (mask, box) in Segments.from_numbers(objects).masks().items():
                if number in {0, VOID}:
                    continue
                try:
                    found.add(reader.instance(number, mask, box, written))
                except BadRecord as error:
                    found.problem(error, f"{place}: object {number}")
            for number, thing in enumerate(written, start=1):
                if number not in reader.seen:
                    try:
                        found.add(reader.without_mask(thing))
                    except BadRecord as error:
                        found.problem(error, f"{key}.xml: object {number}")
        if _has_void_region(numbers):
            found.lose(None, "void_region")
        classes = self.classes.values() if self.known else ()
        return found.reading(key, image, size, source=self.name, split=self.split, classes=classes)


class _Objects:
    """Reads the objects of one picture."""

    def __init__(
        self,
        size: ImageSize,
        numbers: Integer[np.ndarray, "height width"],
        classes: Mapping[int, str],
        notes: dict[str, int],
    ) -> None:
        self.size = size
        self.numbers = numbers
        self.classes = classes
        self.notes = notes
        self.seen: set[int] = set()

    def instance(
        self, number: int, mask: Mask, box: Box, written: Sequence[ET.Element]
    ) -> Instance:
        self.seen.add(number)
        values = np.unique(self.numbers[mask.array]).tolist()
        if len(values) != 1 or values[0] not in self.classes:
            raise BadRecord("mask_damaged", f"pixels of classes {values[:5]}, expected one class")
        name = self.classes[values[0]]
        if number <= len(written) and _name(written[number - 1]) == name:
            thing = written[number - 1]
            return Instance(name, self.box(thing), mask, attributes=_flags(thing))
        count(self.notes, "box_around_mask")
        return Instance(name, box, mask)

    def without_mask(self, thing: ET.Element) -> Instance:
        return Instance(_name(thing), self.box(thing), attributes=_flags(thing))

    def box(self, thing: ET.Element) -> Box:
        corners = read_corners(child(thing, "bndbox"), inclusive=True)
        return read_box(corners, self.size, self.notes, layout="xyxy")


def _objects(folder: Path, key: str, size: ImageSize) -> Integer[np.ndarray, "height width"]:
    found = read_numbers(folder, f"{key}.png")
    if found.shape != tuple(size):
        raise BadRecord("size_mismatch", f"objects of {ImageSize(*found.shape)}, classes of {size}")
    return found


def _name(thing: ET.Element) -> str:
    text = child_text(thing, "name")
    return _RUN_TOGETHER.get(text, text)


def _flags(thing: ET.Element) -> tuple[str, ...]:
    return tuple(flag for flag in FLAGS if child_flag(thing, flag))


def _has_void_region(numbers: Integer[np.ndarray, "height width"]) -> bool:
    from scipy import ndimage  # noqa: PLC0415  # takes half a second

    void = numbers == VOID
    if not void.any():
        return False
    things = (numbers != 0) & ~void
    if not things.any():
        return True
    distance = ndimage.distance_transform_edt(~things)
    return bool(distance[void].max() > _BORDER)


def open_voc_segmentation(
    path: Path,
    *,
    name: str = "voc_segmentation",
    split: str = "",
    images: Path | None = None,
    exhaustive: bool = True,
) -> VocSegmentation:
    """Open a data set such as ``VOCdevkit/VOC2012``.

    Args:
        path: A folder with ``SegmentationClass``, mostly ``SegmentationObject``, ``JPEGImages`` and
            ``ImageSets/Segmentation`` beside it, and perhaps ``Annotations`` and ``labelmap.txt``.
        name: Prefix of the sample names.
        split: A list in ``ImageSets/Segmentation``; required if there are lists.
        images: The folder of the images, if it is not ``JPEGImages``.
        exhaustive: Every instance of the classes is annotated, as in VOC.

    Raises:
        AnnotationError: The files are missing, or ``split`` is needed to choose among several.
    """
    segments = path / "SegmentationClass"
    if not segments.is_dir():
        raise AnnotationError(
            f"{segments}: does not exist, expected a folder of pictures of classes"
        )
    objects, annotations = path / "SegmentationObject", path / "Annotations"
    lists = path / "ImageSets" / "Segmentation"
    splits = sorted(file.stem for file in lists.glob("*.txt"))
    if split not in splits and (split or splits):
        raise AnnotationError(
            f"{path}: has splits {splits}; say which, as in voc_segmentation:PATH,split=train"
        )
    own = path / "labelmap.txt"
    classes = _labelmap(own) if own.is_file() else dict(enumerate(VOC_CLASSES, start=1))
    return VocSegmentation(
        name=name,
        images=images or (path / "JPEGImages" if (path / "JPEGImages").is_dir() else path),
        segments=segments,
        objects=objects if objects.is_dir() else None,
        annotations=annotations if annotations.is_dir() else None,
        listing=lists / f"{split}.txt" if split else None,
        classes=classes,
        known=not own.is_file(),
        split=split,
        exhaustive=exhaustive,
    )


def _labelmap(path: Path) -> dict[int, str]:
    with opened(path) as file:
        lines = file.read(2**20).decode("utf-8-sig", "replace").splitlines()
    names = [line.partition(":")[0].strip() for line in lines if not line.startswith("#")]
    names = [name for name in names if name]
    made = {
        number: _RUN_TOGETHER.get(name, name.replace("_", " ")) for number, name in enumerate(names)
    }
    if made.get(0) != "background" or not 2 <= len(made) <= VOID:
        raise AnnotationError(
            f"{path}: expected background and 1 to {VOID - 1} more classes, got {len(made)}"
        )
    del made[0]
    return made

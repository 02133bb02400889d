"""Pascal VOC (2007 to 2012) and other files in its format: an XML file of boxes beside each picture.

Fields used: ``filename``, ``size``, and of each ``object`` its ``name``, ``bndbox`` and the flags
``difficult``, ``truncated`` and ``occluded``, which become attributes of those names (`MARKERS`).
An object with ``ignore`` is ``difficult``, one with ``iscrowd`` a crowd. Parts of people (``part``),
poses and segmentations are not read; a class with the name of a part counts as incomplete. The
pictures of a split are listed in ``ImageSets/Main/SPLIT.txt``.

Boxes are ``xmin, ymin, xmax, ymax``, 1-based with inclusive right and bottom edges: ``1 1 1 1`` is
the first pixel and becomes ``(0, 0, 1, 1)``. For tools that write 0-based, exclusive edges, set
``inclusive=false``.

Irregularities: numbers with fractions (VOC2011); an ``xmin`` of 0, which is clipped; a missing
``filename``, for which the name of the XML file with ``.jpg`` is used; objects without flags.

Tested on original files of one data set in this form (364 pictures of blood cells), and on files written
to the published format.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.fields import as_text, image_path, image_size, read_box, single
from deixis.data.sources.reading.file_names import listed, say_which
from deixis.data.sources.reading.inventory import Inventory
from deixis.data.sources.reading.xml_files import (
    child,
    child_flag,
    child_number,
    child_text,
    parse_xml,
    read_small_text,
)
from deixis.errors import AnnotationError
from deixis.geometry import ImageSize
from deixis.geometry.checks import shown
from deixis.structures import Instance

FLAGS = ("difficult", "truncated", "occluded")
GROUPS = ("iscrowd", "isgroupof", "crowd")


@dataclass(frozen=True, slots=True)
class Voc:
    """Annotation files of one folder: those in ``listing``, or all.

    If ``inclusive``, boxes are 1-based with inclusive right and bottom edges.
    """

    name: str
    images: Path
    annotations: Path
    listing: Path | None = None
    split: str = ""
    inclusive: bool = True
    exhaustive: bool = True

    @property
    def files(self) -> tuple[str, ...]:
        """The list of the split, and the folder of the annotations."""
        paths = (self.listing, self.annotations)
        return tuple(str(path) for path in paths if path is not None)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part per annotation file, in the order of the list or of the file names."""
        for place, key in listed(self.listing, self.annotations, ".xml"):
            try:
                path = image_path(self.annotations, f"{as_text(key, 'name')}.xml")
                if self.listing is not None and _is_about_class(key) and not path.is_file():
                    raise AnnotationError(
                        f"{self.listing}: {place}: expected one name per line, got a list of the "
                        f"pictures that have a class: {shown(key)}"
                    )
                yield Part(key, "image", "", path.name, read_small_text(path, "bad_xml"))
            except BadRecord as error:
                yield error.problem(place)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of an annotation file."""
        place = parts[0].place
        found = Inventory(claimed=self.exhaustive)
        try:
            root = parse_xml(single(parts).payload)
            path = image_path(self.images, _file_name(root, key), found.notes)
            size = read_size(root)
        except BadRecord as error:
            return Reading(None, (error.problem(place),))
        for number, thing in enumerate(root.findall("object")):
            category: str | None = None
            try:
                category = child_text(thing, "name")
                found.add(self._instance(thing, category, size, found.notes))
            except BadRecord as error:
                found.problem(error, f"{place}: object {number}", category=category)
            for part in thing.findall("part/name"):
                # parts are not read, so a class with the name of a part is incomplete
                found.lose((part.text or "").strip() or None, "part_of_object")
        return found.reading(key, path, size, source=self.name, split=self.split)

    def _instance(
        self, thing: ET.Element, category: str, size: ImageSize, notes: dict[str, int]
    ) -> Instance:
        corners = read_corners(child(thing, "bndbox"), inclusive=self.inclusive)
        flags = [flag for flag in FLAGS if child_flag(thing, flag)]
        if child_flag(thing, "ignore") and "difficult" not in flags:
            flags.insert(0, "difficult")
        return Instance(
            category=category,
            box=read_box(corners, size, notes, layout="xyxy"),
            attributes=tuple(flags),
            crowd=any(child_flag(thing, flag) for flag in GROUPS),
        )


def read_size(root: ET.Element) -> ImageSize:
    """Return the image size in an annotation file.

    Raises:
        BadRecord: The size is missing, or not two positive integers.
    """
    size = child(root, "size")
    return image_size(child_number(size, "width"), child_number(size, "height"))


def read_corners(corners: ET.Element, *, inclusive: bool) -> list[float]:
    """Return ``x1 y1 x2 y2`` of a ``bndbox``, with exclusive right and bottom edges.

    Raises:
        BadRecord: An edge is missing or not a number.
    """
    x1, y1, x2, y2 = (child_number(corners, tag) for tag in ("xmin", "ymin", "xmax", "ymax"))
    return [x1 - 1, y1 - 1, x2, y2] if inclusive else [x1, y1, x2, y2]


def _is_about_class(line: str) -> bool:
    """Return whether a line ends in 1, 0 or -1: a list of the pictures with a class."""
    name, _, flag = line.rpartition(" ")
    return bool(name.strip()) and flag in {"-1", "0", "1"}


def _file_name(root: ET.Element, key: str) -> str:
    return child_text(root, "filename") if root.find("filename") is not None else f"{key}.jpg"


def open_voc(
    path: Path,
    *,
    name: str = "voc",
    split: str = "",
    images: Path | None = None,
    inclusive: bool = True,
    exhaustive: bool = True,
) -> Voc:
    """Open a data set such as ``VOCdevkit/VOC2012``.

    Args:
        path: A folder with ``Annotations``, ``JPEGImages`` and ``ImageSets/Main``, or of XML files
            alone.
        name: Prefix of the sample names.
        split: A list in ``ImageSets/Main``; required if there are lists.
        images: The folder of the images, if it is not ``JPEGImages``.
        inclusive: Boxes are 1-based with inclusive right and bottom edges, as in VOC.
        exhaustive: Every instance of the classes is annotated, as in VOC.

    Raises:
        AnnotationError: The files are missing, or ``split`` is needed to choose among several.
    """
    if not path.is_dir():
        raise AnnotationError(f"{path}: does not exist, expected a folder with Annotations")
    annotations = path / "Annotations"
    if not annotations.is_dir():
        if next(path.glob("*.xml"), None) is None:
            inner = [folder.name for folder in sorted(path.iterdir()) if folder.is_dir()]
            raise AnnotationError(f"{path}: expected a folder Annotations, found {inner[:10]}")
        annotations = path
    lists = path / "ImageSets" / "Main"
    # lists of one class (aeroplane_train) name all pictures, with a flag
    splits = sorted(file.stem for file in lists.glob("*.txt") if "_" not in file.stem)
    if split not in splits and (split or splits):
        raise AnnotationError(f"{path}: has splits {splits}{say_which('voc', splits)}")
    return Voc(
        name=name,
        images=images or (path / "JPEGImages" if (path / "JPEGImages").is_dir() else path),
        annotations=annotations,
        listing=lists / f"{split}.txt" if split else None,
        split=split,
        inclusive=inclusive,
        exhaustive=exhaustive,
    )

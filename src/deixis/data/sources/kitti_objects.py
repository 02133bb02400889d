"""KITTI's object benchmark: ``label_2/000000.txt`` about ``image_2/000000.png``.

A row has 15 words: type, truncated (0 to 1), occluded (0 to 3), alpha, the box ``left top right bottom``
in pixels from 0, and 7 numbers of the box in space, which are not read. Types become words (``Car`` is
``car``, ``Person_sitting`` is ``sitting person``). A truncated share above 0, and ``occluded`` 1 or 2,
are attributes (`MARKERS`); 3 is not known.

``DontCare`` rows are regions without labels and ``Misc`` rows are objects of other classes. Both are
counted and left out, and their image is not exhaustive. Classes without an instance in an exhaustive
image are absent from it.

Depth maps of KITTI are another format (`deixis.data.sources.depth`). Files of results have a 16th word, a
score, and are refused, as they are not annotations.

Tested on files written by hand to the published format.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.fields import (
    as_text,
    image_path,
    read_box,
    record,
    single,
    text_field,
)
from deixis.data.sources.reading.file_names import IMAGE_SUFFIXES, image_named, listed
from deixis.data.sources.reading.image_header import header_size
from deixis.data.sources.reading.inventory import Inventory
from deixis.data.sources.reading.xml_files import read_small_text, text_number
from deixis.errors import AnnotationError
from deixis.geometry import ImageSize
from deixis.geometry.checks import shown
from deixis.structures import Instance

CLASSES = {
    "Car": "car",
    "Van": "van",
    "Truck": "truck",
    "Pedestrian": "pedestrian",
    "Person_sitting": "sitting person",
    "Cyclist": "cyclist",
    "Tram": "tram",
}
"""KITTI's types in words."""
_LEFT_OUT = {"DontCare": "dont_care_regions", "Misc": "things_of_no_class"}


@dataclass(frozen=True, slots=True)
class KittiObjects:
    """A folder of text files, those in ``listing`` or all, and a folder of pictures."""

    name: str
    images: Path
    labels: Path
    listing: Path | None = None
    split: str = ""
    exhaustive: bool = True

    @property
    def files(self) -> tuple[str, ...]:
        """The list, and the folder of the text files."""
        return tuple(str(path) for path in (self.listing, self.labels) if path is not None)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part per text file."""
        for place, name in listed(self.listing, self.labels, ".txt"):
            try:
                key = as_text(name, "name")
                rows = read_small_text(image_path(self.labels, f"{key}.txt"), "bad_record")
            except BadRecord as error:
                yield error.problem(place)
            else:
                # escaped, since bytes that are not UTF-8 have to fit into JSON
                yield Part(key, "image", "", f"{key}.txt", json.dumps({"rows": rows}))

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of a text file."""
        place = parts[0].place
        found = Inventory(claimed=self.exhaustive)
        try:
            rows = text_field(record(single(parts)), "rows", empty=True).splitlines()
            path = image_named(self.images, key, (".png", *IMAGE_SUFFIXES))
            size = header_size(path)
        except BadRecord as error:
            return Reading(None, (error.problem(place),))
        for number, row in enumerate(rows, start=1):
            words = row.split()
            if not words:
                continue
            if words[0] in _LEFT_OUT and len(words) == 15:
                found.lose(None, _LEFT_OUT[words[0]])
                continue
            try:
                found.add(_instance(words, size, found.notes))
            except BadRecord as error:
                found.problem(error, f"{place}: line {number}")
        return found.reading(
            key, path, size, source=self.name, split=self.split, classes=CLASSES.values()
        )


def _instance(words: list[str], size: ImageSize, notes: dict[str, int]) -> Instance:
    if len(words) == 16:
        raise BadRecord("bad_record", "16 words: a row of results with a score, expected 15 words")
    if len(words) != 15:
        raise BadRecord("bad_record", f"{len(words)} words, expected 15")
    if words[0] not in CLASSES:
        raise BadRecord("unknown_category", f"type {shown(words[0])}")
    truncated = text_number(words[1], "truncated")
    if not 0 <= truncated <= 1:
        raise BadRecord("bad_number", f"truncated: expected 0 to 1, got {words[1]}")
    if words[2] not in {"0", "1", "2", "3"}:
        raise BadRecord("bad_number", f"occluded: expected 0 to 3, got {shown(words[2])}")
    edges = [text_number(word, "box") for word in words[4:8]]
    marks = (("truncated", truncated > 0), ("occluded", words[2] in {"1", "2"}))
    return Instance(
        CLASSES[words[0]],
        read_box(edges, size, notes, layout="xyxy"),
        attributes=tuple(name for name, is_set in marks if is_set),
    )


def open_kitti_objects(
    path: Path,
    *,
    name: str = "kitti_objects",
    split: str = "",
    images: Path | None = None,
    listing: Path | None = None,
    exhaustive: bool = True,
) -> KittiObjects:
    """Open the folders ``label_2`` and ``image_2``.

    Args:
        path: The folder of both, or the folder of ``training``.
        name: Prefix of the sample names.
        split: A list ``ImageSets/SPLIT.txt`` beside ``training``, for splits of the training set; all
            files if empty.
        images: The folder of the pictures, if it is not ``image_2``.
        listing: A list of names in another place.
        exhaustive: Every instance of the classes is annotated, as in KITTI.

    Raises:
        AnnotationError: The folders are missing.
    """
    root = path / "training" if (path / "training").is_dir() else path
    labels = root / "label_2"
    if not labels.is_dir():
        raise AnnotationError(f"{labels}: does not exist, expected a folder of text files")
    if split and listing is None:
        listing = path / "ImageSets" / f"{split}.txt"
        if not listing.is_file():
            raise AnnotationError(f"{listing}: does not exist, expected the list of a split")
    return KittiObjects(name, images or root / "image_2", labels, listing, split, exhaustive)

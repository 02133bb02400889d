"""DOTA (1.0 to 2.0) and other files in its format: a text file of turned boxes for each picture.

``labelTxt/P0003.txt`` is about ``images/P0003.png``. Its first lines may be ``imagesource:…`` and
``gsd:…``, which are not read. A row is ``x1 y1 x2 y2 x3 y3 x4 y4 class difficult``: corners in pixels
from 0, clockwise; without the last word it is not difficult. The corners are kept
(`deixis.structures.Instance.oriented`), the box is the upright one around them, cut at the picture's
edge. Hyphens of classes are blanks (``large-vehicle``); ``difficult`` is the attribute of that name
(`MARKERS`). Sizes are those of the pictures.

Irregularities: corners outside the picture, which are kept; a third grade of difficulty (``2``), which is
difficult too; commas between the numbers. A box whose centre lies outside the picture is a problem.

Tested on files written by hand to the published format.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.fields import as_text, image_path, record, text_field
from deixis.data.sources.reading.file_names import IMAGE_SUFFIXES, printable_name
from deixis.data.sources.reading.image_header import header_size
from deixis.data.sources.reading.inventory import Inventory
from deixis.data.sources.reading.shapes import box_around, oriented_box
from deixis.data.sources.reading.xml_files import read_small_text, text_number
from deixis.errors import AnnotationError
from deixis.geometry import ImageSize
from deixis.geometry.checks import shown
from deixis.structures import Instance

_LABELS = ("labelTxt", "labelTxt-v2.0", "labelTxt-v1.5", "labelTxt-v1.0", "labels")
_HEADERS = ("imagesource:", "gsd:")


@dataclass(frozen=True, slots=True)
class Dota:
    """A folder of text files and a folder of pictures."""

    name: str
    images: Path
    labels: Path
    split: str = ""
    exhaustive: bool = True

    @property
    def files(self) -> tuple[str, ...]:
        """The folder of the text files."""
        return (str(self.labels),)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part per text file, with its picture's name."""
        for path in sorted(self.labels.glob("*.txt")):
            place = printable_name(path)
            try:
                key = as_text(path.stem, "file name")
                found = [f"{key}{end}" for end in (".png", *IMAGE_SUFFIXES)]
                picture = next(
                    (one for one in found if os.path.lexists(self.images / one)), found[0]
                )
                rows = read_small_text(path, "bad_record")
            except BadRecord as error:
                yield error.problem(place)
            else:
                # escaped, since bytes that are not UTF-8 have to fit into JSON
                yield Part(key, "image", "", place, json.dumps({"image": picture, "rows": rows}))

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of a text file."""
        place = parts[0].place
        found = Inventory(claimed=self.exhaustive)
        try:
            fields = record(parts[0])
            path = image_path(self.images, text_field(fields, "image"))
            size = header_size(path)
            rows: list[str] = fields["rows"].removeprefix("\ufeff").splitlines()
        except BadRecord as error:
            return Reading(None, (error.problem(place),))
        for number, row in enumerate(rows, start=1):
            words = row.replace(",", " ").split()
            if not words or (number <= 2 and row.strip().lower().startswith(_HEADERS)):
                continue
            try:
                found.add(_instance(words, size, found.notes))
            except BadRecord as error:
                found.problem(error, f"{place}: line {number}")
        return found.reading(key, path, size, source=self.name, split=self.split)


def _instance(words: list[str], size: ImageSize, notes: dict[str, int]) -> Instance:
    if len(words) not in {9, 10}:
        raise BadRecord(
            "bad_record", f"{len(words)} words, expected four corners, a class and difficult"
        )
    oriented = oriented_box([text_number(word, "corner") for word in words[:8]])
    difficult = words[9] if len(words) == 10 else "0"
    if difficult not in {"0", "1", "2"}:
        raise BadRecord("bad_number", f"difficult: expected 0 or 1, got {shown(difficult)}")
    return Instance(
        as_text(words[8], "class").replace("-", " "),
        box_around(oriented, size, notes),
        attributes=() if difficult == "0" else ("difficult",),
        oriented=oriented,
    )


def open_dota(
    path: Path,
    *,
    name: str = "dota",
    split: str = "",
    labels: Path | None = None,
    images: Path | None = None,
    exhaustive: bool = True,
) -> Dota:
    """Open the folders of a split of DOTA.

    Args:
        path: A folder with ``labelTxt`` and ``images``, or with such a folder for each split; or of
            the text files alone.
        name: Prefix of the sample names.
        split: ``train`` or ``val``; required if there are folders of splits.
        labels: The folder of the text files, if it is not ``labelTxt``.
        images: The folder of the pictures, if it is not ``images``.
        exhaustive: Every instance of the classes is annotated, as in DOTA.

    Raises:
        AnnotationError: The folders are missing, or ``split`` is needed to choose among several.
    """
    root = path
    if labels is None:
        if not path.is_dir():
            raise AnnotationError(f"{path}: does not exist, expected a folder with labelTxt")
        splits = sorted(
            one.name
            for one in path.iterdir()
            if one.is_dir() and any((one / name).is_dir() for name in _LABELS)
        )
        if splits:
            if split not in splits:
                raise AnnotationError(
                    f"{path}: has splits {splits}; say which, as in dota:PATH,split={splits[0]}"
                )
            root = path / split
        places = [root / one for one in _LABELS]
        labels = next((one for one in places if one.is_dir()), root)
        if next(labels.glob("*.txt"), None) is None:
            raise AnnotationError(f"{labels}: expected text files, found none")
    elif not labels.is_dir():
        raise AnnotationError(f"{labels}: does not exist, expected a folder of text files")
    if images is None:
        images = root / "images" if (root / "images").is_dir() else labels
    return Dota(name, images, labels, split, exhaustive)

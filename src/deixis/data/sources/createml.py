"""Create ML: a JSON list of pictures with boxes, from Apple, RectLabel, labelImg or Roboflow.

Fields used: ``image`` (or ``imagefilename``) and ``annotations`` (or ``annotation``), of each ``label`` and
``coordinates`` with ``x``, ``y``, ``width`` and ``height`` in pixels from the top left, where ``x`` and ``y``
are the **middle** of the box; ``anchor=top_left`` and ``units=normalized`` say otherwise, as Create ML's
own options do. Sizes are those of the pictures.

Irregularities: an address as the name, of which the last piece is taken; a JSON list in lines.

Tested on files written by hand to the published format.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.fields import (
    as_list,
    as_number,
    as_object,
    as_text,
    image_path,
    inside_box,
    read_box,
    record,
    required,
    single,
    text_field,
)
from deixis.data.sources.reading.image_header import header_size
from deixis.data.sources.reading.inventory import Inventory
from deixis.data.sources.reading.records import Record, parts_of, records
from deixis.data.sources.reading.shapes import category_name
from deixis.errors import AnnotationError, RecipeError
from deixis.geometry import Box, ImageSize
from deixis.geometry.checks import shown
from deixis.structures import Instance

ANCHORS, UNITS = ("center", "top_left"), ("pixel", "normalized")
_DIGITS = 6
_BEYOND = 0.01


@dataclass(frozen=True, slots=True)
class CreateMl:
    """A file, the folder of its pictures, and the meaning of its numbers."""

    name: str
    path: Path
    images: Path
    anchor: str = "center"
    units: str = "pixel"
    split: str = ""
    exhaustive: bool = True

    @property
    def files(self) -> tuple[str, ...]:
        """The file."""
        return (str(self.path),)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part per picture."""
        return parts_of(records(self.path), self._part)

    def _part(self, one: Record) -> Part:
        return Part(_name(as_object(one.value, "record")), "image", "", one.place, one.text)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of a record; two records of one picture are two problems."""
        place = parts[0].place
        found = Inventory(claimed=self.exhaustive)
        try:
            fields = record(single(parts))
            path = image_path(self.images, _name(fields))
            size = header_size(path)
            name = "annotations" if "annotations" in fields else "annotation"
            values = as_list(required(fields, name), name)
        except BadRecord as error:
            return Reading(None, (error.problem(place),))
        for number, value in enumerate(values):
            try:
                one = as_object(value, "annotation")
                category = category_name(text_field(one, "label"))
                place_in = as_object(required(one, "coordinates"), "coordinates")
                found.add(Instance(category, self._box(place_in, size, found.notes)))
            except BadRecord as error:
                found.problem(error, f"{place}: annotation {number}")
        return found.reading(key, path, size, source=self.name, split=self.split)

    def _box(self, fields: Mapping[str, Any], size: ImageSize, notes: dict[str, int]) -> Box:
        x, y, width, height = (
            float(as_number(required(fields, name), name)) for name in ("x", "y", "width", "height")
        )
        if self.anchor == "center":
            x, y = x - width / 2, y - height / 2
        edges = [x, y, x + width, y + height]
        if self.units == "pixel":
            return read_box(edges, size, notes, layout="xyxy")
        if min(edges) < -_BEYOND or max(edges) > 1 + _BEYOND:
            raise BadRecord("box_layout", f"box {shown(edges)}: expected fractions of the sides")
        sides = (size.width, size.height)
        pixels = [round(edge * sides[at % 2], _DIGITS) for at, edge in enumerate(edges)]
        return inside_box(pixels, size, notes)


def _name(fields: Mapping[str, Any]) -> str:
    found = "image" if "image" in fields else "imagefilename"
    text = as_text(required(fields, found), found)
    return text.partition("?")[0].rpartition("/")[2] if "://" in text else text


def open_createml(
    path: Path,
    *,
    name: str = "createml",
    images: Path | None = None,
    anchor: str = "center",
    units: str = "pixel",
    split: str = "",
    exhaustive: bool = True,
) -> CreateMl:
    """Open a JSON file, or a folder with one JSON file and the pictures.

    Args:
        path: The file or the folder.
        name: Prefix of the sample names.
        images: The folder of the pictures, if it is not the file's.
        anchor: Whether ``x`` and ``y`` are the ``center`` of a box or its ``top_left`` corner.
        units: ``pixel``, or ``normalized`` for fractions of the sides.
        split: The split of all samples.
        exhaustive: Every instance of the labels is annotated.

    Raises:
        AnnotationError: The file is missing, or the folder has several.
        RecipeError: ``anchor`` or ``units`` has another value.
    """
    if anchor not in ANCHORS or units not in UNITS:
        raise RecipeError(
            f"expected anchor of {list(ANCHORS)} and units of {list(UNITS)}, "
            f"got {anchor!r} and {units!r}"
        )
    file = path
    if path.is_dir():
        found = sorted(path.glob("*.json"))
        if len(found) != 1:
            names = [one.name for one in found[:10]]
            raise AnnotationError(f"{path}: expected one JSON file, found {names}")
        (file,) = found
    elif not path.is_file():
        raise AnnotationError(f"{path}: does not exist, expected a JSON file or its folder")
    return CreateMl(name, file, images or file.parent, anchor, units, split, exhaustive)

"""Open Images (V4 to V7): tables of boxes, of verified labels, and of classes.

Fields used: of boxes ``ImageID``, ``LabelName``, ``XMin``, ``XMax``, ``YMin``, ``YMax`` (fractions of
the sides of the upright picture) and the flags; of labels ``ImageID``, ``LabelName`` and ``Confidence``;
of classes the label and its name. Fractions become pixels rounded to a millionth. A picture is
``ImageID.jpg``; its size is looked up in it.

``IsGroupOf`` is a crowd, ``IsOccluded`` and ``IsTruncated`` are attributes of VOC's names (`MARKERS`);
a flag of -1 is unknown and counts as unset. Depictions and boxes seen from the inside are ordinary
instances, and counted in the notes.

Completeness comes from the verified labels. A label with confidence 0 is an absent class. The boxes of a
class are complete only if the class was verified with confidence 1; other classes may be incomplete. An
instance has the most specific verified class, so a class above another present class cannot be counted,
and the hierarchy of classes is needed. Without labels or hierarchy no class is complete. Labels of images
without boxes are skipped (``image_without_boxes``).

Names of classes begin with a small letter (``Traffic light`` is ``traffic light``).

Tested on files written by hand to the published format.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deixis.data.sources.base import BadRecord, Part, PassedOver, Reading, RecordProblem
from deixis.data.sources.reading.fields import (
    as_object,
    as_text,
    inside_box,
    record,
    required,
    text_field,
)
from deixis.data.sources.reading.file_names import first_folder, image_named
from deixis.data.sources.reading.image_header import header_size
from deixis.data.sources.reading.inventory import Inventory
from deixis.data.sources.reading.records import file_record
from deixis.data.sources.reading.shapes import count
from deixis.data.sources.reading.tables import table_rows
from deixis.data.sources.reading.xml_files import text_number
from deixis.errors import AnnotationError
from deixis.geometry import Box, ImageSize
from deixis.geometry.checks import shown
from deixis.structures import Instance, Sample

_BOX, _LABEL = "box", "label"
_EDGES = ("XMin", "YMin", "XMax", "YMax")
_FLAGS = {"IsTruncated": "truncated", "IsOccluded": "occluded"}
_DIGITS = 6
_BEYOND = 0.01
_DEPTH_LIMIT = 32
_PREFIXES = ("", "oidv6-", "oidv7-", "oidv4-", "oidv5-")


@dataclass(frozen=True, slots=True)
class OpenImages:
    """The tables of one split; ``above`` maps each class label to the labels above it."""

    name: str
    images: Path
    boxes: Path
    labels: Path | None = None
    classes: Mapping[str, str] = field(default_factory=dict)
    above: Mapping[str, frozenset[str]] | None = None
    split: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The tables of boxes and labels."""
        return tuple(str(path) for path in (self.boxes, self.labels) if path is not None)

    def parts(self) -> Iterator[Part | RecordProblem | PassedOver]:
        """Yield the boxes, then the labels of images with boxes; memory holds these image ids."""
        seen: set[str] = set()
        for path, kind in ((self.boxes, _BOX), (self.labels, _LABEL)):
            if path is None:
                continue
            columns = ("ImageID", "LabelName", *(_EDGES if kind == _BOX else ("Confidence",)))
            for number, row in table_rows(path, columns):
                place = f"{path.name}: row {number}"
                try:
                    if isinstance(row, BadRecord):
                        raise row
                    key = as_text(row["ImageID"], "ImageID")
                except BadRecord as error:
                    yield error.problem(place)
                    continue
                if kind == _BOX:
                    seen.add(key)
                elif key not in seen:
                    yield PassedOver("image_without_boxes")
                    continue
                yield Part(key, kind, row["LabelName"], place, json.dumps(row))

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of an image from its boxes and labels."""
        claimed = self.above is not None and self.labels is not None
        found = Inventory(claimed=claimed)
        try:
            path = image_named(self.images, key)
            size = header_size(path)
        except BadRecord as error:
            return Reading(None, (error.problem(parts[0].place),))
        present: set[str] = set()
        verified: dict[str, set[bool]] = {}
        for part in parts:
            try:
                fields = record(part)
                label = text_field(fields, "LabelName")
                if part.kind == _BOX:
                    found.add(self._instance(fields, label, size, found.notes))
                    present.add(label)
                elif label not in self.classes:
                    # 600 of about 20,000 classes have boxes
                    found.note("labels_of_other_classes")
                else:
                    verified.setdefault(label, set()).add(_confidence(fields, found.notes))
            except BadRecord as error:
                found.problem(error, part.place)
        for label in present:
            if verified.get(label) != {True}:
                found.lose(self.classes[label])
        left_out = found.left_out()
        broader = left_out.broader | self._broader(present)
        sample = Sample(
            id=f"{self.name}/{key}",
            image=path,
            size=size,
            instances=tuple(found.instances),
            absent_categories=self._absent(present, verified, lost=bool(found.problems)),
            source=self.name,
            split=self.split,
            left_out=replace(left_out, others=True, broader=broader),
        )
        return Reading(sample, tuple(found.problems), found.counts())

    def _instance(
        self, fields: Mapping[str, Any], label: str, size: ImageSize, notes: dict[str, int]
    ) -> Instance:
        if label not in self.classes:
            raise BadRecord("unknown_category", f"label {shown(label)}")
        flags = {
            name: _flag(fields, name) for name in (*_FLAGS, "IsGroupOf", "IsDepiction", "IsInside")
        }
        for name, note in (("IsDepiction", "depictions"), ("IsInside", "seen_from_the_inside")):
            if flags[name]:
                count(notes, note)
        return Instance(
            self.classes[label],
            _box(fields, size, notes),
            attributes=tuple(word for name, word in _FLAGS.items() if flags[name]),
            crowd=flags["IsGroupOf"],
        )

    def _broader(self, present: set[str]) -> frozenset[str]:
        """Return the names of classes above a present class, and names that two classes share."""
        above: frozenset[str] = frozenset()
        for label in present:
            above |= (self.above or {}).get(label, frozenset())
        names = [self.classes[label] for label in present]
        shared = {name for name in names if names.count(name) > 1}
        return frozenset(self.classes[label] for label in above if label in self.classes) | shared

    def _absent(
        self, present: set[str], verified: Mapping[str, set[bool]], *, lost: bool
    ) -> tuple[str, ...]:
        """Return the classes that were verified as absent without contradiction."""
        if lost:
            return ()
        there = present | {label for label, found in verified.items() if True in found}
        for label in list(there):
            there |= (self.above or {}).get(label, frozenset())
        names = {self.classes[label] for label in there if label in self.classes}
        absent = [self.classes[label] for label, found in verified.items() if found == {False}]
        return tuple(dict.fromkeys(name for name in absent if name not in names))


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name, "0")
    if value not in {"0", "1", "-1", ""}:
        raise BadRecord("bad_number", f"{name}: expected 0, 1 or -1, got {shown(value)}")
    return bool(value == "1")


def _confidence(fields: Mapping[str, Any], notes: dict[str, int]) -> bool:
    value = text_number(text_field(fields, "Confidence"), "Confidence")
    if value not in {0, 1}:
        raise BadRecord(
            "bad_number", f"Confidence: expected 0 or 1 of a verified label, got {value:g}"
        )
    count(notes, "verified_labels")
    return value == 1


def _box(fields: Mapping[str, Any], size: ImageSize, notes: dict[str, int]) -> Box:
    shares = [text_number(as_text(required(fields, name), name), name) for name in _EDGES]
    if min(shares) < -_BEYOND or max(shares) > 1 + _BEYOND:
        raise BadRecord("box_layout", f"box {shown(shares)}: expected fractions of the sides")
    sides = (size.width, size.height)
    edges = [round(share * sides[at % 2], _DIGITS) for at, share in enumerate(shares)]
    return inside_box(edges, size, notes)


def open_open_images(
    path: Path,
    *,
    name: str = "open_images",
    split: str = "",
    boxes: Path | None = None,
    labels: Path | None = None,
    classes: Path | None = None,
    hierarchy: Path | None = None,
    images: Path | None = None,
) -> OpenImages:
    """Open the tables of a split in a folder, or a table of boxes.

    Args:
        path: A folder (or its folder ``annotations``) with ``SPLIT-annotations-bbox.csv``,
            ``SPLIT-annotations-human-imagelabels-boxable.csv`` (or without ``-boxable``),
            ``class-descriptions-boxable.csv`` (or ``class-descriptions.csv``) and
            ``bbox_labels_600_hierarchy.json``, each perhaps with ``oidv6-`` or ``oidv7-`` before it; or
            the table of boxes.
        name: Prefix of the sample names.
        split: ``train``, ``validation`` or ``test``; required if there are several.
        boxes: The table of boxes.
        labels: The table of labels that people verified.
        classes: The table of classes.
        hierarchy: The hierarchy of classes.
        images: The folder of the pictures, if it is not ``images/SPLIT``, ``SPLIT`` or ``images``.

    Raises:
        AnnotationError: A table is missing or damaged, or ``split`` is needed to choose.
    """
    folder = path.parent if path.is_file() else path
    if (folder / "annotations").is_dir():
        folder = folder / "annotations"
    boxes = path if path.is_file() else boxes
    ending = "-annotations-bbox.csv"
    if boxes is None:
        found = {_split(file.name, ending): file for file in sorted(folder.glob(f"*{ending}"))}
        if split not in found and (split or len(found) != 1):
            raise AnnotationError(
                f"{folder}: has tables of boxes of {sorted(found)}; say which, as in "
                "open_images:PATH,split=validation"
            )
        split = split or next(iter(found))
        boxes = found[split]
    else:
        split = split or (_split(boxes.name, ending) if boxes.name.endswith(ending) else "")
    human = [f"{split}-annotations-human-imagelabels{end}.csv" for end in ("-boxable", "")]
    labels = labels or _first(folder, human)
    named = [f"class-descriptions{end}.csv" for end in ("-boxable", "")]
    listing = classes or _first(folder, named)
    if listing is None:
        raise AnnotationError(f"{folder}: expected {named[0]}, or classes=PATH")
    tree = hierarchy or _first(folder, ["bbox_labels_600_hierarchy.json"])
    root = path.parent if path.is_file() else path
    return OpenImages(
        name=name,
        images=images or first_folder(root / "images" / split, root / split, root / "images", root),
        boxes=boxes,
        labels=labels,
        classes=_classes(listing),
        above=None if tree is None else _hierarchy(tree),
        split=split,
    )


def _split(name: str, ending: str) -> str:
    stem = name.removesuffix(ending)
    return next((stem.removeprefix(one) for one in _PREFIXES[1:] if stem.startswith(one)), stem)


def _first(folder: Path, names: Sequence[str]) -> Path | None:
    paths = [folder / f"{prefix}{name}" for name in names for prefix in _PREFIXES]
    return next((path for path in paths if path.is_file()), None)


def _classes(path: Path) -> dict[str, str]:
    made: dict[str, str] = {}
    for number, row in table_rows(path, titles=["LabelName", "DisplayName"]):
        try:
            if isinstance(row, BadRecord):
                raise row
            label, text = as_text(row["LabelName"], "label"), as_text(row["DisplayName"], "name")
        except BadRecord as error:
            raise AnnotationError(f"{path}: row {number}: {error.detail}") from None
        if number == 1 and label == "LabelName":
            continue
        # the first word of a name has a capital, which is removed; "TV" keeps its capitals
        small = text[:1].lower() + text[1:] if not text[1:2].isupper() else text
        made[label] = small.replace("_", " ")
    if not made:
        raise AnnotationError(f"{path}: expected labels with names, got nothing")
    return made


def _hierarchy(path: Path) -> dict[str, frozenset[str]]:
    """Return all classes above each class."""
    made: dict[str, set[str]] = {}
    waiting: list[tuple[object, frozenset[str]]] = []
    try:
        waiting.append((file_record(path, path.name).value, frozenset()))
        while waiting:
            value, above = waiting.pop()
            node = as_object(value, "class")
            label = text_field(node, "LabelName")
            made.setdefault(label, set()).update(above)
            below = above | {label}
            if len(below) > _DEPTH_LIMIT:
                raise AnnotationError(f"{path}: classes nested more than {_DEPTH_LIMIT} deep")
            waiting += [(one, below) for one in node.get("Subcategory") or []]
            # a part is not a subclass of the whole
            waiting += [(one, frozenset()) for one in node.get("Part") or []]
    except (BadRecord, TypeError) as error:
        raise AnnotationError(f"{path}: no hierarchy of classes: {error}") from None
    return {label: frozenset(above - {label}) for label, above in made.items()}

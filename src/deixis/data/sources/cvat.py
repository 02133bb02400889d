"""CVAT's own XML, version 1.1: "CVAT for images" and "CVAT for video".

Of ``image`` these are used: ``name``, ``width``, ``height`` and ``subset`` (as the split); of a video's
``track`` its ``label`` and shapes, of which each has a ``frame``. Coordinates are pixels from 0.

=============  ====================================================================================
``box``        a box; with ``rotation`` a turned one
``polygon``    a mask, and the box around it
``ellipse``    ``cx cy rx ry`` and ``rotation``: a mask, and the box around it
``mask``       run lengths along the rows of a rectangle ``left top width height``, clear pixels first
``skeleton``   keypoints named by their labels, of the box with the same ``group_id`` if there is one,
               else with the box around the labelled ones (``box_around_keypoints``)
``polyline``, ``points``, ``cuboid``, ``tag``: counted and left out
=============  ====================================================================================

``occluded`` becomes the attribute of this name (`MARKERS`). Attributes of a shape become words: the value
of a ``select`` or ``radio``, or the name of a checked ``checkbox``; numbers and texts are counted and left
out. Classes are the labels of the file without those of skeleton points. A class without an instance in an
image is absent from it, unless no image of the file has one, since it may not have been annotated. An
image is not exhaustive if a shape was left out.

**Video.** A frame is a picture ``frame_000012`` (the option ``frames`` is the template of its name) in the
folder of the images; its size is ``original_size`` of the file. Shapes that are ``outside`` are skipped.
CVAT writes every frame of a track. If a file has only key frames, the frames between two of them, and
after a last one that is not ``outside``, lack the instance and are not exhaustive
(``frame_between_key_frames``). Frames without any shape give no sample.

Tested on files written by hand to the published format.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import numpy as np

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.fields import (
    as_text,
    image_path,
    image_size,
    mask_box,
    single,
    sortable,
)
from deixis.data.sources.reading.file_names import IMAGE_SUFFIXES, first_folder, image_named
from deixis.data.sources.reading.inventory import Inventory
from deixis.data.sources.reading.shapes import (
    around,
    category_name,
    elliptic,
    nonempty,
    outlined,
    pasted,
    turned_box,
)
from deixis.data.sources.reading.xml_files import (
    attribute_number,
    attribute_text,
    parse_xml,
    text_number,
    xml_children,
)
from deixis.errors import AnnotationError
from deixis.geometry import COCO_KEYPOINTS, Box, ImageSize, Keypoints, Mask, OrientedBox
from deixis.geometry.checks import VERTEX_LIMIT, shown
from deixis.structures import Instance

_IMAGE, _SHAPE, _GAP, _PROBLEM = "image", "shape", "gap", "fault"
_LEFT_OUT = frozenset({"polyline", "points", "cuboid", "tag"})
_SHAPES = frozenset({"box", "polygon", "ellipse", "mask", "skeleton"})
_FRAME_LIMIT = 10**9
_FRAME_NAME = re.compile(r"[^{}]{0,200}\{(?::0?[0-9]{0,2}d)?\}[^{}]{0,200}")


class Label(NamedTuple):
    """A class: the input type of each attribute by name, and whether the file has an instance."""

    name: str
    inputs: dict[str, str]
    used: bool = True


@dataclass(frozen=True, slots=True)
class Cvat:
    """An XML file, and the folder of its pictures.

    ``labels`` are the labels of the file by name. ``size`` is the size of a video's frames, or None for
    images.
    """

    name: str
    path: Path
    images: Path
    labels: dict[str, Label] = field(default_factory=dict)
    size: ImageSize | None = None
    frames: str = "frame_{:06d}"
    split: str = ""
    exhaustive: bool = True

    @property
    def files(self) -> tuple[str, ...]:
        """The file."""
        return (str(self.path),)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part per image or per shape of a track; memory holds a video's frame numbers."""
        seen: set[int] = set()
        gaps: list[tuple[int, int]] = []
        number = {"image": 0, "track": 0}
        for element in xml_children(self.path, "annotations"):
            tag = element.tag
            if tag not in number:
                continue
            place = f"{self.path.name}: {tag} {number[tag]}"
            number[tag] += 1
            try:
                if tag == "image":
                    yield self._image_part(element, place)
                    continue
                shapes = list(_tracked(element))
            except BadRecord as error:
                yield error.problem(place)
                if tag == "track":
                    # the frames of the instance are unknown
                    gaps.append((-1, _FRAME_LIMIT))
                continue
            gaps += _gaps(shapes)
            for one in shapes:
                seen.add(one.frame)
                if one.problem is not None:
                    yield Part(
                        str(one.frame), _PROBLEM, one.problem.detail, place, one.problem.code
                    )
                elif one.text is not None:
                    order = sortable(str(number[tag]))
                    yield Part(str(one.frame), _SHAPE, order, place, one.text)
        frames = sorted(seen)
        for first, last in _merged(gaps):
            for frame in frames[bisect_right(frames, first) : bisect_left(frames, last)]:
                yield Part(str(frame), _GAP, "", f"{self.path.name}: frame {frame}", "")

    def _image_part(self, element: ET.Element, place: str) -> Part:
        name = attribute_text(element, "name")
        subset = element.get("subset", "")
        key = f"{as_text(subset, 'subset')}/{name}" if subset else name
        return Part(key, _IMAGE, "", place, ET.tostring(element, encoding="unicode"))

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of an image or of a video frame."""
        place = parts[0].place
        try:
            if parts[0].kind == _IMAGE:
                root = parse_xml(single(parts).payload)
                path, split = self._picture(root)
                size = image_size(attribute_number(root, "width"), attribute_number(root, "height"))
                shapes = [(f"{place}: shape {n}", shape) for n, shape in enumerate(root)]
            else:
                path, split, size = self._frame(int(key)), self.split, self._frame_size()
                shapes = [
                    (part.place, parse_xml(part.payload)) for part in parts if part.kind == _SHAPE
                ]
        except BadRecord as error:
            return Reading(None, (error.problem(place),))
        found = Inventory(claimed=self.exhaustive)
        reader = _Shapes(size, self.labels, found)
        for part in parts:
            if part.kind == _PROBLEM:
                found.problem(BadRecord(part.payload, part.order), part.place)
        if any(part.kind == _GAP for part in parts):
            found.lose(None, "frame_between_key_frames")
        for where, shape in shapes:
            try:
                reader.read(shape)
            except BadRecord as error:
                found.problem(error, where)
        reader.finish(place)
        classes = [one.name for one in self.labels.values() if one.used]
        return found.reading(key, path, size, source=self.name, split=split, classes=classes)

    def _picture(self, root: ET.Element) -> tuple[Path, str]:
        name, subset = attribute_text(root, "name"), root.get("subset", "")
        if subset:
            # an export of a project has a folder for each subset
            inner = image_path(self.images, f"{subset}/{name}")
            if inner.is_file():
                return inner, subset
        return image_path(self.images, name), subset or self.split

    def _frame(self, number: int) -> Path:
        stem = self.frames.format(number)
        return image_named(self.images, stem, (".png", *IMAGE_SUFFIXES))

    def _frame_size(self) -> ImageSize:
        if self.size is None:
            raise BadRecord("bad_record", "tracks in a file without original_size")
        return self.size


class _Tracked(NamedTuple):
    """A shape of a track: its frame and XML; no XML if it is outside, a problem if it is invalid."""

    frame: int
    outside: bool
    text: str | None
    problem: BadRecord | None = None


def _tracked(track: ET.Element) -> Iterator[_Tracked]:
    label = attribute_text(track, "label")
    for shape in track:
        if shape.tag == "attribute":
            continue
        number = attribute_number(shape, "frame")
        if number != int(number) or not 0 <= number < _FRAME_LIMIT:
            raise BadRecord("bad_number", f"frame: expected a whole number, got {shown(number)}")
        if shape.get("outside", "0") not in {"0", "1"}:
            found = shown(shape.get("outside"))
            problem = BadRecord("bad_number", f"outside: expected 0 or 1, got {found}")
            yield _Tracked(int(number), False, None, problem)
            continue
        points = shape.findall("points")
        outside = shape.get("outside") == "1" or (
            shape.tag == "skeleton" and all(one.get("outside") == "1" for one in points)
        )
        shape.set("label", label)
        if track.get("group_id") is not None:
            shape.set("group_id", track.get("group_id", ""))
        text = None if outside else ET.tostring(shape, encoding="unicode")
        yield _Tracked(int(number), outside, text)


def _gaps(shapes: Sequence[_Tracked]) -> Iterator[tuple[int, int]]:
    """Yield the open intervals of frames in which the instance lacks a shape."""
    known = sorted({(one.frame, one.outside) for one in shapes})
    for (frame, outside), (following, _) in pairwise(known):
        if not outside and following > frame + 1:
            yield frame, following
    if known and not known[-1][1]:
        yield known[-1][0], _FRAME_LIMIT


def _merged(gaps: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return open intervals with the same frames that do not overlap."""
    made: list[tuple[int, int]] = []
    for first, last in sorted(gaps):
        # frames are integers: (3, 5) and (4, 6) contain 4 and 5
        if made and first < made[-1][1] - 1:
            made[-1] = (made[-1][0], max(made[-1][1], last))
        else:
            made.append((first, last))
    return made


class _Drawn(NamedTuple):
    """A shape with a box or a mask."""

    label: str
    group: str
    box: Box
    mask: Mask | None
    oriented: OrientedBox | None
    attributes: tuple[str, ...]


class _Joints(NamedTuple):
    """A skeleton."""

    label: str
    group: str
    keypoints: Keypoints
    attributes: tuple[str, ...]


class _Shapes:
    """Reads the shapes of one picture."""

    def __init__(self, size: ImageSize, labels: dict[str, Label], found: Inventory) -> None:
        self.size = size
        self.labels = labels
        self.found = found
        self.notes = found.notes
        self.drawn: list[_Drawn] = []
        self.joints: list[_Joints] = []

    def read(self, shape: ET.Element) -> None:
        if shape.tag in _LEFT_OUT:
            self.found.lose(None, "shapes_of_other_types")
            return
        if shape.tag not in _SHAPES:
            raise BadRecord("bad_record", f"expected a shape of CVAT's, got <{shape.tag[:80]}>")
        label = attribute_text(shape, "label")
        if self.labels and label not in self.labels:
            raise BadRecord("unknown_category", f"label {shown(label)}")
        group = shape.get("group_id", "0")
        words = self.attributes(shape, label)
        if shape.tag == "skeleton":
            self.joints.append(_Joints(label, group, self.keypoints(shape), words))
            return
        oriented = None
        mask: Mask | None = None
        if shape.tag == "box":
            box, oriented = self.box(shape)
        elif shape.tag == "polygon":
            mask, box = outlined([_points(shape)], self.size, self.notes)
        elif shape.tag == "ellipse":
            cx, cy, rx, ry = (attribute_number(shape, name) for name in ("cx", "cy", "rx", "ry"))
            turn = attribute_number(shape, "rotation", 0.0)
            mask, box = elliptic((cx, cy), (rx, ry), turn, self.size, self.notes)
        else:
            mask = self.mask(shape)
            box = mask_box(mask)
        self.drawn.append(_Drawn(label, group, box, mask, oriented, words))

    def box(self, shape: ET.Element) -> tuple[Box, OrientedBox | None]:
        edges = [attribute_number(shape, name) for name in ("xtl", "ytl", "xbr", "ybr")]
        turn = attribute_number(shape, "rotation", 0.0)
        return turned_box(edges, turn, self.size, self.notes)

    def mask(self, shape: ET.Element) -> Mask:
        left, top, width, height = (
            attribute_number(shape, name) for name in ("left", "top", "width", "height")
        )
        extent = image_size(width, height)
        if extent.width > self.size.width + 1 or extent.height > self.size.height + 1:
            raise BadRecord("mask_damaged", f"mask of {extent} in a {self.size} image")
        words = attribute_text(shape, "rle").split(",")
        if len(words) > extent.area + 1:
            raise BadRecord("mask_damaged", f"rle: {len(words)} runs of {extent.area} pixels")
        runs = [text_number(word.strip(), "rle") for word in words]
        if any(run != int(run) or run < 0 for run in runs) or sum(runs) != extent.area:
            raise BadRecord("mask_damaged", f"rle: {sum(runs):g} pixels, expected {extent.area}")
        lengths = np.array(runs).astype(np.int64)
        values = np.arange(len(lengths)) % 2 == 1
        patch = np.repeat(values, lengths).reshape(extent.height, extent.width)
        if left != int(left) or top != int(top):
            raise BadRecord("mask_damaged", f"mask at ({left:g}, {top:g}): expected whole numbers")
        return nonempty(pasted(patch, int(left), int(top), self.size), "mask")

    def keypoints(self, shape: ET.Element) -> Keypoints:
        found: dict[str, tuple[float, float, int]] = {}
        for point in shape.findall("points"):
            name = attribute_text(point, "label")
            if name in found:
                raise BadRecord("keypoints_damaged", f"a second {shown(name)}")
            flat = _points(point)
            if len(flat) != 2:
                raise BadRecord("keypoints_damaged", f"{shown(name)}: expected one point")
            x, y = flat
            inside = -1 <= x <= self.size.width + 1 and -1 <= y <= self.size.height + 1
            if point.get("outside") == "1":
                found[name] = (0.0, 0.0, 0)
            elif not inside:
                raise BadRecord("keypoints_damaged", f"{shown(name)} ({x:g}, {y:g}) lies outside")
            else:
                found[name] = (x, y, 1 if point.get("occluded") == "1" else 2)
        if not any(seen for _, _, seen in found.values()):
            raise BadRecord("keypoints_damaged", "a skeleton without a point that is there")
        names = COCO_KEYPOINTS if set(found) <= set(COCO_KEYPOINTS) else tuple(found)
        table = np.array([found.get(name, (0.0, 0.0, 0)) for name in names])
        places, seen = table[:, :2].astype(np.float32), table[:, 2].astype(np.int8)
        return Keypoints(places, seen, names).clip(self.size)

    def attributes(self, shape: ET.Element, label: str) -> tuple[str, ...]:
        inputs = self.labels[label].inputs if label in self.labels else {}
        words = ["occluded"] if shape.get("occluded") == "1" else []
        for one in shape.findall("attribute"):
            name, value = attribute_text(one, "name"), (one.text or "").strip()
            kind = inputs.get(name, "checkbox" if value in {"true", "false"} else "select")
            if kind == "checkbox":
                if value == "true":
                    words.append(category_name(name))
            elif kind in {"select", "radio"}:
                if value and value != "__undefined__":
                    words.append(category_name(as_text(value, name)))
            else:
                self.found.note("attributes_of_other_types")
        return tuple(dict.fromkeys(words))

    def finish(self, place: str) -> None:
        """Add the instances; keypoints join the boxes of their groups."""
        groups: dict[str, list[int]] = {}
        for index, drawn in enumerate(self.drawn):
            if drawn.group != "0":
                groups.setdefault(drawn.group, []).append(index)
        of: dict[int, _Joints] = {}
        alone: list[_Joints] = []
        for joints in self.joints:
            owners = [n for n in groups.get(joints.group, []) if n not in of]
            if len(owners) == 1:
                of[owners[0]] = joints
            else:
                alone.append(joints)
        for index, drawn in enumerate(self.drawn):
            owned = of.get(index)
            words = drawn.attributes + (() if owned is None else owned.attributes)
            self.found.add(
                Instance(
                    self.category(drawn.label),
                    drawn.box,
                    mask=drawn.mask,
                    keypoints=None if owned is None else owned.keypoints,
                    attributes=tuple(dict.fromkeys(words)),
                    oriented=drawn.oriented,
                )
            )
        for joints in alone:
            there = joints.keypoints.positions[joints.keypoints.visibility > 0]
            try:
                box = around(there.ravel().tolist(), self.size, self.notes)
            except BadRecord as error:
                self.found.problem(error, place)
                continue
            self.found.note("box_around_keypoints")
            self.found.add(
                Instance(
                    self.category(joints.label),
                    box,
                    keypoints=joints.keypoints,
                    attributes=joints.attributes,
                )
            )

    def category(self, label: str) -> str:
        return self.labels[label].name if label in self.labels else category_name(label)


def _points(shape: ET.Element) -> list[float]:
    pairs = attribute_text(shape, "points").split(";")
    if len(pairs) > VERTEX_LIMIT:
        raise BadRecord("mask_damaged", f"points: {len(pairs)}, at most {VERTEX_LIMIT} expected")
    flat: list[float] = []
    for pair in pairs:
        words = pair.split(",")
        if len(words) != 2:
            raise BadRecord("mask_damaged", f"points: expected x,y;x,y…, got {shown(pair)}")
        flat += [text_number(word.strip(), "points") for word in words]
    return flat


def open_cvat(
    path: Path,
    *,
    name: str = "cvat",
    images: Path | None = None,
    frames: str = "frame_{:06d}",
    split: str = "",
    exhaustive: bool = True,
) -> Cvat:
    """Open an export of CVAT: ``annotations.xml`` with the folder ``images`` beside it.

    Args:
        path: The file or its folder.
        name: Prefix of the sample names.
        images: The folder of the pictures, if it is not ``images``.
        frames: The template of frame names, without suffix.
        split: The split of images without ``subset``.
        exhaustive: Every instance of the labels is annotated.

    Raises:
        AnnotationError: The file does not exist, it is not CVAT's, or ``frames`` has no place for a
            number.
    """
    file = path / "annotations.xml" if path.is_dir() else path
    if not _FRAME_NAME.fullmatch(frames):
        raise AnnotationError(f"frames {frames!r}: expected a name with one {{:06d}} or {{}} in it")
    labels: dict[str, Label] = {}
    used: set[str] = set()
    size: ImageSize | None = None
    for element in xml_children(file, "annotations"):
        used |= {one.get("label", "") for one in (element, *element)}
        if element.tag == "meta":
            try:
                labels = _labels(element)
                size = _original_size(element)
            except BadRecord as error:
                raise AnnotationError(f"{file}: {error.detail}") from None
    return Cvat(
        name=name,
        path=file,
        images=images or first_folder(file.parent / "images", file.parent),
        labels={key: label._replace(used=key in used) for key, label in labels.items()},
        size=size,
        frames=frames,
        split=split,
        exhaustive=exhaustive,
    )


def _labels(meta: ET.Element) -> dict[str, Label]:
    made: dict[str, Label] = {}
    for element in meta.iter("label"):
        # points of a skeleton are not instances
        if element.find("parent") is not None:
            continue
        name = as_text(element.findtext("name") or "", "label")
        inputs = {
            (one.findtext("name") or "").strip(): (one.findtext("input_type") or "").strip()
            for one in element.iter("attribute")
        }
        if (element.findtext("type") or "") != "tag":
            made[name] = Label(category_name(name), {k: v for k, v in inputs.items() if k and v})
    return made


def _original_size(meta: ET.Element) -> ImageSize | None:
    found = next(meta.iter("original_size"), None)
    if found is None:
        return None
    numbers = [text_number((found.findtext(tag) or "").strip(), tag) for tag in ("width", "height")]
    return image_size(*numbers)

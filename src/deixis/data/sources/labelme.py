"""labelme: a JSON file of shapes for each picture.

Fields used: ``imagePath``, ``imageWidth``, ``imageHeight``, and of each of the ``shapes`` its
``label``, ``points``, ``shape_type``, ``group_id``, ``flags`` and ``mask``. Points are pixels from 0.

=====================  ==============================================================================
``rectangle``          two opposite corners, in any order: a box
``oriented_rectangle`` four corners: a turned box
``polygon``            (also without ``shape_type``): a mask, and the box around it
``circle``             a middle and a point of the edge: a mask, and the box around it
``mask``               two corners, and a PNG of the pixels between them in base64
``point``              with the ``group_id`` of one instance: a keypoint of it, named by its label
others                 (``point`` alone, ``points``, ``line``, ``linestrip``): counted and left out
=====================  ==============================================================================

Shapes with the same label and ``group_id`` are one instance, as in labelme's own export to COCO. True
``flags`` of a shape become attributes; flags of the picture are counted. An image is not exhaustive if
a shape was left out.

``imagePath`` is usually relative to the file's folder; it may have backslashes, lead out of the folder or
name a path of another machine. With ``images=DIR`` the picture is the file of this name in the folder
``DIR``. Otherwise the reader tries the path, if it is inside the folder, and then its name beside the
file. With ``image_data=true``, ``imageData``, the picture in base64, is used if there is no such file;
such pictures have no names, so a build has to embed them (``--embed``) and an export has to write them
(``--copy-images``).

Tested on files written by hand to the published format.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import hypot
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.embedded import EmbeddedImage, decoded, embedded_image
from deixis.data.sources.reading.fields import (
    as_integer,
    as_list,
    as_object,
    as_text,
    image_path,
    image_size,
    mask_box,
    record,
    required,
    single,
    text_field,
)
from deixis.data.sources.reading.image_header import header_size
from deixis.data.sources.reading.inventory import Inventory
from deixis.data.sources.reading.records import file_record, json_files, place_in
from deixis.data.sources.reading.segment_pictures import png_pixels
from deixis.data.sources.reading.shapes import (
    around,
    box_around,
    category_name,
    elliptic,
    nonempty,
    oriented_box,
    outlined,
    pasted,
    point_list,
)
from deixis.errors import AnnotationError, GeometryError
from deixis.geometry import COCO_KEYPOINTS, Box, CodedMask, ImageSize, Keypoints, Mask, OrientedBox
from deixis.geometry.checks import shown
from deixis.structures import Instance

_LEFT_OUT = ("points", "line", "linestrip", "lines")


@dataclass(frozen=True, slots=True)
class LabelMe:
    """A folder of JSON files or one file, and the folder of the pictures.

    ``by_name`` uses only the last piece of ``imagePath``; ``image_data`` decodes the embedded picture
    if no file exists.
    """

    name: str
    path: Path
    images: Path
    by_name: bool = False
    image_data: bool = False
    split: str = ""
    exhaustive: bool = True

    @property
    def files(self) -> tuple[str, ...]:
        """The folder, or the file."""
        return (str(self.path),)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part per file with shapes, without the embedded picture if its file exists.

        Other JSON files (without ``shapes`` and ``imagePath``) are problems.
        """
        files = [self.path] if self.path.is_file() else sorted(json_files(self.path))
        root = self.path.parent if self.path.is_file() else self.path
        for file in files:
            place = place_in(file, root)
            try:
                fields = as_object(file_record(file, place).value, "file")
                where = self._picture(fields, file)
                kept = {
                    name: value
                    for name, value in fields.items()
                    if name != "imageData" or where is None
                }
                key = as_text(place.removesuffix(".json"), "file name")
                text = json.dumps({"image": where, "fields": kept})
            except BadRecord as error:
                yield error.problem(place)
            else:
                yield Part(key, "image", "", place, text)

    def _picture(self, fields: Mapping[str, Any], file: Path) -> str | None:
        """Return the picture's name relative to the folder of images, or None if it is embedded."""
        required(fields, "shapes")
        text = text_field(fields, "imagePath").replace("\\", "/")
        last = text.rpartition("/")[2]
        candidates: list[str | None] = [last]
        if not self.by_name and file.is_relative_to(self.images):
            below = file.parent.relative_to(self.images).as_posix()
            candidates = [_joined(below, text), _joined(below, last)]
        for name in candidates:
            if name is not None and image_path(self.images, name).is_file():
                return name
        if isinstance(fields.get("imageData"), str):
            if self.image_data:
                return None
            raise BadRecord(
                "image_missing",
                f"{shown(text)}: no such file; the picture in imageData is read with "
                "image_data=true, to be built with --embed or exported with --copy-images",
            )
        # no file exists: the build reports the most likely name as missing
        image_path(self.images, last)
        return candidates[0] or candidates[-1]

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of a file; two files of one name are two problems."""
        place = parts[0].place
        found = Inventory(claimed=self.exhaustive)
        try:
            outer = record(single(parts))
            fields = as_object(outer["fields"], "file")
            image: Path | EmbeddedImage
            if outer["image"] is None:
                image = embedded_image(fields["imageData"], f"imageData of {place}")
                found.note("picture_of_image_data")
            else:
                image = image_path(self.images, outer["image"])
            size = _size(fields, image)
            shapes = as_list(required(fields, "shapes"), "shapes")
            flags = _flags(fields.get("flags"))
        except BadRecord as error:
            return Reading(None, (error.problem(place),))
        if True in flags.values():
            found.note("flags_of_pictures")
        reader = _Shapes(size, found)
        for number, value in enumerate(shapes):
            try:
                reader.read(as_object(value, "shape"), number)
            except BadRecord as error:
                found.problem(error, f"{place}: shape {number}")
        for one in (*reader.pieces.values(), *reader.single):
            try:
                found.add(reader.instance(one))
            except BadRecord as error:
                found.problem(error, f"{place}: shape {one.number}")
        reader.leave_points()
        return found.reading(key, image, size, source=self.name, split=self.split)


@dataclass(slots=True)
class _Piece:
    """The shapes of one instance."""

    number: int
    label: str
    boxes: list[Box] = field(default_factory=list)
    polygons: list[list[float]] = field(default_factory=list)
    arrays: list[Bool[np.ndarray, "height width"]] = field(default_factory=list)
    turned: list[OrientedBox] = field(default_factory=list)
    flags: dict[str, None] = field(default_factory=dict)
    group: int | None = None


class _Shapes:
    """Reads the shapes of one picture."""

    def __init__(self, size: ImageSize, found: Inventory) -> None:
        self.size = size
        self.found = found
        self.notes = found.notes
        self.pieces: dict[tuple[str, int], _Piece] = {}
        self.single: list[_Piece] = []
        self.joints: dict[int, dict[str, tuple[float, float]]] = {}

    def read(self, shape: Mapping[str, Any], number: int) -> None:
        label = text_field(shape, "label")
        kind = shape.get("shape_type") or "polygon"
        group = shape.get("group_id")
        group = None if group is None else as_integer(group, "group_id")
        points = point_list(required(shape, "points"))
        if kind in _LEFT_OUT or (kind == "point" and group is None):
            self.found.lose(None, "shapes_of_other_types")
            return
        if kind == "point":
            self.joint(label, group, points)
            return
        # an invalid shape must not be added partly to the instance of its group
        piece = _Piece(number, category_name(label), group=group)
        self.add(piece, str(kind), points, shape)
        piece.flags = dict.fromkeys(
            category_name(as_text(name, "flag"))
            for name, value in _flags(shape.get("flags")).items()
            if value is True
        )
        if group is None:
            self.single.append(piece)
            return
        known = self.pieces.setdefault((piece.label, group), piece)
        if known is not piece:
            known.boxes += piece.boxes
            known.polygons += piece.polygons
            known.arrays += piece.arrays
            known.turned += piece.turned
            known.flags |= piece.flags

    def add(self, piece: _Piece, kind: str, points: list[float], shape: Mapping[str, Any]) -> None:
        expected = {"rectangle": 2, "circle": 2, "mask": 2, "oriented_rectangle": 4}.get(kind)
        if expected is not None and len(points) != 2 * expected:
            raise BadRecord(
                "bad_record", f"{kind}: expected {expected} points, got {len(points) // 2}"
            )
        if kind == "rectangle":
            piece.boxes.append(around(points, self.size, self.notes))
        elif kind == "oriented_rectangle":
            oriented = oriented_box(points)
            piece.boxes.append(box_around(oriented, self.size, self.notes))
            piece.turned.append(oriented)
        elif kind == "polygon":
            _, box = outlined([points], self.size, self.notes)
            piece.boxes.append(box)
            piece.polygons.append(points)
        elif kind == "circle":
            (x, y, edge_x, edge_y) = points
            radius = hypot(edge_x - x, edge_y - y)
            mask, box = elliptic((x, y), (radius, radius), 0, self.size, self.notes)
            piece.boxes.append(box)
            piece.arrays.append(mask.array)
        elif kind == "mask":
            mask = nonempty(self.patch(points, shape), "mask")
            piece.boxes.append(mask_box(mask))
            piece.arrays.append(mask.array)
        else:
            raise BadRecord(
                "bad_record", f"shape_type: expected one of labelme's, got {shown(kind)}"
            )

    def patch(
        self, points: list[float], shape: Mapping[str, Any]
    ) -> Bool[np.ndarray, "height width"]:
        pixels = png_pixels(decoded(required(shape, "mask"), "mask", "mask_damaged"), "mask") != 0
        whole = all(value == int(value) for value in points)
        left, top = (round(min(points[axis], points[axis + 2])) for axis in (0, 1))
        extent = (round(abs(points[3] - points[1])) + 1, round(abs(points[2] - points[0])) + 1)
        # integer corners include the last pixel; other corners were rounded separately
        if whole and pixels.shape != extent:
            raise BadRecord(
                "mask_damaged",
                f"mask of {pixels.shape[1]}x{pixels.shape[0]} pixels between corners {shown(points)}",
            )
        return pasted(pixels, left, top, self.size)

    def joint(self, label: str, group: int | None, points: list[float]) -> None:
        if len(points) != 2 or group is None:
            raise BadRecord("keypoints_damaged", f"point: expected one, got {len(points) // 2}")
        x, y = points
        if not (-1 <= x <= self.size.width + 1 and -1 <= y <= self.size.height + 1):
            raise BadRecord("keypoints_damaged", f"point ({x:g}, {y:g}) lies outside")
        found = self.joints.setdefault(group, {})
        if label in found:
            raise BadRecord("keypoints_damaged", f"a second {shown(label)} of group {group}")
        found[label] = (x, y)

    def instance(self, piece: _Piece) -> Instance:
        oriented = piece.turned[0] if len(piece.turned) == len(piece.boxes) == 1 else None
        if piece.turned and oriented is None:
            raise BadRecord("bad_record", "a turned box in a group with other shapes of its label")
        return Instance(
            piece.label,
            _union(piece.boxes),
            mask=self.mask(piece),
            keypoints=self.keypoints(piece.group),
            attributes=tuple(piece.flags),
            oriented=oriented,
        )

    def mask(self, piece: _Piece) -> Mask | None:
        # a rectangle beside a mask of the same instance is only its box
        if not piece.arrays and not piece.polygons:
            return None
        try:
            if not piece.arrays:
                return CodedMask(piece.polygons, self.size)
            array = np.logical_or.reduce(piece.arrays)
            if piece.polygons:
                array |= Mask.from_polygons(piece.polygons, self.size).array
        except GeometryError as error:
            raise BadRecord("mask_damaged", str(error)) from None
        return Mask(array)

    def keypoints(self, group: int | None) -> Keypoints | None:
        if group is None or group not in self.joints:
            return None
        owners = [key for key in self.pieces if key[1] == group]
        if len(owners) != 1:
            return None
        found = self.joints.pop(group)
        names = COCO_KEYPOINTS if set(found) <= set(COCO_KEYPOINTS) else tuple(found)
        places = np.array([found.get(name, (0.0, 0.0)) for name in names], np.float32)
        seen = np.array([2 if name in found else 0 for name in names], np.int8)
        return Keypoints(places, seen, names).clip(self.size)

    def leave_points(self) -> None:
        """Count points of groups without an instance, or with several."""
        for found in self.joints.values():
            for _ in found:
                self.found.lose(None, "shapes_of_other_types")


def _union(boxes: list[Box]) -> Box:
    corners = np.array([box.as_array() for box in boxes])
    return Box.from_array(np.concatenate((corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0))))


def _joined(folder: str, name: str) -> str | None:
    """Return a normalised name below a folder, or None if it leads out or is absolute."""
    pieces: list[str] = [] if folder == "." else folder.split("/")
    if name.startswith("/") or name[1:2] == ":":
        return None
    for piece in name.split("/"):
        if piece == ".." and not pieces:
            return None
        if piece == "..":
            pieces.pop()
        elif piece not in {"", "."}:
            pieces.append(piece)
    return "/".join(pieces)


def _flags(value: object) -> Mapping[str, Any]:
    return {} if value is None else as_object(value, "flags")


def _size(fields: Mapping[str, Any], image: Path | EmbeddedImage) -> ImageSize:
    width, height = fields.get("imageWidth"), fields.get("imageHeight")
    said = None if width is None or height is None else image_size(width, height)
    if not isinstance(image, Path):
        if said not in {None, image.size}:
            raise BadRecord("size_mismatch", f"annotated as {said}, imageData is {image.size}")
        return image.size
    return header_size(image) if said is None else said


def open_labelme(
    path: Path,
    *,
    name: str = "labelme",
    images: Path | None = None,
    image_data: bool = False,
    split: str = "",
    exhaustive: bool = True,
) -> LabelMe:
    """Open a folder of labelme's JSON files, with its subfolders, or one file.

    Args:
        path: The folder or the file.
        name: Prefix of the sample names.
        images: The folder of the pictures, if the paths in the files are wrong; only the names are
            used.
        image_data: Use embedded pictures if their files are missing.
        split: The split of all samples.
        exhaustive: Every instance of the labels is annotated.

    Raises:
        AnnotationError: The path is missing, or the folder has no JSON file.
    """
    if path.is_dir():
        if next(json_files(path), None) is None:
            raise AnnotationError(f"{path}: expected JSON files, found none")
    elif not path.is_file():
        raise AnnotationError(f"{path}: does not exist, expected a folder of JSON files")
    root = path if path.is_dir() else path.parent
    return LabelMe(
        name=name,
        path=path,
        images=images or root,
        by_name=images is not None,
        image_data=image_data,
        split=split,
        exhaustive=exhaustive,
    )

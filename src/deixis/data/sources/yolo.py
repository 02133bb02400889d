"""YOLO in the format of Ultralytics: ``data.yaml``, pictures, and a text file of rows for each.

The rows of ``images/train/a.jpg`` are in ``labels/train/a.txt``: the last ``images`` in the path of a
picture becomes ``labels``. A picture without such a file has no instances. A row is a class number and
fractions of the picture's sides: ``cx cy w h`` of a box, or ``x y x y …`` of a polygon; with
``kpt_shape`` in ``data.yaml``, a box and its keypoints. Fractions become pixels rounded to a millionth.
Turned boxes (OBB) have four corners like a polygon, so ``task: obb`` in ``data.yaml`` or the option
``rows=obb`` is needed to select them. Their corners are kept (`deixis.structures.Instance.oriented`) and
may leave the picture; the centre may not.

Files of rows may also be beside their pictures, if ``labels`` has none. Duplicate rows are one instance
(``box_twice``).

Without ``data.yaml`` (or a single other YAML file) the classes come from ``classes.txt`` or
``obj.names``, one name per line, or from the file that ``obj.data`` names. The pictures of a split come
from the lists or folders that ``obj.data`` names, the lists ``train.txt``, ``val.txt`` (``valid.txt``) and
``test.txt``, the folders of these names, or else the whole folder.

Fields used of ``data.yaml``: ``names``, ``kpt_shape``, ``kpt_names``, and the folders or lists of a split.
``path`` is followed only inside the data set, since it usually is a path of another machine. Names stay
texts, such as the classes ``no`` and ``10``.

Seventeen keypoints without names are COCO's; other numbers are named ``keypoint 1`` and so on.

Tested on files written by hand to the published format.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.fields import (
    as_text,
    image_path,
    inside_box,
    record,
    single,
    text_field,
)
from deixis.data.sources.reading.file_names import IMAGE_SUFFIXES, listed, printable_name, say_which
from deixis.data.sources.reading.image_header import header_size
from deixis.data.sources.reading.inventory import Inventory
from deixis.data.sources.reading.shapes import box_around, oriented_box
from deixis.data.sources.reading.xml_files import read_small_text
from deixis.data.sources.reading.yaml_files import read_yaml
from deixis.errors import AnnotationError, GeometryError, RecipeError
from deixis.geometry import COCO_KEYPOINTS, Box, CodedMask, ImageSize, Keypoints
from deixis.geometry.checks import shown
from deixis.structures import Instance

SPLITS = ("train", "val", "test")
YAML = (".yaml", ".yml")
CLASS_FILES = ("obj.data", "classes.txt", "obj.names")
_CLASS_LIMIT = 100_000
_DIGITS = 6
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_BEYOND = 0.01
"""Fractions may exceed 0 and 1 by this much; the geometry is clipped to the picture."""


@dataclass(frozen=True, slots=True)
class Yolo:
    """The pictures of one split, and the meaning of their rows.

    ``places`` are folders of pictures or lists of their names. ``joints`` are the names of the
    keypoints that every row has, each of ``dimensions`` numbers.
    """

    name: str
    images: Path
    places: tuple[Path, ...]
    classes: Mapping[int, str]
    config: Path
    split: str = ""
    joints: tuple[str, ...] = ()
    dimensions: int = 3
    exhaustive: bool = True
    oriented: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """``data.yaml``, and the folders or lists of the pictures."""
        return (str(self.config), *map(str, self.places))

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part per picture with its rows; rows without a picture are a problem."""
        for place in self.places:
            if place.is_dir():
                yield from self._folder(place)
            else:
                for where, name in listed(place, self.images, ""):
                    yield self._listed(place, where, name)

    def _folder(self, place: Path) -> Iterator[Part | RecordProblem]:
        for path in _walk(place, IMAGE_SUFFIXES):
            yield self._part(path)
        labels = _beside(place / "any").parent
        if labels == place or not labels.is_dir():
            return
        for path in _walk(labels, (".txt",)):
            stem = place / path.relative_to(labels)
            if path.name not in NOT_ROWS and not any(
                stem.with_suffix(end).exists() for end in _SUFFIXES
            ):
                yield RecordProblem("unknown_image", "rows without a picture", printable_name(path))

    def _listed(self, place: Path, where: str, name: str) -> Part | RecordProblem:
        try:
            text = as_text(name, "name")
            if text.startswith("./"):
                # such names are relative to the list
                base = place.parent.relative_to(self.images).as_posix()
                text = str(PurePosixPath(base) / text)
            return self._part(image_path(self.images, text))
        except BadRecord as error:
            return error.problem(where)

    def _part(self, path: Path) -> Part | RecordProblem:
        key = path.relative_to(self.images).as_posix()
        label = _rows_of(path)
        try:
            key.encode()
        except UnicodeEncodeError:
            return RecordProblem(
                "bad_encoding", "a file name that is not UTF-8", printable_name(path)
            )
        try:
            rows = read_small_text(label, "bad_record") if os.path.lexists(label) else ""
        except BadRecord as error:
            return error.problem(key)
        # escaped, since bytes that are not UTF-8 have to fit into JSON
        return Part(key, "image", "", label.name, json.dumps({"image": key, "rows": rows}))

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of a picture with its rows."""
        place = parts[0].place
        found = Inventory(claimed=self.exhaustive)
        try:
            fields = record(single(parts))
            path = image_path(self.images, text_field(fields, "image"))
            size = header_size(path)
            rows = fields["rows"]
        except BadRecord as error:
            return Reading(None, (error.problem(place),))
        for number, row in enumerate(rows.splitlines(), start=1):
            words = row.removeprefix("\ufeff").split()
            if words:
                self._add(words, size, found, f"{place}: line {number}")
        return found.reading(key, path, size, source=self.name, split=self.split)

    def _add(self, words: list[str], size: ImageSize, found: Inventory, place: str) -> None:
        category: str | None = None
        try:
            category = self._category(words[0])
            values = [_number(word) for word in words[1:]]
            found.add(self._instance(category, values, size, found.notes))
        except BadRecord as error:
            found.problem(error, place, category=category)

    def _category(self, word: str) -> str:
        number = _number(word)
        if number not in self.classes:
            raise BadRecord("unknown_category", f"class {shown(word)}")
        return self.classes[int(number)]

    def _instance(
        self, category: str, values: list[float], size: ImageSize, notes: dict[str, int]
    ) -> Instance:
        if self.joints:
            expected = 4 + self.dimensions * len(self.joints)
            if len(values) != expected:
                raise BadRecord("keypoints_damaged", f"{len(values)} numbers, expected {expected}")
            box = _box(values[:4], size, notes)
            return Instance(category, box, keypoints=self._keypoints(values[4:], size))
        if self.oriented:
            return _oriented(category, values, size, notes)
        if len(values) == 4:
            return Instance(category, _box(values, size, notes))
        if len(values) < 6 or len(values) % 2:
            raise BadRecord("bad_record", f"{len(values)} numbers, expected 4, or 3 or more pairs")
        return _outlined(category, values, size, notes)

    def _keypoints(self, values: list[float], size: ImageSize) -> Keypoints | None:
        flat: list[float] = []
        for start in range(0, len(values), self.dimensions):
            x, y, *seen = values[start : start + self.dimensions]
            _check_fractions([x, y], "keypoint", "keypoints_damaged")
            visibility = seen[0] if seen else 2 * float((x, y) != (0, 0))
            flat += [x * size.width, y * size.height, visibility]
        try:
            found = Keypoints.from_annotation(flat, names=self.joints).clip(size)
        except GeometryError as error:
            raise BadRecord("keypoints_damaged", str(error)) from None
        # an instance without keypoints still has their columns
        return found if found.num_labeled else None


NOT_ROWS = frozenset({"classes.txt", "notes.txt", "train.txt", "val.txt", "valid.txt", "test.txt"})
"""Text files that are not rows."""
_SUFFIXES = (*IMAGE_SUFFIXES, *(suffix.upper() for suffix in IMAGE_SUFFIXES))


def _walk(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if name.lower().endswith(suffixes):
                yield Path(root) / name


def _beside(image: Path) -> Path:
    """Return the path of a picture's rows in ``labels``."""
    pieces = list(image.parts)
    if "images" in pieces[:-1]:
        last = len(pieces) - 2 - pieces[-2::-1].index("images")
        pieces[last] = "labels"
    return Path(*pieces).with_suffix(".txt")


def _rows_of(image: Path) -> Path:
    """Return the path of a picture's rows; beside the picture if ``labels`` has none."""
    label, beside = _beside(image), image.with_suffix(".txt")
    if label != beside and not os.path.lexists(label) and beside.name not in NOT_ROWS:
        return beside if os.path.lexists(beside) else label
    return label


def _number(word: str) -> float:
    if len(word) > 40 or not _NUMBER.fullmatch(word):
        raise BadRecord("bad_number", f"expected a number, got {shown(word)}")
    number = float(word)
    if abs(number) > 1e15:
        raise BadRecord("bad_number", f"expected a finite number, got {shown(word)}")
    return number


def _check_fractions(values: Sequence[float], kind: str, code: str = "box_layout") -> None:
    if min(values) < -_BEYOND or max(values) > 1 + _BEYOND:
        raise BadRecord(code, f"{kind} {shown(values)}: expected fractions of the sides")


def _box(values: list[float], size: ImageSize, notes: dict[str, int]) -> Box:
    _check_fractions(values, "box")
    cx, cy, width, height = values
    corners = ((cx - width / 2, cy - height / 2), (cx + width / 2, cy + height / 2))
    edges = [
        round(share * side, _DIGITS)
        for corner in corners
        for share, side in zip(corner, (size.width, size.height), strict=True)
    ]
    return inside_box(edges, size, notes)


def _outlined(
    category: str, values: list[float], size: ImageSize, notes: dict[str, int]
) -> Instance:
    _check_fractions(values, "polygon")
    sides = (size.width, size.height)
    polygon = [round(value * sides[place % 2], _DIGITS) for place, value in enumerate(values)]
    try:
        mask = CodedMask([polygon], size)
    except GeometryError as error:
        raise BadRecord("mask_damaged", str(error)) from None
    xs, ys = polygon[0::2], polygon[1::2]
    edges = [max(min(xs), 0.0), max(min(ys), 0.0), min(max(xs), sides[0]), min(max(ys), sides[1])]
    return Instance(category, inside_box(edges, size, notes), mask=mask)


def _oriented(
    category: str, values: list[float], size: ImageSize, notes: dict[str, int]
) -> Instance:
    if len(values) != 8:
        raise BadRecord("bad_record", f"{len(values)} numbers, expected the 8 of four corners")
    middle = [sum(values[0::2]) / 4, sum(values[1::2]) / 4]
    _check_fractions(middle, "middle of a turned box")
    sides = (size.width, size.height)
    corners = [round(value * sides[place % 2], _DIGITS) for place, value in enumerate(values)]
    oriented = oriented_box(corners)
    return Instance(category, box_around(oriented, size, notes), oriented=oriented)


def open_yolo(
    path: Path,
    *,
    name: str = "yolo",
    split: str = "",
    exhaustive: bool = True,
    rows: str = "auto",
) -> Yolo:
    """Read ``data.yaml``, and find the pictures of a split.

    Args:
        path: ``data.yaml``, ``obj.data``, ``classes.txt`` or ``obj.names``, or the folder of one of
            them.
        name: Prefix of the sample names.
        split: A split of the file; required if there are several.
        exhaustive: Every instance of the classes is annotated, as in training data.
        rows: ``obb`` for rows of turned boxes; ``auto`` uses ``task`` of the file.

    Raises:
        AnnotationError: The file is missing or lacks a field, or the pictures are not in its folder.
        RecipeError: ``rows`` has another value.
    """
    if rows not in {"auto", "obb"}:
        raise RecipeError(f"rows {rows!r}: expected auto or obb")
    config = _config(path) if path.is_dir() else path
    try:
        text = read_small_text(config, "bad_record")
        fields = read_yaml(text) if config.suffix in YAML else _without_yaml(config, text)
        classes = _classes(fields.get("names"))
        joints, dimensions = _joints(fields)
    except BadRecord as error:
        raise AnnotationError(f"{config}: {error.detail}") from None
    root = config.parent
    if config.suffix == ".data" and not any(fields.get(key) for key in SPLITS):
        fields |= _pictures_in(root)
    found = {key: _places(root, fields, fields[key]) for key in SPLITS if fields.get(key)}
    if split and split not in found and fields.get(split):
        found[split] = _places(root, fields, fields[split])
    known = {key: places for key, places in found.items() if places}
    if split not in known:
        # one folder under several names, as some trainers need it, is one split
        if split or len(set(known.values())) != 1:
            names = [name for name in fields if name in known]
            hint = say_which("yolo", names) if names else ""
            raise AnnotationError(f"{config}: has splits {sorted(known)} in its folder{hint}")
        folders = next(iter(known.values()))
        split = folders[0].stem if folders[0].stem in known else next(iter(known))
    return Yolo(
        name=name,
        images=root,
        places=known[split],
        classes=classes,
        config=config,
        split=split,
        joints=joints,
        dimensions=dimensions,
        exhaustive=exhaustive,
        oriented=rows == "obb" or fields.get("task") == "obb",
    )


def _config(folder: Path) -> Path:
    """Return the file of a folder with the classes."""
    if (folder / "data.yaml").is_file():
        return folder / "data.yaml"
    found = sorted(file for file in folder.glob("*.y*ml") if file.suffix in YAML)
    if len(found) > 1:
        names = [file.name for file in found]
        raise AnnotationError(f"{folder}: has {names}; name one, as in yolo:{found[0]}")
    found += [folder / name for name in CLASS_FILES if (folder / name).is_file()]
    if not found:
        raise AnnotationError(
            f"{folder}: expected data.yaml, or one of {list(CLASS_FILES)}, found neither"
        )
    return found[0]


def _without_yaml(config: Path, text: str) -> dict[str, Any]:
    """Return the fields of ``data.yaml`` from a list of classes or darknet's ``obj.data``."""
    root = config.parent
    if config.suffix != ".data":
        return {"names": _lines(text), **_pictures_in(root)}
    fields: dict[str, Any] = {}
    for line in _lines(text):
        key, equals, value = line.partition("=")
        if not equals:
            raise BadRecord("bad_record", f"expected name = value, got {shown(line)}")
        fields[{"valid": "val"}.get(key.strip(), key.strip())] = value.strip()
    named = fields.get("names")
    if not isinstance(named, str) or not named:
        raise BadRecord("bad_record", "names: expected a file of class names")
    # darknet's paths are relative to its working directory, usually a parent of this folder
    places = [image_path(root, named), image_path(root, PurePosixPath(named).name)]
    path = next((one for one in places if one.is_file()), places[0])
    fields["names"] = _lines(read_small_text(path, "bad_record"))
    for key in SPLITS:
        listed = fields.get(key)
        if isinstance(listed, str) and not (root / listed).exists():
            fields[key] = PurePosixPath(listed).name
    return fields


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _pictures_in(root: Path) -> dict[str, str]:
    """Return the lists or folders of each split of a folder without a configuration."""
    found: dict[str, str] = {}
    for split in (*SPLITS, "valid"):
        for name in (f"{split}.txt", f"images/{split}", f"{split}/images", split):
            if (root / name).exists():
                found.setdefault("val" if split == "valid" else split, name)
                break
    return found or {"train": "images" if (root / "images").is_dir() else "."}


def _classes(names: object) -> dict[int, str]:
    if isinstance(names, list):
        pairs = [(str(number), name) for number, name in enumerate(names)]
    elif isinstance(names, dict):
        pairs = list(names.items())
    else:
        raise BadRecord("bad_record", "names: expected a list, or numbers with names")
    classes: dict[int, str] = {}
    for key, name in pairs:
        if not key.isascii() or not key.isdigit() or int(key[:9]) >= _CLASS_LIMIT:
            raise BadRecord("bad_record", f"names: expected a number, got {shown(key)}")
        classes[int(key)] = as_text(name, f"names: {key}").replace("_", " ")
    if not classes or len(classes) < len(pairs):
        raise BadRecord("bad_record", "names: expected at least one, and each number once")
    return classes


def _joints(fields: Mapping[str, Any]) -> tuple[tuple[str, ...], int]:
    shape = fields.get("kpt_shape")
    if shape is None:
        return (), 3
    if not isinstance(shape, list) or len(shape) != 2 or shape[1] not in ("2", "3"):
        raise BadRecord("bad_record", f"kpt_shape: expected [number, 2 or 3], got {shown(shape)}")
    number = as_text(shape[0], "kpt_shape")
    if not number.isascii() or not number.isdigit() or not 1 <= int(number[:9]) <= 1000:
        raise BadRecord("bad_record", f"kpt_shape: expected 1 to 1000 keypoints, got {number!r}")
    count = int(number)
    names: tuple[str, ...] = COCO_KEYPOINTS if count == len(COCO_KEYPOINTS) else ()
    given = fields.get("kpt_names")
    if isinstance(given, dict) and given:
        lists = [one if isinstance(one, list) else [one] for one in given.values()]
        names = tuple(as_text(one, "kpt_names") for one in lists[0])
        if any(one != lists[0] for one in lists):
            raise BadRecord("bad_record", "kpt_names: expected the same names for every class")
    names = names or tuple(f"keypoint {number}" for number in range(1, count + 1))
    if len(names) != count or len(set(names)) != count:
        raise BadRecord("bad_record", f"kpt_names: expected {count} different names")
    return names, int(shape[1])


def _places(root: Path, fields: Mapping[str, Any], value: object) -> tuple[Path, ...]:
    """Return the existing folders and lists of a split inside the data set."""
    places = []
    base = fields.get("path")
    for one in value if isinstance(value, list) else [value]:
        if not isinstance(one, str):
            raise AnnotationError(f"{root / 'data.yaml'}: a split that is no path: {shown(one)}")
        # some tools write a folder of the data set as a sibling of it
        names = [one.removeprefix("../"), one]
        if isinstance(base, str) and base:
            names.insert(0, f"{base}/{one}")
        for name in names:
            try:
                place = root if name == "." else image_path(root, name)
            except BadRecord:
                continue
            if place.exists() and place.resolve().is_relative_to(root.resolve()):
                places.append(place)
                break
        else:
            return ()
    return tuple(places)

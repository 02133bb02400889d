"""Writes YOLO in the format of Ultralytics: a text file for each picture, and ``data.yaml``.

A row is a class number and fractions of the picture's sides: a box as centre, width and height; a
polygon; or a box and keypoints. All rows of a data set have the same kind, because readers cannot
distinguish kinds by row. Rows of oriented boxes have four corners, which may lie outside the picture;
``data.yaml`` then has ``task: obb``.

Fractions have 12 digits, which is exact to a millionth of a pixel.
"""

import json
from pathlib import Path

from deixis.data.export.coco import MOST_SPLITS, Categories, flip_order
from deixis.data.export.files import write_text
from deixis.data.export.items import Item, Losses, split_name
from deixis.data.export.outlines import corners_of, single_polygon
from deixis.errors import RecipeError
from deixis.geometry import Box, ImageSize, Keypoints
from deixis.structures import Instance, Sample

ROWS = ("auto", "boxes", "polygons", "keypoints", "obb")


class YoloWriter:
    """Writes ``labels/SPLIT/*.txt`` for the pictures ``images/SPLIT/*``.

    Args:
        folder: The folder of the export.
        losses: Counts contents that are left out.
        rows: The kind of rows; ``auto`` writes oriented boxes if every instance has one, polygons if
            every instance has a mask, else boxes.
    """

    def __init__(self, folder: Path, losses: Losses, *, rows: str = "auto") -> None:
        if rows not in ROWS:
            raise RecipeError(f"rows {rows!r}: expected one of {list(ROWS)}")
        self.folder = folder
        self.losses = losses
        self.rows = rows
        self.categories = Categories(first=0)
        self.names: tuple[str, ...] = ()
        self.splits: set[str] = set()
        self._instances = self._masks = self._turned = 0

    @property
    def carries(self) -> frozenset[str]:
        """The kinds of `content` that rows of this kind can hold."""
        kinds = {
            "polygons": frozenset({"masks"}),
            "keypoints": frozenset({"keypoints"}),
            "obb": frozenset({"turned boxes"}),
        }
        return kinds.get(self._kind(), frozenset()) | {"crowd flags"}

    @property
    def needs_look(self) -> bool:
        """Whether the kind of rows, or their length, depends on the samples."""
        return self.rows in {"auto", "keypoints"}

    def look(self, sample: Sample) -> None:
        """Count instances and masks, and find the first keypoints."""
        used = [one for one in sample.instances if not one.crowd]
        self._instances += len(used)
        self._masks += sum(one.mask is not None for one in used)
        self._turned += sum(one.oriented is not None for one in used)
        for one in used:
            if one.keypoints is not None and not self.names:
                self.names = one.keypoints.names

    def add(self, item: Item) -> None:
        """Write the rows of a picture; without instances, an empty file."""
        sample = item.sample
        split = split_name(sample)
        rows = [
            self._row(instance, sample.size) for instance in sample.instances if not instance.crowd
        ]
        self.losses.add("crowds", sum(instance.crowd for instance in sample.instances))
        self.splits.add(split)
        if len(self.splits) > MOST_SPLITS:
            raise RecipeError(f"more than {MOST_SPLITS} splits: {sorted(self.splits)}")
        path = self.folder / "labels" / split / item.file_name
        write_text(path.with_suffix(".txt"), "".join(f"{row}\n" for row in rows))

    def finish(self) -> None:
        """Write ``data.yaml``; trainers require a training and a validation folder."""
        splits = sorted(self.splits) or ["train"]
        folders = {split: f"images/{split}" for split in splits}
        lines = [f"{split}: {folder}" for split, folder in folders.items()]
        lines += [
            f"{needed}: {folders[splits[0]]}  # there is no such split"
            for needed in ("train", "val")
            if needed not in folders
        ]
        if self._kind() == "obb":
            lines.append("task: obb")
        if self._kind() == "keypoints":
            lines.append(f"kpt_shape: [{len(self.names)}, 3]")
            order = flip_order(self.names)
            if order is not None:
                lines.append(f"flip_idx: {order}")
        lines.append("names:")
        lines += [f"  {number}: {quoted(name)}" for name, number in self.categories.numbers.items()]
        if self._kind() == "keypoints":
            lines.append("kpt_names:")
            names = ", ".join(quoted(name) for name in self.names)
            lines += [f"  {number}: [{names}]" for number in self.categories.numbers.values()]
        write_text(self.folder / "data.yaml", "".join(f"{line}\n" for line in lines))

    def close(self) -> None:
        """Do nothing, as no file stays open."""

    def _kind(self) -> str:
        if self.rows != "auto":
            return self.rows
        if self._instances and self._turned == self._instances:
            return "obb"
        return "polygons" if self._instances and self._masks == self._instances else "boxes"

    def _row(self, instance: Instance, size: ImageSize) -> str:
        number = self.categories.number(instance.category)
        kind = self._kind()
        if kind == "polygons":
            return " ".join([str(number), *self._polygon(instance, size)])
        if kind == "obb":
            sides = (size.width, size.height)
            corners = corners_of(instance, self.losses)
            fractions = [value / sides[place % 2] for place, value in enumerate(corners)]
            return " ".join([str(number), *map(_fraction, fractions)])
        box = instance.box
        values = [
            *(box.center[0] / size.width, box.center[1] / size.height),
            *(box.width / size.width, box.height / size.height),
        ]
        words = [str(number), *map(_fraction, values)]
        if kind == "keypoints":
            words += self._keypoints(instance.keypoints, size)
        return " ".join(words)

    def _polygon(self, instance: Instance, size: ImageSize) -> list[str]:
        polygon = None
        if instance.mask is None:
            self.losses.add("boxes without a mask, written as rectangles")
        else:
            polygon = single_polygon(instance.mask)
            if polygon is None:
                self.losses.add("masks of too many corners or none, written as rectangles")
        numbers = polygon or _corners(instance.box)
        sides = (size.width, size.height)
        return [_fraction(value / sides[place % 2]) for place, value in enumerate(numbers)]

    def _keypoints(self, keypoints: Keypoints | None, size: ImageSize) -> list[str]:
        if not self.names:
            raise RecipeError("rows of keypoints: no instance has any")
        if keypoints is not None and keypoints.names != self.names:
            self.losses.add("keypoints of other names than the first")
            keypoints = None
        if keypoints is None:
            return ["0"] * (3 * len(self.names))
        words = []
        for (x, y), seen in zip(
            keypoints.positions.tolist(), keypoints.visibility.tolist(), strict=True
        ):
            words += [_fraction(x / size.width), _fraction(y / size.height), str(seen)]
        return words


def quoted(text: str) -> str:
    """Return a text in JSON quotes, which are valid YAML for any text."""
    return json.dumps(text)


def _fraction(value: float) -> str:
    return f"{value:.12g}"


def _corners(box: Box) -> list[float]:
    return [box.x1, box.y1, box.x2, box.y1, box.x2, box.y2, box.x1, box.y2]

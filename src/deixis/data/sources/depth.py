"""Depth maps: KITTI, NYU Depth v2, HRWSI, and the depth of drawn scenes.

A depth map is a grey PNG of 8 or 16 bits with the size of its image; 0 is unknown. The formats differ in
the list of pairs and the meaning of values:

- KITTI: metres times 256. Pairs are lines of a file, ``IMAGE DEPTH [FOCAL]`` with ``None`` where there
  is no depth (the lists of the Eigen split), or a folder with ``image`` and ``groundtruth_depth`` (the
  selection for validation).
- NYU Depth v2: millimetres, in the lists that go with the published PNG export. Names begin with a
  slash, which is taken off.
- HRWSI: ``SPLIT/imgs``, ``SPLIT/gts`` and ``SPLIT/valid_masks``. Values are disparities: they order the
  pixels, and larger is nearer; they are inverted, so that larger is farther, and are relative.
- Drawn scenes: ``SPLIT.json`` with ``scale`` and ``pairs``, metres times the scale.

Depth is read when a sample is made, of images within the limits of images. An image of another size
than its depth map is quarantined. Tested on exports of deixis, and on files written to the published
formats.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.fields import (
    as_number,
    as_object,
    image_path,
    record,
    text_field,
)
from deixis.data.sources.reading.questions import Fields, the_file
from deixis.data.sources.reading.records import Record, parts_of, records
from deixis.data.sources.reading.segment_pictures import read_grey, read_numbers
from deixis.data.sources.reading.spans import located_size
from deixis.data.sources.reading.streaming import json_lines, member_value
from deixis.errors import AnnotationError, GeometryError
from deixis.geometry import DepthMap, ImageSize
from deixis.structures import Sample

KITTI_SCALE, NYU_SCALE = 256.0, 1000.0


@dataclass(frozen=True, slots=True)
class DepthPairs:
    """Images with a depth map each.

    ``listing`` is a file of pairs, or a folder that `_listed` knows how to list. Values of depth maps
    are divided by ``scale``, which makes metres; a scale of 0 says that they are disparities.
    """

    name: str
    listing: Path
    images: Path
    depths: Path
    scale: float
    split: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The file or folder that lists the pairs, and the folder of the depth maps."""
        return str(self.listing), str(self.depths)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part per pair."""
        for one in self._listed():
            if isinstance(one, RecordProblem):
                yield one
                continue
            place, image, depth = one
            payload = json.dumps({"image": image, "depth": depth})
            yield Part(image, "pair", "", place, payload)

    def _listed(self) -> Iterator[tuple[str, str, str] | RecordProblem]:
        if self.listing.is_dir():
            yield from _folder_pairs(self.listing)
        elif self.listing.suffix == ".json":
            yield from parts_of(records(self.listing, "pairs"), _pair)
        else:
            yield from _line_pairs(self.listing)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of an image; reads its depth map."""
        place = parts[0].place
        if len(parts) > 1:
            return Reading(None, (RecordProblem("duplicate_image", f"{len(parts)} pairs", place),))
        try:
            path = image_path(self.images, key)
            size = located_size(path)
            depth = self._depth(record(parts[0]), size)
        except BadRecord as error:
            return Reading(None, (error.problem(place),))
        sample = Sample(
            id=f"{self.name}/{key}",
            image=path,
            size=size,
            depth=depth,
            source=self.name,
            split=self.split,
            exhaustive=False,
        )
        return Reading(sample)

    def _depth(self, fields: Fields, size: ImageSize) -> DepthMap:
        name = text_field(fields, "depth")
        levels = read_numbers(self.depths, name)
        if levels.shape != tuple(size):
            height, width = levels.shape
            raise BadRecord("size_mismatch", f"depth of {width}x{height}, an image of {size}")
        values: Float32[np.ndarray, "height width"]
        if self.scale:
            values = (levels / self.scale).astype(np.float32)
        else:
            valid = read_grey(self.depths, name.replace("gts/", "valid_masks/", 1)) > 0
            if valid.shape != levels.shape:
                raise BadRecord("size_mismatch", "the mask of valid pixels has another size")
            farthest = float(levels.max()) + 1
            values = np.where(valid, (farthest - levels) / farthest, 0).astype(np.float32)
        try:
            return DepthMap(values, "metric" if self.scale else "relative")
        except GeometryError as error:
            raise BadRecord("bad_number", str(error)) from None


def _line_pairs(path: Path) -> Iterator[tuple[str, str, str] | RecordProblem]:
    for number, line in json_lines(path):
        place = f"{path.name}: line {number}"
        words = line.split()
        if len(words) not in {2, 3}:
            yield RecordProblem(
                "bad_record", f"{len(words)} words, expected an image and a depth", place
            )
        elif words[1] != "None":
            yield place, words[0].removeprefix("/"), words[1].removeprefix("/")


def _folder_pairs(folder: Path) -> Iterator[tuple[str, str, str]]:
    images = "imgs" if (folder / "imgs").is_dir() else "image"
    for path in sorted((folder / images).iterdir()):
        if path.is_file():
            depth = _DISPARITY if images == "imgs" else _GROUND_TRUTH
            name = path.name.replace("_sync_image_", "_sync_groundtruth_depth_")
            image = f"{images}/{path.name}"
            yield image, image, depth.format(name=name, stem=path.stem)


_DISPARITY, _GROUND_TRUTH = "gts/{stem}.png", "groundtruth_depth/{name}"


def open_kitti(
    path: Path,
    *,
    name: str = "kitti",
    images: Path | None = None,
    depths: Path | None = None,
    split: str = "",
) -> DepthPairs:
    """Open a list of pairs, or the folder of the selection for validation.

    The names in a list are relative to the given folders, else to the folder of the list.

    Raises:
        AnnotationError: Both are missing.
    """
    return _open(path, "image", name, images, depths, KITTI_SCALE, split)


def open_nyu(
    path: Path,
    *,
    name: str = "nyu",
    images: Path | None = None,
    depths: Path | None = None,
    split: str = "",
) -> DepthPairs:
    """Open a list of pairs; names are relative to the given folders, else to the list's folder.

    Raises:
        AnnotationError: The list is missing.
    """
    return _open(the_file(path), "image", name, images, depths, NYU_SCALE, split)


def open_hrwsi(
    path: Path, *, name: str = "hrwsi", images: Path | None = None, split: str = "train"
) -> DepthPairs:
    """Open HRWSI's folder, with ``SPLIT/imgs``, ``SPLIT/gts`` and ``SPLIT/valid_masks``.

    Raises:
        AnnotationError: The folders are missing.
    """
    root = path / split if (path / split).is_dir() else path
    return _open(root, "imgs", name, images, root, 0.0, split)


def open_depth(
    path: Path, *, name: str = "depth", images: Path | None = None, split: str = "train"
) -> DepthPairs:
    """Open ``SPLIT.json`` of drawn scenes, or its folder.

    Raises:
        AnnotationError: The file is missing, or its scale is not a positive number.
    """
    file = the_file(path, f"{split}.json")
    try:
        scale = as_number(member_value(file, "scale"), "scale")
    except BadRecord as error:
        raise AnnotationError(f"{file}: {error.detail}") from error
    if scale <= 0:
        raise AnnotationError(f"{file}: scale {scale}, expected more than 0")
    return DepthPairs(name, file, images or file.parent, file.parent, scale, split)


def _open(
    path: Path,
    folder: str,
    name: str,
    images: Path | None,
    depths: Path | None,
    scale: float,
    split: str,
) -> DepthPairs:
    if not path.is_file() and not (path / folder).is_dir():
        raise AnnotationError(f"{path}: expected a list of pairs, or a folder with {folder} in it")
    root = path if path.is_dir() else path.parent
    return DepthPairs(name, path, images or root, depths or root, scale, split)


def _pair(one: Record) -> tuple[str, str, str]:
    fields = as_object(one.value, "pair")
    return one.place, text_field(fields, "image"), text_field(fields, "depth")

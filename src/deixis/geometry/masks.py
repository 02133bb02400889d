"""Masks: the pixels of an instance or region."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int64, Integer, Shaped

from deixis.errors import GeometryError
from deixis.geometry.boxes import Box
from deixis.geometry.checks import (
    COORDINATE_LIMIT,
    VERTEX_LIMIT,
    checks_itself,
    described,
    shown,
)
from deixis.geometry.polygons import checked_polygons, polygon_runs
from deixis.geometry.rle import (
    checked_counts,
    compress_counts,
    decode_counts,
    decompress_counts,
    encode_counts,
    fill_runs,
)
from deixis.geometry.size import ImageSize


@runtime_checkable
class Drawable(Protocol):
    """A region that covers pixels of an image: a point, a scribble."""

    def to_mask(self, size: ImageSize) -> "Mask":
        """Return the pixels covered in an image of ``size``."""


@checks_itself
@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """The pixels of one instance, as a bool array ``[height width]``; it may be empty.

    The array is read-only. It is a copy, unless the given array owns its data and is read-only.
    Two masks are equal if their pixels are.

    Raises:
        GeometryError: The array is not bool, not two-dimensional, without pixels or too large.
    """

    array: Bool[np.ndarray, "height width"]

    def __post_init__(self) -> None:
        array: object = self.array
        if not isinstance(array, np.ndarray) or array.dtype != np.bool_ or array.ndim != 2:
            raise GeometryError(
                f"mask: expected a bool array [height width], got {described(array)}"
            )
        flags = array.flags
        if flags.writeable or not flags.c_contiguous or not flags.owndata:
            kept = np.array(array, order="C")
            kept.flags.writeable = False
            object.__setattr__(self, "array", kept)
        ImageSize(*array.shape).check_area()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and np.array_equal(self.array, other.array)

    def __hash__(self) -> int:
        return hash((self.array.shape, np.packbits(self.array).tobytes()))

    def __repr__(self) -> str:
        return f"Mask({self.size}, {self.area} pixels)"

    @property
    def size(self) -> ImageSize:
        """Size of the image of the mask."""
        return ImageSize(*self.array.shape)

    @property
    def area(self) -> int:
        """The number of set pixels."""
        return int(np.count_nonzero(self.array))

    @property
    def is_empty(self) -> bool:
        """Whether no pixel is set."""
        return not self.array.any()

    def to_box(self) -> Box:
        """Return the smallest box around the set pixels.

        Raises:
            GeometryError: The mask is empty.
        """
        rows = np.flatnonzero(self.array.any(axis=1))
        if rows.size == 0:
            raise GeometryError(f"mask of {self.size} is empty: it has no box")
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        columns = np.flatnonzero(self.array[top:bottom].any(axis=0))
        return Box(int(columns[0]), top, int(columns[-1]) + 1, bottom)

    def to_rle(self) -> list[int]:
        """Return run lengths down the columns; the first run is clear (COCO, uncompressed)."""
        counts: list[int] = encode_counts(self.array).tolist()
        return counts

    def to_coco(self, *, compressed: bool = True) -> dict[str, list[int] | str]:
        """Return ``{"size": [height, width], "counts": ...}``, ready for JSON."""
        counts = encode_counts(self.array)
        return {
            "size": list(self.size),
            "counts": compress_counts(counts) if compressed else counts.tolist(),
        }

    def to_annotation(self) -> dict[str, object]:
        """Return the mask as compressed COCO run lengths, ready for JSON."""
        return dict(self.to_coco())

    @classmethod
    def from_rle(
        cls, counts: Sequence[int] | Integer[np.ndarray, " runs"], size: ImageSize
    ) -> "Mask":
        """Make a mask from run lengths down the columns; the first run is clear.

        Raises:
            GeometryError: A count is not an integer or is negative, or the counts do not fill ``size``.
        """
        return _frozen(decode_counts(checked_counts(counts, size), size))

    @classmethod
    def from_coco(cls, rle: object, *, size: ImageSize | None = None) -> "Mask":
        """Check COCO run lengths and make a mask from them.

        Args:
            rle: ``{"size": [height, width], "counts": ...}`` with counts as a list or in
                compressed form.
            size: The size of the image, if known; the run lengths must have the same size.

        Raises:
            GeometryError: The sizes differ, or the run lengths are damaged.
        """
        if not isinstance(rle, Mapping) or not {"size", "counts"} <= rle.keys():
            raise GeometryError(f"RLE: expected an object with size and counts, got {shown(rle)}")
        own_size = ImageSize.from_annotation(rle["size"])
        if size is not None and own_size != size:
            raise GeometryError(f"RLE: expected the image's size {size}, got {own_size}")
        own_size.check_area()
        counts = rle["counts"]
        if isinstance(counts, str | bytes):
            counts = decompress_counts(counts)
        return _frozen(decode_counts(checked_counts(counts, own_size), own_size))

    @classmethod
    def from_polygons(
        cls,
        polygons: Sequence[Sequence[float | int] | Shaped[np.ndarray, " _"]],
        size: ImageSize,
    ) -> "Mask":
        """Make a mask from the union of polygons ``[x, y, x, y, ...]``.

        Polygons are filled as in pycocotools: even-odd inside each polygon, so a self-intersection
        leaves a hole. Parts outside the image are cut off. A polygon that is thinner than a pixel, or
        wholly outside, gives an empty mask.

        Raises:
            GeometryError: There is no polygon, one has an odd count or fewer than 6 numbers, a
                number is not finite, or there are more than 10,000 vertices together.
        """
        starts, ends = polygon_runs(checked_polygons(polygons), size)
        return _frozen(fill_runs(starts, ends, size))

    @classmethod
    def from_annotation(cls, segmentation: object, size: ImageSize) -> "Mask":
        """Read a COCO ``segmentation``: polygons, or run lengths in either form.

        Raises:
            GeometryError: ``segmentation`` has neither form, is damaged, or has another size.
        """
        if isinstance(segmentation, Mapping):
            return cls.from_coco(segmentation, size=size)
        starts, ends = polygon_runs(checked_polygons(segmentation), size)
        return _frozen(fill_runs(starts, ends, size))

    @classmethod
    def from_levels(cls, levels: Shaped[np.ndarray, "..."], size: ImageSize) -> "Mask":
        """Make a mask from a mask image: bool, or integers 0 and 1, or 0 and 255.

        Raises:
            GeometryError: The array has another size or type, or other values.
        """
        if levels.shape != tuple(size) or levels.dtype.kind not in "biu":
            raise GeometryError(
                f"mask picture: expected integers {list(size)}, got {described(levels)}"
            )
        values = set(np.unique(levels).tolist())
        if not (values <= {0, 1} or values <= {0, 255}):
            raise GeometryError(
                f"mask picture: expected only 0 and 1, or 0 and 255, got {shown(sorted(values))}"
            )
        return _frozen(levels != 0)

    @classmethod
    def from_box(cls, box: Box, size: ImageSize) -> "Mask":
        """Make a mask from the pixels whose centres lie in a box.

        A box that is too thin to contain a centre gets the nearest pixels, so every box inside the
        image covers a pixel.

        Raises:
            GeometryError: The box lies wholly outside the image.
        """
        size.check_area()
        inside = box.clip(size)
        left, right = _covered(inside.x1, inside.x2)
        top, bottom = _covered(inside.y1, inside.y2)
        array = np.zeros(tuple(size), np.bool_)
        array[top:bottom, left:right] = True
        return _frozen(array)

    @classmethod
    def from_point(cls, point: Drawable, size: ImageSize) -> "Mask":
        """Make a mask from the pixel that contains a point.

        Raises:
            GeometryError: The point lies outside the image.
        """
        return point.to_mask(size)

    @classmethod
    def from_scribble(cls, scribble: Drawable, size: ImageSize) -> "Mask":
        """Make a mask from the pixels that a scribble covers.

        Raises:
            GeometryError: The scribble lies wholly outside the image.
        """
        return scribble.to_mask(size)

    @classmethod
    def from_region(cls, region: "Box | Mask | Drawable", size: ImageSize) -> "Mask":
        """Make a mask from any region of an image of ``size``.

        Raises:
            GeometryError: The region lies wholly outside the image, or is a mask with another size.
        """
        if isinstance(region, Box):
            return cls.from_box(region, size)
        if isinstance(region, Mask):
            if region.size != size:
                raise GeometryError(f"mask: expected the image's size {size}, got {region.size}")
            return region
        return region.to_mask(size)


class CodedMask(Mask):
    """A mask stored as polygons or run lengths, whose pixels are filled on first use.

    The segmentation is checked at once, and `to_annotation` returns it unchanged. It equals any mask
    with the same pixels.

    Args:
        segmentation: A COCO ``segmentation``: polygons, or run lengths in either form.
        size: The image's size.

    Raises:
        GeometryError: `Mask.from_annotation` would raise.
    """

    __slots__ = ("_coded", "_filled", "_size")
    _coded: Mapping[str, object] | list[list[float]]
    _filled: "Mask | None"
    _size: ImageSize

    def __init__(self, segmentation: object, size: ImageSize) -> None:
        filled: Mask | None = None
        if isinstance(segmentation, Mapping):
            # only decoding shows whether the sum of run lengths is right
            filled = Mask.from_coco(segmentation, size=size)
        elif not _are_polygons(segmentation):
            checked_polygons(segmentation)
            raise GeometryError(f"polygons: expected lists of numbers, got {shown(segmentation)}")
        size.check_area()
        for name, value in (("_coded", segmentation), ("_filled", filled), ("_size", size)):
            object.__setattr__(self, name, value)

    @property
    def array(self) -> Bool[np.ndarray, "height width"]:
        """The pixels, filled on first use."""
        if self._filled is None:
            object.__setattr__(self, "_filled", Mask.from_annotation(self._coded, self._size))
        return cast("Mask", self._filled).array

    @property
    def size(self) -> ImageSize:
        """Size of the image of the mask."""
        return self._size

    def to_annotation(self) -> dict[str, object]:
        """Return ``{"size", "polygons"}`` or ``{"size", "counts"}``, ready for JSON."""
        if isinstance(self._coded, Mapping):
            return {"size": list(self._size), "counts": self._coded["counts"]}
        return {"size": list(self._size), "polygons": self._coded}

    def __reduce__(self) -> tuple[type["CodedMask"], tuple[object, ImageSize]]:
        return CodedMask, (self._coded, self._size)


def _are_polygons(value: object) -> bool:
    """Whether a value is valid polygons; a fast check of the common case."""
    if type(value) is not list or not value:
        return False
    vertices = 0
    for polygon in value:
        if type(polygon) is not list or len(polygon) < 6 or len(polygon) % 2:
            return False
        if not set(map(type, polygon)) <= {int, float}:
            return False
        # a NaN makes the sum NaN, and comparisons with it are false
        if not (min(polygon) >= -COORDINATE_LIMIT and max(polygon) <= COORDINATE_LIMIT):
            return False
        if not math.isfinite(math.fsum(polygon)):
            return False
        vertices += len(polygon) // 2
    return vertices <= VERTEX_LIMIT


def _frozen(array: Bool[np.ndarray, "height width"]) -> Mask:
    # Read-only, so that Mask does not copy it.
    array.flags.writeable = False
    return Mask(array)


def _covered(low: float, high: float) -> tuple[int, int]:
    first, end = int(np.ceil(low - 0.5)), int(np.ceil(high - 0.5))
    if first == end:
        # The middle lies inside the image, so its pixel exists.
        first = int((low + high) / 2)
        end = first + 1
    return first, end


def mask_iou(
    a: Bool[np.ndarray, "n height width"], b: Bool[np.ndarray, "m height width"]
) -> Float[np.ndarray, "n m"]:
    """Return intersection over union (float64) of every pair of masks.

    Counts are exact at any size. Two empty masks have an IoU of 0; no masks give an empty array.
    """
    bits_a, bits_b = _packed(a), _packed(b)
    areas_a, areas_b = _set_bits(bits_a), _set_bits(bits_b)
    ious = np.zeros((len(a), len(b)))
    for index, bits in enumerate(bits_a):
        intersection = _set_bits(bits_b & bits)
        union = areas_a[index] + areas_b - intersection
        np.divide(intersection, union, out=ious[index], where=union > 0)
    return ious


def _packed(masks: Bool[np.ndarray, "n height width"]) -> Shaped[np.ndarray, "n words"]:
    # 64 pixels per word: an eighth of the memory, and words are counted at once.
    packed = np.packbits(masks.reshape(len(masks), masks.shape[1] * masks.shape[2]), axis=1)
    words = np.zeros((len(masks), -(-packed.shape[1] // 8)), np.uint64)
    words.view(np.uint8)[:, : packed.shape[1]] = packed
    return words


def _set_bits(words: Shaped[np.ndarray, "n words"]) -> Int64[np.ndarray, " n"]:
    counts: Int64[np.ndarray, " n"] = np.bitwise_count(words).sum(axis=1, dtype=np.int64)
    return counts

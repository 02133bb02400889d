"""PNG files whose pixel values are segment numbers."""

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer, Shaped, UInt8
from PIL import Image

from deixis.data.sources.base import BadRecord
from deixis.data.sources.reading.fields import image_path
from deixis.data.sources.reading.image_header import MAX_BYTES, MAX_PIXELS, MAX_SIDE
from deixis.geometry import Box, ImageSize, Mask

SEGMENT_LIMIT = 2**16
"""Most segments of one picture."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NUMBERED, _COLOURED = ("1", "L", "P", "I;16"), ("RGB",)
DECODER_ERRORS = (
    *(OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError),
    *(ArithmeticError, RuntimeError, struct.error, zlib.error, Image.DecompressionBombError),
)
"""Errors that Pillow raises for damaged or hostile files."""


def read_numbers(folder: Path, name: object) -> Integer[np.ndarray, "height width"]:
    """Return the pixel values of a grey picture, or the palette indices of one with a palette.

    Raises:
        BadRecord: The name leads out of the folder, or the file is missing, damaged, too large, or
            not a PNG of this kind.
    """
    return np.asarray(_open_png(folder, name, _NUMBERED)).astype(np.uint16)


def read_colours(folder: Path, name: object) -> UInt8[np.ndarray, "height width 3"]:
    """Return the colours of an RGB picture.

    Raises:
        BadRecord: As `read_numbers`.
    """
    return np.asarray(_open_png(folder, name, _COLOURED))


def read_grey(folder: Path, name: object) -> UInt8[np.ndarray, "height width"]:
    """Return the brightness, 0 to 255, of a black-and-white or grey picture in any PNG mode.

    Raises:
        BadRecord: As `read_numbers`, or the picture has colours or transparency.
    """
    image = _open_png(folder, name, ("1", "L", "P", "LA", "RGB", "RGBA"))
    colours = np.asarray(image.convert("RGBA"))
    if np.any(colours[:, :, 3] != 255):
        raise BadRecord("mask_damaged", f"{image.info['name']}: is transparent")
    grey: UInt8[np.ndarray, "height width"] = np.ascontiguousarray(colours[:, :, 0])
    if np.any(colours[:, :, 1] != grey) or np.any(colours[:, :, 2] != grey):
        raise BadRecord("mask_damaged", f"{image.info['name']}: has colours, expected grey")
    return grey


def png_pixels(data: bytes, name: str) -> Integer[np.ndarray, "height width"]:
    """Return the pixel values or palette indices of a PNG from its bytes.

    Raises:
        BadRecord: The bytes are not a PNG of this kind, or are damaged or too large.
    """
    _check_png(data, name)
    return np.asarray(_decoded(data, name, _NUMBERED)).astype(np.uint16)


def _open_png(folder: Path, name: object, modes: tuple[str, ...]) -> Image.Image:
    path = image_path(folder, name)
    return _decoded(_read_png(path), path.name, modes)


def _decoded(data: bytes, name: str, modes: tuple[str, ...]) -> Image.Image:
    try:
        # Pillow's warnings are covered by the checks of size and mode
        with warnings.catch_warnings(action="ignore", category=Warning):
            image = Image.open(io.BytesIO(data), formats=("PNG",))
            _check_kind(image, name, modes)
            image.load()
    except DECODER_ERRORS as error:
        raise BadRecord("mask_damaged", f"{name}: damaged: {error}") from None
    image.info["name"] = name
    return image


def _check_kind(image: Image.Image, name: str, modes: tuple[str, ...]) -> None:
    width, height = image.size
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise BadRecord("mask_damaged", f"{name}: {width}x{height} pixels is too large")
    if getattr(image, "n_frames", 1) > 1 or image.mode not in modes:
        raise BadRecord("mask_damaged", f"{name}: is {image.mode}, expected one of {modes}")


def _read_png(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise BadRecord("mask_damaged", f"{path.name}: no such file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError, RuntimeError) as error:
        raise BadRecord("mask_damaged", f"{path.name}: cannot read: {error}") from None
    if len(data) > MAX_BYTES:
        raise BadRecord("mask_damaged", f"{path.name}: over {MAX_BYTES} bytes")
    _check_png(data, path.name)
    return data


def _check_png(data: bytes, name: str) -> None:
    if not data.startswith(_SIGNATURE):
        raise BadRecord("mask_damaged", f"{name}: expected a PNG file")
    _check_chunks(data, name)


def _check_chunks(data: bytes, name: str) -> None:
    # Pillow ignores wrong checksums and a missing end, which would change numbers silently
    at = len(_SIGNATURE)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 12 + length
        if end > len(data):
            break
        kind = data[at + 4 : at + 8]
        if zlib.crc32(data[at + 4 : end - 4]).to_bytes(4, "big") != data[end - 4 : end]:
            raise BadRecord("mask_damaged", f"{name}: damaged: wrong checksum")
        if kind == b"IEND":
            return
        at = end
    raise BadRecord("mask_damaged", f"{name}: cut off")


class SegmentMask(Mask):
    """The mask of one segment, computed on access from the picture of all segments.

    The picture is shared, so a hundred segments need no hundred masks in memory.
    """

    __slots__ = ("_label", "_labels")
    _label: int
    _labels: Integer[np.ndarray, "height width"]

    def __init__(self, labels: Integer[np.ndarray, "height width"], label: int) -> None:
        object.__setattr__(self, "_labels", labels)
        object.__setattr__(self, "_label", label)

    @property
    def array(self) -> Bool[np.ndarray, "height width"]:
        """The pixels."""
        found: Bool[np.ndarray, "height width"] = self._labels == self._label
        found.flags.writeable = False
        return found

    @property
    def size(self) -> ImageSize:
        """Size of the image."""
        return ImageSize(*self._labels.shape)

    def __reduce__(self) -> tuple[type[Mask], tuple[Bool[np.ndarray, "height width"]]]:
        return Mask, (self.array,)


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """A picture of numbered segments; a pixel's label is the index of its number in ``numbers``."""

    labels: Integer[np.ndarray, "height width"]
    numbers: tuple[int, ...]

    @classmethod
    def from_numbers(cls, numbers: Shaped[np.ndarray, "height width"]) -> "Segments":
        """Return the segments of a picture from its pixel values.

        Raises:
            BadRecord: The picture has more than 65,536 segments.
        """
        if numbers.dtype.itemsize <= 2:
            # counting is several times as fast as sorting
            found = np.flatnonzero(np.bincount(numbers.ravel()))
            places = np.zeros(int(found[-1]) + 1, np.int32)
            places[found] = np.arange(len(found))
            labels = places[numbers]
        else:
            found, inverse = np.unique(numbers, return_inverse=True)
            labels = inverse.reshape(numbers.shape).astype(np.int32)
        if len(found) > SEGMENT_LIMIT:
            raise BadRecord("mask_damaged", f"{len(found)} segments in one picture")
        labels.flags.writeable = False
        return cls(labels, tuple(found.tolist()))

    @property
    def size(self) -> ImageSize:
        """Size of the picture."""
        return ImageSize(*self.labels.shape)

    def masks(self) -> dict[int, tuple[Mask, Box]]:
        """Return the mask of each number and its bounding box."""
        from scipy import ndimage  # noqa: PLC0415  # takes half a second

        made: dict[int, tuple[Mask, Box]] = {}
        places = ndimage.find_objects(self.labels + 1, max_label=len(self.numbers))
        for label, (number, (rows, columns)) in enumerate(zip(self.numbers, places, strict=True)):
            box = Box(columns.start, rows.start, columns.stop, rows.stop)
            made[number] = (SegmentMask(self.labels, label), box)
        return made

"""Read images as upright RGB pixels, and scale pixels exactly as geometry scales boxes.

All coordinates in deixis are pixels of the **upright** image, after its EXIF orientation is applied.
Column ``c`` and row ``r`` cover ``[c, c + 1) x [r, r + 1)``. The stored frame is used in this file
only.
"""

import io
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Float32, Shaped, UInt8
from PIL import Image, UnidentifiedImageError

from deixis.errors import ImageError
from deixis.geometry import ImageSize, Letterbox
from deixis.media.picture_files import (
    EXPECTED,
    HEAD,
    is_turned_by_reader,
    num_pictures,
    picture_kind,
)

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 40_000_000
MAX_SIDE = 16_384
MAX_ASPECT = 100

# Padding below this share of a canvas pixel is a rounding error and adds no column of fill.
_DUST = 1e-9

_ORIENTATION_TAG = 0x0112
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Exceptions that Pillow's parsers raise on hostile bytes, in addition to OSError.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    EOFError,
    ArithmeticError,
    # from AVIF's decoder; NotImplementedError is a subclass
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

_UPRIGHT: Mapping[int, Image.Transpose] = MappingProxyType(
    {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
)


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """Upright RGB pixels of an image, with the changes that were applied.

    ``orientation`` is the EXIF value that was undone (1 for upright files). ``stored_size`` is the
    size in the file, before that. ``changes`` lists every normalisation, in order, for reports.
    """

    array: UInt8[np.ndarray, "height width 3"]
    name: str
    format: str
    orientation: int = 1
    changes: tuple[str, ...] = ()

    @property
    def size(self) -> ImageSize:
        """Size of the upright image, in whose frame all coordinates are."""
        return ImageSize(self.array.shape[0], self.array.shape[1])

    @property
    def stored_size(self) -> ImageSize:
        """Size of the image in the file."""
        size = self.size
        return ImageSize(size.width, size.height) if self.orientation >= 5 else size


def read_image(
    source: Path | str | bytes | Image.Image | Shaped[np.ndarray, "..."],
) -> LoadedImage:
    """Read an image from a file, its bytes, a Pillow image or an array.

    Files and bytes are JPEG, PNG, WebP, BMP, TIFF or AVIF with one frame, detected by content and
    not by name; HEIC too if the package ``pillow-heif`` is installed. The EXIF orientation is
    applied, also for Pillow images. Transparent pixels are blended with white, 16-bit grey is
    divided by 257, palettes, grey and CMYK are converted to RGB. Of several pictures in a JPEG (a
    phone's gain map) the first is read, in HEIC the primary one, in TIFF the only page that is not a
    smaller copy of another.

    An array is grey ``[h w]`` or ``[h w 1]``, RGB ``[h w 3]`` or RGBA ``[h w 4]`` of uint8, or
    uint16 grey. It has to be upright; an RGB array is not copied.

    Raises:
        ImageError: The image is missing, not a regular file, empty, of another format,
            animated, damaged, or larger than 64 MiB, 40 million pixels, 16,384 pixels a side or
            an aspect of 100 to 1.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        name = _printable(str(getattr(source, "filename", "") or "")) or "<Pillow image>"
        return _from_pillow(source, name)
    if isinstance(source, bytes):
        return _from_bytes(source, f"<{len(source)} bytes>")
    if not isinstance(source, str | Path):
        raise ImageError(
            f"image of type {type(source).__name__}: cannot be read, "
            "expected a path, bytes, a Pillow image or an array"
        )
    name = _printable(str(source))
    return _from_bytes(_read_file(source, name), name)


def resize_array(
    array: UInt8[np.ndarray, "height width 3"], size: ImageSize
) -> UInt8[np.ndarray, "new_height new_width 3"]:
    """Scale pixels so that coordinates change as with ``geometry.Resize``.

    Edges map to edges: ``x`` becomes ``x * new_width / width``. Shrinking averages with a triangle
    filter over all source pixels of a target pixel; enlarging is bilinear.
    """
    if size == ImageSize(array.shape[0], array.shape[1]):
        return array.copy()
    image = Image.fromarray(array)
    scaled = image.resize((size.width, size.height), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.array(scaled)


def letterbox_array(
    array: UInt8[np.ndarray, "height width 3"],
    letterbox: Letterbox,
    *,
    fill: tuple[int, int, int] = (127, 127, 127),
) -> UInt8[np.ndarray, "canvas canvas 3"]:
    """Scale pixels into the middle of a square, exactly as ``letterbox`` transforms boxes.

    Padding may end inside a canvas pixel; that pixel mixes image and ``fill`` by covered area, so
    that nothing is rounded and boxes need no correction.

    Raises:
        ImageError: ``letterbox`` was made for an image of another size.
    """
    height, width = array.shape[:2]
    if letterbox.source != ImageSize(height, width):
        raise ImageError(
            f"image of {width}x{height} pixels: does not fit the letterbox, "
            f"expected {letterbox.source.width}x{letterbox.source.height}"
        )
    canvas, scale = letterbox.canvas, letterbox.scale
    left, top = letterbox.offset
    columns = _covered(left, width * scale, canvas)
    rows = _covered(top, height * scale, canvas)

    # Canvas pixels may extend a little beyond the image: its edge is repeated there, so that their
    # source is one fractional rectangle.
    rim = ceil(1 / scale) + 1
    pad_x, pad_y = (0 if left < _DUST else rim), (0 if top < _DUST else rim)
    if pad_x or pad_y:
        array = np.pad(array, ((pad_y, pad_y), (pad_x, pad_x), (0, 0)), mode="edge")
    seen = (
        max(0.0, (columns[0] - left) / scale + pad_x),
        max(0.0, (rows[0] - top) / scale + pad_y),
        min(float(array.shape[1]), (columns[1] - left) / scale + pad_x),
        min(float(array.shape[0]), (rows[1] - top) / scale + pad_y),
    )
    extent = (columns[1] - columns[0], rows[1] - rows[0])
    part = Image.fromarray(array).resize(
        extent, Image.Resampling.BILINEAR, box=seen, reducing_gap=3.0
    )
    if not (pad_x or pad_y):
        return np.array(part)
    share_x = _share(columns, left, width * scale)
    share_y = _share(rows, top, height * scale)
    share = (share_y[:, None] * share_x[None, :])[:, :, None]
    ground = np.array(fill, np.float32)
    mixed = ground + (np.asarray(part, np.float32) - ground) * share
    result = np.empty((canvas, canvas, 3), np.uint8)
    result[:] = fill
    result[rows[0] : rows[1], columns[0] : columns[1]] = (mixed + 0.5).astype(np.uint8)
    return result


def _covered(offset: float, length: float, canvas: int) -> tuple[int, int]:
    start, end = floor(offset + _DUST), ceil(offset + length - _DUST)
    return max(start, 0), min(max(end, start + 1), canvas)


def _share(span: tuple[int, int], offset: float, length: float) -> Float32[np.ndarray, " pixels"]:
    """Return how much of each canvas pixel of ``span`` the image covers along one axis."""
    edges = np.arange(span[0], span[1] + 1)
    covered = np.minimum(edges[1:], offset + length) - np.maximum(edges[:-1], offset)
    share: Float32[np.ndarray, " pixels"] = np.clip(covered, 0, 1).astype(np.float32)
    return share


def _printable(text: str) -> str:
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown if len(shown) <= 160 else f"{shown[:60]}...{shown[-60:]}"


def _read_file(path: Path | str, name: str) -> bytes:
    if not str(path):
        raise ImageError("image '': empty name, expected the path of an image file")
    # O_NONBLOCK: opening a FIFO without a writer would otherwise wait forever.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError as error:
        what = "is an address" if "://" in str(path) else "no such file"
        raise ImageError(f"image {name}: {what}, expected a local image file") from error
    except PermissionError as error:
        raise ImageError(f"image {name}: permission denied, expected a readable file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"image {name}: {reason.lower()}, expected a readable file") from error
    status = os.fstat(descriptor)
    # A folder cannot be opened as a file object, so it is detected first.
    if stat.S_ISDIR(status.st_mode):
        os.close(descriptor)
        raise ImageError(f"image {name}: is a directory, expected an image file")
    with open(descriptor, "rb") as file:  # noqa: PTH123 (a descriptor, not a path)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"image {name}: is not a regular file, expected an image file")
        if status.st_size > MAX_BYTES:
            raise ImageError(_too_many_bytes(name, status.st_size))
        try:
            return file.read(MAX_BYTES + 1)
        except OSError as error:
            raise ImageError(f"image {name}: {error}, expected a readable file") from error


def _too_many_bytes(name: str, count: int) -> str:
    return f"image {name}: {count} bytes, expected at most {MAX_BYTES} (64 MiB)"


def _from_bytes(data: bytes, name: str) -> LoadedImage:
    if not data:
        raise ImageError(f"image {name}: empty, expected a {EXPECTED} image")
    if len(data) > MAX_BYTES:
        raise ImageError(_too_many_bytes(name, len(data)))
    kind = picture_kind(data[:HEAD])
    if kind.refused:
        raise ImageError(f"image {name}: {kind.refused}, expected {EXPECTED}")
    if data.startswith(_PNG_SIGNATURE):
        _check_png(data, name)
    try:
        with _quiet():
            image = Image.open(io.BytesIO(data), formats=kind.formats)
    except UnidentifiedImageError as error:
        raise ImageError(f"image {name}: not an image, expected {EXPECTED}") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"image {name}: too many pixels, expected at most {MAX_PIXELS}") from error
    except _DECODER_ERRORS as error:
        raise ImageError(_damaged(name, error)) from error
    with image:
        return _from_pillow(image, name)


def _check_png(data: bytes, name: str) -> None:
    # Pillow ignores the checksum of pixel data and a missing end; a damaged file would silently
    # become a damaged image.
    position = len(_PNG_SIGNATURE)
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        end = position + 12 + length
        if end > len(data):
            break
        (checksum,) = struct.unpack_from(">I", data, end - 4)
        critical = not kind[0] & 0x20
        if critical and zlib.crc32(data[position + 4 : end - 4]) != checksum:
            shown = _printable(kind.decode("ascii", errors="replace"))
            raise ImageError(_damaged(name, f"wrong checksum of {shown}"))
        if kind == b"IEND":
            return
        position = end
    raise ImageError(_damaged(name, "cut short"))


def _damaged(name: str, reason: object) -> str:
    text = _printable(" ".join(str(reason).split())) or type(reason).__name__
    return f"image {name}: damaged ({text}), expected a complete {EXPECTED} image"


def _unknown_pixels(name: str, mode: str) -> str:
    return f"image {name}: pixels of mode {mode}, expected grey, RGB, CMYK or a palette"


def _quiet() -> AbstractContextManager[object]:
    # Pillow warns of decompression bombs and invalid EXIF data, which are checked here.
    return warnings.catch_warnings(action="ignore", category=Warning)


def _check_extent(width: int, height: int, name: str) -> None:
    extent = f"image {name}: {width}x{height} pixels"
    if width < 1 or height < 1:
        raise ImageError(f"{extent}, expected at least 1x1")
    if max(width, height) > MAX_SIDE:
        raise ImageError(f"{extent}, expected at most {MAX_SIDE} a side")
    if width * height > MAX_PIXELS:
        raise ImageError(f"{extent}, expected at most {MAX_PIXELS} in all")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(f"{extent}, expected an aspect of at most {MAX_ASPECT} to 1")


def _from_pillow(image: Image.Image, name: str) -> LoadedImage:
    _check_extent(image.width, image.height, name)
    format_name = image.format or "memory"
    changes: list[str] = []
    try:
        with _quiet():
            orientation = _orientation(image)
            frames = num_pictures(image)
            if frames == 1:
                image.load()
    except _DECODER_ERRORS as error:
        raise ImageError(_damaged(name, error)) from error
    if frames > 1:
        raise ImageError(f"image {name}: {frames} frames, expected a still image")
    try:
        rgb = _to_rgb(image, name, changes)
    except _DECODER_ERRORS as error:
        raise ImageError(_unknown_pixels(name, image.mode)) from error
    if orientation in _UPRIGHT:
        if not is_turned_by_reader(image):
            rgb = rgb.transpose(_UPRIGHT[orientation])
        changes.append(f"turned upright from EXIF orientation {orientation}")
    return LoadedImage(np.array(rgb), name, format_name, orientation, tuple(changes))


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except _DECODER_ERRORS:
        # Viewers show a file with invalid metadata as it is stored.
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _to_rgb(image: Image.Image, name: str, changes: list[str]) -> Image.Image:
    mode = image.mode
    if mode in {"I", "F"} or mode.startswith("I;16"):
        return _deep_grey_to_rgb(np.asarray(image), name, changes)
    if image.has_transparency_data:
        premultiplied = {"RGBa": "RGBA", "La": "LA"}
        if mode in premultiplied:
            image = image.convert(premultiplied[mode])
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] != 255:
            changes.append("transparency laid on white")
            ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
            ground.alpha_composite(image)
            image = ground
    if mode != "RGB":
        changes.append(f"{mode} turned to RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _deep_grey_to_rgb(
    values: Shaped[np.ndarray, "height width"], name: str, changes: list[str]
) -> Image.Image:
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65_535:
        raise ImageError(f"image {name}: more than 16 bits of grey, expected 8 or 16")
    changes.append("16-bit grey divided by 257")
    return Image.fromarray(_to_eight_bits(values)).convert("RGB")


def _to_eight_bits(values: Shaped[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width"]:
    # 65535 = 255 * 257, so white and black are exact; adding 128 rounds to nearest.
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _from_array(array: np.ndarray) -> LoadedImage:
    name = f"<{array.dtype} array {list(array.shape)}>"
    channels = array.shape[2] if array.ndim == 3 else 1
    deep = array.dtype == np.uint16 and channels == 1
    if (
        array.ndim not in {2, 3}
        or channels not in {1, 3, 4}
        or not (array.dtype == np.uint8 or deep)
    ):
        raise ImageError(
            f"image {name}: cannot be read, expected uint8 [h w], [h w 3] or [h w 4], or uint16 [h w]"
        )
    _check_extent(array.shape[1], array.shape[0], name)
    if channels == 3:
        return LoadedImage(np.ascontiguousarray(array), name, "array")
    if channels == 4:
        return _from_pillow(Image.fromarray(np.ascontiguousarray(array)), name)
    changes: list[str] = []
    grey = array.reshape(array.shape[:2])
    if deep:
        changes.append("16-bit grey divided by 257")
        grey = _to_eight_bits(grey)
    changes.append("L turned to RGB")
    stacked = np.repeat(grey[:, :, None], 3, axis=2)
    return LoadedImage(stacked, name, "array", 1, tuple(changes))

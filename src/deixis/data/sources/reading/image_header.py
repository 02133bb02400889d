"""Size and orientation of a picture from its file header; no pixel is decoded."""

import stat
import struct
import warnings
import zlib
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from deixis.data.sources.base import BadRecord
from deixis.data.sources.reading.frames import current_frame
from deixis.geometry import ImageSize, Orient
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

_ORIENTATION_TAG = 0x0112
_PARSER_ERRORS = (
    *(SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError),
    # AVIF's decoder raises RuntimeError
    *(ArithmeticError, RuntimeError, struct.error, zlib.error),
)


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Size of the picture as stored, and its EXIF orientation (1 if missing)."""

    stored: ImageSize
    orientation: int

    @property
    def upright(self) -> ImageSize:
        """Size of the upright picture."""
        return Orient(self.stored, self.orientation).target


def read_header(path: Path) -> ImageHeader:
    """Read and check the header of an image file.

    Raises:
        BadRecord: The file is missing, not a regular file, empty, too large, of several pages, or of
            an unsupported format (`deixis.media.picture_files`).
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise BadRecord("image_missing", f"{path.name}: no such file") from None
    except (OSError, ValueError) as error:
        raise BadRecord("image_unreadable", f"{path.name}: {error}") from None
    if not stat.S_ISREG(status.st_mode):
        raise BadRecord("not_regular_file", f"{path.name}: expected a regular file")
    if status.st_size == 0:
        raise BadRecord("image_empty", f"{path.name}: no bytes")
    if status.st_size > MAX_BYTES:
        raise BadRecord("image_too_large", f"{path.name}: {status.st_size} bytes")
    try:
        with path.open("rb") as file:
            return read_header_of(file, path.name)
    except OSError as error:
        raise BadRecord("image_unreadable", f"{path.name}: {error}") from None


def read_header_of(file: BufferedReader | BytesIO, name: str) -> ImageHeader:
    """Read the header of a picture in an open file.

    Raises:
        BadRecord: The picture is too large, of several pages, or of an unsupported format.
    """
    kind = picture_kind(file.read(HEAD))
    if kind.refused:
        raise BadRecord("image_unreadable", f"{name}: {kind.refused}, expected {EXPECTED}")
    file.seek(0)
    try:
        with (
            # the size check below finds bombs; invalid EXIF shows in its value
            warnings.catch_warnings(action="ignore", category=Warning),
            Image.open(file, formats=kind.formats) as image,
        ):
            width, height = image.size
            orientation = _orientation(image)
            if is_turned_by_reader(image):
                pages = num_pictures(image)
                # image.size is already that of the upright picture
                if orientation >= 5:
                    width, height = height, width
            else:
                pages = 1
    except Image.DecompressionBombError as error:
        raise BadRecord("image_too_large", f"{name}: {error}") from None
    except (UnidentifiedImageError, OSError, *_PARSER_ERRORS) as error:
        raise BadRecord("image_unreadable", f"{name}: {error}") from None
    if pages > 1:
        raise BadRecord("image_unreadable", f"{name}: {pages} pages or more, expected one")
    if width < 1 or height < 1:
        raise BadRecord("image_unreadable", f"{name}: {width}x{height} pixels")
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise BadRecord("image_too_large", f"{name}: {width}x{height} pixels")
    return ImageHeader(ImageSize(height, width), orientation)


def header_size(path: Path) -> ImageSize:
    """Return the size of the upright image, for annotations without a size.

    If the source declares the frame of its annotations, or they are read in another frame, the size
    is that of the frame.

    Raises:
        BadRecord: As `read_header`.
    """
    header, frame = read_header(path), current_frame()
    if frame.size is not None:
        return frame.size
    return header.stored if frame.orientation == "raw" else header.upright


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except (OSError, *_PARSER_ERRORS):
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1

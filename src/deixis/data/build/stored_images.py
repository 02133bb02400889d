"""Stores the images of a shard by name or as bytes, and reads them back."""

import io
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from deixis.data.sources.base import BadRecord
from deixis.data.sources.reading.image_header import MAX_BYTES, MAX_PIXELS, MAX_SIDE
from deixis.data.sources.reading.inside import stored_path
from deixis.data.sources.reading.segment_pictures import DECODER_ERRORS
from deixis.data.sources.scenes import DrawnImage
from deixis.errors import AnnotationError, ImageError
from deixis.media.picture_files import HEAD, picture_kind
from deixis.structures import ImageArray, ImageSource

_DRAWN = re.compile(r"scenes://([a-z]+)/([A-Za-z]+)/(\d{1,19})/(\d{1,19})")


def image_name(image: ImageSource, root: Path) -> str:
    """Return the name of an image in a shard: a path under ``root``, or the id of a drawn image.

    Raises:
        BadRecord: The image has neither a file nor an id and can only be embedded.
    """
    if isinstance(image, Path):
        return file_name(image, root)
    if isinstance(image, DrawnImage):
        return str(image)
    raise BadRecord("bad_record", "an image without a file has to be embedded: build with --embed")


def file_name(path: Path, root: Path) -> str:
    """Return the POSIX path of a file relative to ``root``.

    Raises:
        BadRecord: The file is not in the folder.
    """
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        raise BadRecord("path_escape", f"{path.name} is not in the image folder") from None


def image_bytes(image: ImageSource) -> bytes:
    """Return the bytes of an image's file, or a PNG of an image without a file.

    Raises:
        BadRecord: The file cannot be read, or is too large.
    """
    if isinstance(image, Path):
        try:
            with image.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise BadRecord("image_unreadable", f"{image.name}: {error.strerror}") from None
        if len(data) > MAX_BYTES:
            raise BadRecord("image_too_large", f"{image.name}: over {MAX_BYTES} bytes")
        return data
    pixels = image if isinstance(image, np.ndarray) else image()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def stored_image(stored: Mapping[str, Any], *, root: Path | None) -> ImageSource:
    """Return the image of a shard's row: a path, a drawn image, or bytes that are decoded on call.

    Raises:
        AnnotationError: The row has neither bytes nor a name, ``root`` is missing, or the name
            leads out of ``root``.
    """
    data, name = stored["bytes"], stored["path"]
    if data is not None:
        return _Embedded(data, name or "embedded")
    if not name:
        raise AnnotationError("a row has neither an image nor the name of one")
    drawn = _DRAWN.fullmatch(name)
    if drawn:
        return DrawnImage(int(drawn[3]), int(drawn[4]), drawn[1], drawn[2])
    if root is None:
        raise AnnotationError(f"image {name}: say in which folder the images are")
    return stored_path(name, root)


class _Embedded:
    """Encoded bytes that are decoded on call."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.name = name

    def __call__(self) -> ImageArray:
        formats = picture_kind(self.data[:HEAD]).formats
        try:
            # the size check below finds bombs; warnings about bad EXIF do not matter
            with (
                warnings.catch_warnings(action="ignore", category=Warning),
                Image.open(io.BytesIO(self.data), formats=formats) as image,
            ):
                width, height = image.size
                if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
                    raise ImageError(f"image {self.name}: {width}x{height} pixels is too large")
                return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        except DECODER_ERRORS as error:
            raise ImageError(f"image {self.name}: {error}") from error

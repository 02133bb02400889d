"""Pictures inside annotation files, in base64."""

import base64
import binascii
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from deixis.data.sources.base import BadRecord
from deixis.data.sources.reading.image_header import MAX_BYTES, read_header_of
from deixis.data.sources.reading.segment_pictures import DECODER_ERRORS
from deixis.errors import ImageError
from deixis.geometry import ImageSize
from deixis.geometry.checks import shown
from deixis.media.picture_files import HEAD, picture_kind
from deixis.structures import ImageArray


@dataclass(frozen=True, slots=True)
class EmbeddedImage:
    """The bytes of a picture, decoded on call; ``size`` is the size of the upright picture."""

    data: bytes
    name: str
    size: ImageSize

    def __call__(self) -> ImageArray:
        """Return the upright picture in RGB.

        Raises:
            ImageError: The picture is damaged.
        """
        try:
            formats = picture_kind(self.data[:HEAD]).formats
            with Image.open(io.BytesIO(self.data), formats=formats) as image:
                return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        except DECODER_ERRORS as error:
            raise ImageError(f"image {self.name}: {error}") from error


def embedded_image(value: object, name: str) -> EmbeddedImage:
    """Decode a picture from base64 and read its header.

    Raises:
        BadRecord: The value is not base64, is empty or too large, or its picture format is unknown.
    """
    data = decoded(value, name, "image_unreadable")
    if not data:
        raise BadRecord("image_empty", f"{name}: no bytes")
    if len(data) > MAX_BYTES:
        raise BadRecord("image_too_large", f"{name}: {len(data)} bytes")
    return EmbeddedImage(data, name, read_header_of(io.BytesIO(data), name).upright)


def decoded(value: object, name: str, code: str) -> bytes:
    """Return the bytes of a base64 text.

    Raises:
        BadRecord: The value is not base64; the error has the given ``code``.
    """
    if not isinstance(value, str):
        raise BadRecord(code, f"{name}: expected base64, got {shown(value)}")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRecord(code, f"{name}: not base64: {error}") from None

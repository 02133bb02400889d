"""Kinds of image files, by their first bytes, and the Pillow reader for each kind.

Pillow may only use the reader that fits the bytes, so no content reaches another reader. Readers of
annotations and readers of pixels share these rules.
"""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

from PIL import Image, TiffImagePlugin, features

HEAD = 64
"""Number of bytes that `picture_kind` uses."""
EXPECTED = "JPEG, PNG, WebP, BMP, TIFF or AVIF"
SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"),
)
"""Endings of image files, in lower case."""

PAGE_LIMIT = 16
"""Maximum number of TIFF pages to inspect: a full-size one and smaller copies of it."""
_SMALLER, _MASK = 1, 4
_SUBFILE_TYPE = 254
_PLAIN = ("JPEG", "PNG", "WEBP", "BMP")
_HEIF = "HEIF"

# Common formats that are refused by name: offset, bytes, name.
_OTHERS = (
    (0, b"GIF8", "GIF"),
    (0, b"%PDF", "PDF"),
    (0, b"8BPS", "Photoshop"),
    (4, b"ftypmp4", "MP4"),
    (4, b"ftypisom", "MP4"),
    (0, b"\0\0\0\x0cjP", "JPEG 2000"),
)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {
    *(b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"),
}


class PictureKind(NamedTuple):
    """The kind of a file: Pillow's readers for it, or the reason why it cannot be read."""

    formats: tuple[str, ...]
    refused: str = ""


def picture_kind(head: bytes) -> PictureKind:
    """The kind of a file with these first bytes; unknown bytes may be any plain format."""
    for offset, magic, name in _OTHERS:
        if head.startswith(magic, offset):
            return PictureKind((), f"is {name}")
    if head.startswith(_TIFF):
        return PictureKind(("TIFF",))
    brands = _brands(head)
    if brands & _AVIF_BRANDS:
        if features.check("avif"):
            return PictureKind(("AVIF",))
        return PictureKind((), "is AVIF, which this Pillow was built without")
    if brands & _HEIC_BRANDS:
        if heif_is_there():
            return PictureKind((_HEIF,))
        return PictureKind((), "is HEIC, which needs the package pillow-heif")
    return PictureKind(_PLAIN)


def _brands(head: bytes) -> set[bytes]:
    """The brands of a file in the ISO base media format; empty for other formats."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4]), len(head))
    return {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}


@cache
def heif_is_there() -> bool:
    """Whether the plug-in for HEIC is installed; if so, it is registered with Pillow."""
    if find_spec("pillow_heif") is None:
        return False
    import_module("pillow_heif").register_heif_opener()
    return True


def num_pictures(image: Image.Image) -> int:
    """The number of images in an open file, without decoding pixels.

    A JPEG with several images (depth, a gain map) and a HEIC count as one, the first or primary image.
    Smaller copies and masks of a TIFF page are not counted, and at most `PAGE_LIMIT` pages are inspected.
    """
    if image.format in {"MPO", _HEIF}:
        return 1
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(getattr(image, "n_frames", 1))
    found = 1
    for page in range(1, PAGE_LIMIT + 1):
        try:
            image.seek(page)
        except EOFError:
            break
        kind = image.tag_v2.get(_SUBFILE_TYPE, 0)
        found += not (isinstance(kind, int) and kind & (_SMALLER | _MASK))
    else:
        found = max(found, 2)
    image.seek(0)
    return found


def is_turned_by_reader(image: Image.Image) -> bool:
    """Whether Pillow itself turns the image upright when it decodes it, as for TIFF."""
    return isinstance(image, TiffImagePlugin.TiffImageFile)

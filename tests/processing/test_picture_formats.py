"""TIFF, AVIF and HEIC: pixels, orientation and refused files."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from deixis.data.build.stored_images import stored_image
from deixis.data.sources.base import BadRecord
from deixis.data.sources.reading.image_header import read_header, read_header_of
from deixis.errors import ImageError
from deixis.geometry import ImageSize
from deixis.media.picture_files import PAGE_LIMIT, picture_kind
from deixis.processing.images import read_image

SIZE = ImageSize(20, 30)


def _pixels() -> np.ndarray:
    rows, columns = np.mgrid[:20, :30]
    return np.stack((rows * 12, columns * 8, (rows + columns) % 200), -1).astype(np.uint8)


def _bytes(form: str, pixels: np.ndarray | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(_pixels() if pixels is None else pixels)
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _turned(form: str, orientation: int, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return _bytes(form, exif=exif, **options)


def _refusal(data: bytes) -> str:
    """Return why the bytes are refused; empty if they are read."""
    try:
        read_image(data)
    except ImageError as error:
        return str(error)
    return ""


def _code(data: bytes) -> str:
    """Return why the header is refused; empty if it is accepted."""
    try:
        read_header_of(io.BytesIO(data), "x")
    except BadRecord as error:
        return error.code
    return ""


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_a_tiff_is_read_to_the_pixel_whatever_its_name(
    tmp_path: Path, compression: str | None
) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(_bytes("TIFF", compression=compression))
    loaded = read_image(path)
    assert (loaded.format, loaded.orientation, loaded.changes) == ("TIFF", 1, ())
    assert np.array_equal(loaded.array, _pixels())
    assert read_header(path).stored == SIZE


def test_an_avif_is_read(tmp_path: Path) -> None:
    path = tmp_path / "picture.avif"
    path.write_bytes(_bytes("AVIF", quality=100, subsampling="4:4:4"))
    loaded = read_image(path)
    assert (loaded.format, loaded.size) == ("AVIF", SIZE)
    assert np.abs(loaded.array.astype(int) - _pixels()).max() <= 4
    assert read_header(path).upright == SIZE


@pytest.mark.parametrize("form", ["TIFF", "AVIF", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_is_undone_once(form: str, orientation: int) -> None:
    options = {"quality": 100, "subsampling": "4:4:4"} if form == "AVIF" else {}
    data = _turned(form, orientation, **options)
    plain = read_image(_turned("PNG", orientation))
    loaded = read_image(data)
    assert loaded.size == plain.size
    assert np.abs(loaded.array.astype(int) - plain.array).max() <= 4
    assert (loaded.orientation, loaded.stored_size) == (orientation, SIZE)
    header = read_header_of(io.BytesIO(data), "x")
    assert (header.stored, header.orientation, header.upright) == (SIZE, orientation, plain.size)
    embedded = stored_image({"bytes": data, "path": None}, root=None)
    assert callable(embedded)
    assert np.array_equal(embedded(), loaded.array)


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_of_grey_are_divided_by_257(order: str) -> None:
    levels = np.array([[0, 256, 257, 65_535]] * 2, np.uint16)
    if order == "<":
        data = _bytes("TIFF", levels)
    else:
        buffer = io.BytesIO()
        Image.frombytes("I;16B", (4, 2), levels.astype(">u2").tobytes()).save(buffer, "TIFF")
        data = buffer.getvalue()
    loaded = read_image(data)
    assert loaded.array[0, :, 0].tolist() == [0, 1, 1, 255]
    assert loaded.changes == ("16-bit grey divided by 257",)


def test_other_numbers_than_sixteen_bits_are_refused() -> None:
    for levels in (np.zeros((2, 2), np.float32), np.full((2, 2), 70_000, np.int32)):
        with pytest.raises(ImageError, match="more than 16 bits of grey, expected 8 or 16"):
            read_image(_bytes("TIFF", levels))


def test_cmyk_and_transparency_become_rgb() -> None:
    buffer = io.BytesIO()
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(buffer, "TIFF")
    assert read_image(buffer.getvalue()).array[0, 0].tolist() == [255, 0, 0]
    clear = np.zeros((8, 8, 4), np.uint8)
    for form in ("TIFF", "AVIF"):
        assert read_image(_bytes(form, clear)).array[0, 0].tolist() == [255, 255, 255]


def _pages(*kinds: int) -> bytes:
    """Return a TIFF with pages of the given subfile types."""
    buffer = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(buffer, True) as writer:
        for kind in kinds:
            info = TiffImagePlugin.ImageFileDirectory_v2()
            info[254] = kind
            Image.fromarray(_pixels()).save(writer, "TIFF", tiffinfo=info)
            writer.newFrame()
    return buffer.getvalue()


@pytest.mark.parametrize("kinds", [(0,), (0, 1), (0, 1, 1, 5), (0, 4)])
def test_smaller_copies_and_masks_of_a_page_are_no_pages(kinds: tuple[int, ...]) -> None:
    data = _pages(*kinds)
    assert np.array_equal(read_image(data).array, _pixels())
    assert read_header_of(io.BytesIO(data), "x").stored == SIZE


@pytest.mark.parametrize("kinds", [(0, 0), (0, 1, 2), (0, *[1] * (PAGE_LIMIT + 1))])
def test_a_tiff_of_several_pages_is_refused(kinds: tuple[int, ...]) -> None:
    data = _pages(*kinds)
    with pytest.raises(ImageError, match="2 frames, expected a still image"):
        read_image(data)
    with pytest.raises(BadRecord, match="2 pages or more, expected one"):
        read_header_of(io.BytesIO(data), "x")


def _tiff(width: int, height: int, *, next_page: int = 0, strips: int = 8) -> bytes:
    """Return a TIFF with one directory and few pixels."""
    tags = (
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1)),
        *((262, 3, 1, 1), (273, 4, 1, strips), (277, 3, 1, 1), (278, 4, 1, height)),
        (279, 4, 1, max(width * height, 1) % 2**32),
    )
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", next_page)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (_tiff(13_000, 13_000), "13000x13000 pixels, expected at most 40000000 in all"),
        (_tiff(2**31, 2**31), "expected"),
        (_tiff(0, 5), "expected"),
        (_tiff(64, 64), "damaged"),
        (_tiff(64, 64, strips=2**31), "damaged"),
        # a directory whose next directory is itself
        (_tiff(64, 64, next_page=8), "damaged"),
        (_tiff(64, 64, next_page=2**31), "expected"),
        (b"II*\0", "expected"),
        (b"MM\0*" + b"\xff" * 40, "expected"),
        (b"II+\0" + bytes(60), "expected"),
        (struct.pack(">I", 28) + b"ftypavif" + bytes(60), "expected"),
        (_bytes("AVIF")[:-40], "expected"),
        (b"\xff\xff\xff\xffftypavif" + b"avif" * 20, "expected"),
    ],
)
def test_hostile_files_are_refused_in_one_line(data: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        read_image(data)
    assert "\n" not in str(caught.value)
    assert _code(data) in {"", "image_unreadable", "image_too_large"}


@pytest.mark.parametrize("form", ["TIFF", "AVIF"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_flipped_bytes_give_pixels_or_one_error(form: str, data: st.DataObject) -> None:
    options: dict[str, Any] = {"compression": "tiff_lzw"} if form == "TIFF" else {}
    changed = bytearray(_bytes(form, **options))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(changed) - 1))
        changed[place] = data.draw(st.integers(0, 255))
    assert "\n" not in _refusal(bytes(changed))
    assert _code(bytes(changed)) in {"", "image_unreadable", "image_too_large"}


@pytest.mark.parametrize(
    ("head", "refused"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is HEIC, which needs the package pillow-heif"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "is HEIC, which needs the package pillow-heif"),
        (b"\0\0\0\x14ftypisom\0\0\0\0", "is MP4"),
        (b"GIF89a", "is GIF"),
    ],
)
def test_unsupported_formats_are_named(head: bytes, refused: str) -> None:
    assert picture_kind(head).refused == refused
    with pytest.raises(BadRecord, match=f"image_unreadable: x: {refused}, expected JPEG"):
        read_header_of(io.BytesIO(head), "x")


def test_each_format_has_one_reader_and_brands_decide() -> None:
    assert picture_kind(b"II*\0").formats == picture_kind(b"MM\0*").formats == ("TIFF",)
    assert picture_kind(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif").formats == ("AVIF",)
    # a brand outside the box is ignored
    assert picture_kind(b"\0\0\0\x10ftypabcd\0\0\0\0avif").formats == picture_kind(b"").formats
    assert "TIFF" not in picture_kind(b"\x89PNG").formats

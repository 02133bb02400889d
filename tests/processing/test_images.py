"""Images are read as upright RGB, or refused with a one-line error."""

import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jaxtyping import UInt8
from PIL import Image
from skimage import data as photographs

from deixis.errors import ImageError
from deixis.geometry import ImageSize, Letterbox, Orient, Resize
from deixis.processing.images import (
    MAX_BYTES,
    letterbox_array,
    read_image,
    resize_array,
)

Pixels = UInt8[np.ndarray, "height width 3"]


def _picture(height: int = 20, width: int = 30) -> Pixels:
    rows, columns = np.mgrid[:height, :width]
    return np.stack(
        (rows * 255 // height, columns * 255 // width, (rows + columns) % 200), -1
    ).astype(np.uint8)


def _bytes(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _refusal(data: bytes) -> str:
    """Return why the bytes are refused; empty if they are read."""
    try:
        read_image(data)
    except ImageError as error:
        return str(error)
    return ""


def _photo() -> Pixels:
    photo: Pixels = photographs.astronaut()  # type: ignore[no-untyped-call]  # has no types
    return photo


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, *, depth: int = 1, color: int = 0, pixels: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(pixels))
        + _chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("form", ["PNG", "BMP", "WEBP", "JPEG"])
def test_every_allowed_format_is_read_whatever_its_name(tmp_path: Path, form: str) -> None:
    path = tmp_path / "picture.txt"
    options = {"lossless": True} if form == "WEBP" else {}
    path.write_bytes(_bytes(Image.fromarray(_picture()), form, **options))
    loaded = read_image(path)
    assert loaded.format == form
    assert loaded.size == ImageSize(20, 30)
    if form != "JPEG":
        np.testing.assert_array_equal(loaded.array, _picture())


def test_path_text_bytes_pillow_and_array_give_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    data = _bytes(Image.fromarray(_picture()))
    path.write_bytes(data)
    sources: list[Path | str | bytes | Image.Image | Pixels] = [
        path,
        str(path),
        data,
        Image.open(path),
        Image.fromarray(_picture()),
        _picture(),
    ]
    for source in sources:
        np.testing.assert_array_equal(read_image(source).array, _picture())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_obeyed_as_geometry_says(orientation: int, form: str) -> None:
    stored = Image.fromarray(_picture(24, 40))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, object] = {"quality": 100, "subsampling": 0} if form == "JPEG" else {}
    options |= {"lossless": True} if form == "WEBP" else {}
    loaded = read_image(_bytes(stored, form, exif=exif, **options))
    orient = Orient(ImageSize(24, 40), orientation)
    assert loaded.orientation == orientation
    assert loaded.size == orient.target
    assert loaded.stored_size == orient.source
    expected = orient.apply_array(_picture(24, 40)).astype(int)
    assert np.abs(loaded.array.astype(int) - expected).mean() < (3 if form == "JPEG" else 0.01)


@pytest.mark.parametrize("value", [0, 9, 700])
def test_invalid_orientations_are_ignored(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    assert read_image(_bytes(Image.fromarray(_picture()), exif=exif)).size == ImageSize(20, 30)


def test_invalid_exif_is_ignored() -> None:
    junk = b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(range(256))
    data = _bytes(Image.fromarray(_picture()), "JPEG", exif=junk)
    assert read_image(data).orientation == 1


def test_exif_of_a_pillow_image_is_obeyed_too() -> None:
    image = Image.fromarray(_picture())
    image.getexif()[0x0112] = 6
    assert read_image(image).size == ImageSize(30, 20)


def test_grey_becomes_rgb() -> None:
    grey = _picture()[:, :, 0]
    for source in (grey, grey[:, :, None], _bytes(Image.fromarray(grey))):
        loaded = read_image(source)
        np.testing.assert_array_equal(loaded.array, np.repeat(grey[:, :, None], 3, axis=2))
        assert "L turned to RGB" in loaded.changes


def test_deep_grey_is_scaled_not_clipped() -> None:
    deep = np.array([[0, 257, 32_896, 65_535]], np.uint16)
    for source in (deep, _bytes(Image.fromarray(deep)), Image.fromarray(deep)):
        loaded = read_image(source)
        assert loaded.array[0, :, 0].tolist() == [0, 1, 128, 255]
        assert "16-bit grey divided by 257" in loaded.changes


@pytest.mark.parametrize("mode", ["I", "F"])
def test_grey_beyond_sixteen_bits_is_refused(mode: str) -> None:
    image = Image.new(mode, (4, 4), 70_000)
    with pytest.raises(ImageError, match="more than 16 bits of grey, expected 8 or 16"):
        read_image(image)


def test_black_and_white_cmyk_and_ycbcr_become_rgb() -> None:
    assert read_image(_bytes(Image.new("1", (4, 4), 1))).array.min() == 255
    cmyk = _bytes(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG")
    assert np.abs(read_image(cmyk).array[4, 4].astype(int) - (0, 255, 255)).max() < 6
    assert read_image(Image.new("YCbCr", (4, 4), (128, 128, 128))).array[0, 0].tolist() == [128] * 3


def test_hidden_colours_of_transparent_pixels_become_white() -> None:
    image = Image.new("RGBA", (3, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 255))
    image.putpixel((2, 0), (0, 0, 0, 128))
    for source in (image, _bytes(image), np.asarray(image)):
        loaded = read_image(source)
        assert loaded.array[0].tolist()[:2] == [[255, 255, 255], [255, 0, 0]]
        assert loaded.array[0, 2, 0] == pytest.approx(127, abs=1)
        assert "transparency laid on white" in loaded.changes


def test_transparent_palettes_and_grey_are_blended_with_white() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([200, 0, 0, 0, 0, 200] + [0] * 762)
    palette.putpixel((1, 0), 1)
    loaded = read_image(_bytes(palette, transparency=0))
    assert loaded.array[0].tolist() == [[255, 255, 255], [0, 0, 200]]
    grey = Image.new("LA", (1, 1), (10, 0))
    assert read_image(_bytes(grey)).array[0, 0].tolist() == [255, 255, 255]
    key = _bytes(Image.new("RGB", (1, 1), (9, 8, 7)), transparency=(9, 8, 7))
    assert read_image(key).array[0, 0].tolist() == [255, 255, 255]


def test_an_image_of_one_pixel_is_an_image() -> None:
    assert read_image(_bytes(Image.new("RGB", (1, 1)))).size == ImageSize(1, 1)


def test_the_first_of_a_phones_several_pictures_is_read() -> None:
    first, second = Image.fromarray(_picture()), Image.fromarray(_picture(10, 10))
    data = _bytes(first, "MPO", save_all=True, append_images=[second])
    loaded = read_image(data)
    assert loaded.format == "MPO"
    assert loaded.size == ImageSize(20, 30)


def test_bytes_after_the_image_are_ignored() -> None:
    data = _bytes(Image.fromarray(_picture()), "JPEG") + b"PK\x03\x04 an archive"
    assert read_image(data).size == ImageSize(20, 30)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "<0 bytes>: empty, expected a JPEG, PNG, WebP, BMP, TIFF or AVIF image"),
        (
            b"<html><body>not found</body></html>",
            "not an image, expected JPEG, PNG, WebP, BMP, TIFF or AVIF",
        ),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image, expected"),
        (b"GIF89a" + bytes(40), "is GIF, expected JPEG, PNG, WebP, BMP, TIFF or AVIF"),
        (b"II*\0" + bytes(40), "expected"),
        (bytes(3) + b" ftypheic" + bytes(40), "is HEIC, which needs the package pillow-heif"),
        (bytes(3) + b" ftypmif1" + bytes(40), "is HEIC, which needs the package pillow-heif"),
        (bytes(3) + b" ftypavif" + bytes(40), "expected"),
        (bytes(3) + b" ftypmp42" + bytes(40), "is MP4, expected"),
        (b"%PDF-1.7", "is PDF, expected"),
        (bytes(12) + b"\x89PNG", "not an image, expected"),
        (b"\xff\xd8\xff", "expected"),
        (b"\x89PNG\r\n\x1a\n", "damaged .cut short."),
        (_png(0, 5), "expected"),
        (_png(13_000, 13_000), "13000x13000 pixels, expected at most 40000000 in all"),
        (_png(20_000, 20_000), "pixels, expected at most"),
        (_png(17_000, 2), "17000x2 pixels, expected at most 16384 a side"),
        (_png(101, 1, pixels=bytes(14)), "101x1 pixels, expected an aspect of at most 100 to 1"),
        (_png(100_000, 100_000), "expected at most"),
        (_png(2**31 - 1, 2**31 - 1), "expected"),
        (_png(64, 64, depth=8, pixels=bytes(10)), "damaged"),
        (_png(64, 64, depth=8, color=5, pixels=bytes(10)), "expected"),
    ],
)
def test_invalid_images_are_refused_in_one_line(data: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        read_image(data)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("image <")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.9, 0.99])
def test_a_file_cut_short_is_refused(form: str, share: float) -> None:
    data = _bytes(Image.fromarray(_photo()), form)
    with pytest.raises(ImageError, match="expected"):
        read_image(data[: int(len(data) * share)])


def test_a_png_with_a_wrong_checksum_is_refused() -> None:
    data = bytearray(_bytes(Image.fromarray(_picture())))
    data[data.index(b"IDAT") - 4 + 8 + 3] ^= 1
    with pytest.raises(ImageError, match=r"damaged \(wrong checksum of IDAT\)"):
        read_image(bytes(data))


@pytest.mark.parametrize("form", ["PNG", "WEBP", "AVIF"])
def test_an_animation_is_refused(form: str) -> None:
    frames = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (0, 120, 240)]
    data = _bytes(frames[0], form, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="3 frames, expected a still image"):
        read_image(data)


def test_a_colour_profile_that_inflates_without_end_is_harmless() -> None:
    bomb = b"icc\0\0" + zlib.compress(bytes(80 * 2**20), 9)
    data = _bytes(Image.fromarray(_picture()))
    end_of_header = 8 + 25
    data = data[:end_of_header] + _chunk(b"iCCP", bomb) + data[end_of_header:]
    assert "damaged" in _refusal(data) or read_image(data).size == ImageSize(20, 30)


@pytest.mark.parametrize("value", range(8))
def test_flipped_bytes_only_raise_image_errors(value: int) -> None:
    random = np.random.default_rng(value)
    for form in ("JPEG", "PNG", "WEBP", "BMP"):
        data = bytearray(_bytes(Image.fromarray(_picture()), form))
        for place in random.integers(0, len(data), 6):
            data[place] = random.integers(0, 256)
        assert "\n" not in _refusal(bytes(data))


def _leave_out(path: Path) -> None:
    del path


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("missing.jpg", _leave_out, "no such file, expected a local image file"),
        ("folder", Path.mkdir, "is a directory, expected an image file"),
        ("pipe", os.mkfifo, "is not a regular file, expected an image file"),
        ("link", lambda path: path.symlink_to("nowhere"), "no such file"),
        ("empty.png", Path.touch, "empty, expected"),
        ("a" * 300, _leave_out, "expected a readable file"),
        ("line\nbreak.png", _leave_out, "line.break.png: no such file"),
    ],
)
def test_paths_without_a_regular_file_are_refused(
    tmp_path: Path, name: str, make: Callable[[Path], object], words: str
) -> None:
    path = tmp_path / name
    make(path)
    with pytest.raises(ImageError, match=words) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "empty name"),
        ("a\0b.png", "expected a readable file"),
        ("https://example.org/a.png", "is an address, expected a local image file"),
        ("/dev/zero", "is not a regular file"),
    ],
)
def test_names_that_are_no_files_are_refused(source: str, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        read_image(source)


def test_a_file_of_too_many_bytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "big.png"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ImageError, match=r"67108865 bytes, expected at most 67108864 \(64 MiB\)"):
        read_image(path)


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(_bytes(Image.fromarray(_picture())))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(ImageError, match="permission denied, expected a readable file"):
        read_image(path)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((4, 4), bool),
    ],
)
def test_arrays_of_another_kind_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"cannot be read, expected uint8 \[h w\]"):
        read_image(array)


def test_an_array_without_pixels_is_refused() -> None:
    with pytest.raises(ImageError, match="5x0 pixels, expected at least 1x1"):
        read_image(np.zeros((0, 5, 3), np.uint8))


def test_sources_of_another_type_are_refused() -> None:
    program = "from deixis.processing.images import read_image\ntry: read_image(5)\n"
    program += "except Exception as error: print(type(error).__name__, error)"
    # Outside the test run: its type checks would refuse the call before the function could.
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("ImageError image of type int: cannot be read, expected a path")


def test_resizing_to_the_same_size_copies() -> None:
    picture = _picture()
    same = resize_array(picture, ImageSize(20, 30))
    np.testing.assert_array_equal(same, picture)
    assert same is not picture


def _centroid(array: Pixels) -> tuple[float, float]:
    weights = np.abs(array[:, :, 0].astype(float))
    rows, columns = np.mgrid[: array.shape[0], : array.shape[1]]
    total = weights.sum()
    return ((columns + 0.5) * weights).sum() / total, ((rows + 0.5) * weights).sum() / total


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(8, 300),
    width=st.integers(8, 300),
    target=st.tuples(st.integers(16, 130), st.integers(16, 130)),
)
def test_resized_pixels_land_where_geometry_says(
    height: int, width: int, target: tuple[int, int]
) -> None:
    picture = np.zeros((height, width, 3), np.uint8)
    top, left = height // 4, width // 3
    bottom, right = max(top + 1, height // 2), max(left + 1, width * 3 // 4)
    picture[top:bottom, left:right] = 255
    resize = Resize(ImageSize(height, width), ImageSize(*target))
    x, y = _centroid(resize_array(picture, resize.target))
    expected = resize.apply_points(np.array([[(left + right) / 2, (top + bottom) / 2]]))[0]
    assert abs(x - expected[0]) < 0.15
    assert abs(y - expected[1]) < 0.15


@settings(max_examples=25, deadline=None)
# less than a pixel of padding on each side: every row of the canvas holds some of the image
@example(height=63, width=65, canvas=64)
@example(height=127, width=126, canvas=64)
@given(height=st.integers(1, 400), width=st.integers(1, 400), canvas=st.sampled_from([64, 128]))
def test_letterboxed_pixels_land_where_geometry_says(height: int, width: int, canvas: int) -> None:
    picture = np.full((height, width, 3), 255, np.uint8)
    letterbox = Letterbox(ImageSize(height, width), canvas)
    placed = letterbox_array(picture, letterbox, fill=(0, 0, 0))
    assert placed.shape == (canvas, canvas, 3)
    # White on black: the sum is the area in canvas pixels, the centroid the middle of the image.
    area = placed[:, :, 0].astype(float).sum() / 255
    expected = height * width * letterbox.scale**2
    assert area == pytest.approx(expected, rel=0.02, abs=canvas * 0.03)
    x, y = _centroid(placed)
    assert abs(x - canvas / 2) < 0.2
    assert abs(y - canvas / 2) < 0.2


@pytest.mark.parametrize("size", [(150, 100), (101, 150), (99, 300), (640, 427), (37, 224)])
def test_the_edges_of_a_box_survive_the_letterbox(size: tuple[int, int]) -> None:
    height, width = size
    picture = np.zeros((height, width, 3), np.uint8)
    box = np.array([[width * 0.2, height * 0.3, width * 0.6, height * 0.8]]).round()
    x1, y1, x2, y2 = box[0].astype(int)
    picture[y1:y2, x1:x2] = 255
    letterbox = Letterbox(ImageSize(height, width), 128)
    placed = letterbox_array(picture, letterbox, fill=(0, 0, 0))[:, :, 0].astype(float) / 255
    left, top, right, bottom = letterbox.apply_boxes(box)[0]
    middle_row, middle_column = int((top + bottom) / 2), int((left + right) / 2)
    assert placed[middle_row].sum() == pytest.approx(right - left, abs=0.1)
    assert placed[:, middle_column].sum() == pytest.approx(bottom - top, abs=0.1)
    centre = (placed[middle_row] * (np.arange(128) + 0.5)).sum() / placed[middle_row].sum()
    assert centre == pytest.approx((left + right) / 2, abs=0.1)


def test_padding_has_the_colour_asked_for() -> None:
    letterbox = Letterbox(ImageSize(10, 40), 64)
    placed = letterbox_array(np.full((10, 40, 3), 255, np.uint8), letterbox, fill=(1, 2, 3))
    assert placed[0, 0].tolist() == [1, 2, 3]
    assert placed[32, 32].tolist() == [255, 255, 255]


def test_a_letterbox_of_another_image_is_refused() -> None:
    with pytest.raises(ImageError, match=r"image of 30x20 pixels: does not fit .* expected 30x21"):
        letterbox_array(_picture(), Letterbox(ImageSize(21, 30), 64))


def test_a_photograph_keeps_its_frame_in_every_disguise() -> None:
    photo = Image.fromarray(_photo()[:400])
    plain = read_image(photo).array.astype(int)
    exif = Image.Exif()
    exif[0x0112] = 8
    turned = _bytes(photo.transpose(Image.Transpose.ROTATE_270), "JPEG", quality=95, exif=exif)
    disguises = {
        "turned": turned,
        "cmyk": _bytes(photo.convert("CMYK"), "JPEG", quality=95),
        "alpha": _bytes(photo.convert("RGBA")),
        "palette": _bytes(photo.quantize(256)),
    }
    for name, data in disguises.items():
        array = read_image(data).array.astype(int)
        assert array.shape == plain.shape, name
        assert np.abs(array - plain).mean() < 8, name


@pytest.mark.shared_data
def test_every_real_photograph_is_read_at_its_annotated_size(shared_data: Path) -> None:
    files = sorted((shared_data / "photos" / "images").glob("*/*.jpg"))
    assert len(files) > 100
    for file in files[::4]:
        loaded = read_image(file)
        with Image.open(file) as image:
            assert loaded.stored_size == ImageSize(image.height, image.width)

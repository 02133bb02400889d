import io
import pickle
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from deixis.data.sources.base import BadRecord
from deixis.data.sources.reading import segment_pictures
from deixis.data.sources.reading.segment_pictures import (
    Segments,
    read_colours,
    read_grey,
    read_numbers,
)
from deixis.geometry import ImageSize, Mask


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


def test_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    palette = Image.fromarray(GREY // 20).convert("P")
    indices = np.array([[0, 1], [2, 300]], np.uint16)
    indexed = Image.fromarray(np.array([[0, 1], [2, 3]], np.uint8), mode=None).quantize(4)
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    Image.fromarray(indices).save(tmp_path / "deep.png")
    indexed.save(tmp_path / "palette.png")
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bits.png")
    assert np.array_equal(read_numbers(tmp_path, "grey.png"), GREY)
    assert np.array_equal(read_numbers(tmp_path, "deep.png"), indices)
    assert np.array_equal(read_numbers(tmp_path, "palette.png"), np.asarray(indexed))
    assert read_numbers(tmp_path, "bits.png").tolist() == [[1, 0]]
    assert palette.mode == "P"


def test_grey_is_brightness_however_it_is_stored(tmp_path: Path) -> None:
    grey = Image.fromarray(GREY)
    for mode in ("L", "RGB", "RGBA", "LA", "P"):
        grey.convert(mode).save(tmp_path / f"{mode}.png")
        assert np.array_equal(read_grey(tmp_path, f"{mode}.png"), GREY)
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "1.png")
    assert read_grey(tmp_path, "1.png").tolist() == [[255, 0]]
    clear = grey.convert("RGBA")
    clear.putalpha(7)
    clear.save(tmp_path / "clear.png")
    Image.new("RGB", (2, 2), (1, 2, 3)).save(tmp_path / "colour.png")
    for name, reason in (("clear.png", "transparent"), ("colour.png", "colours")):
        with pytest.raises(BadRecord, match=reason):
            read_grey(tmp_path, name)


def test_pictures_of_another_kind_are_refused(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    Image.fromarray(GREY).convert("RGB").save(tmp_path / "rgb.png")
    with pytest.raises(BadRecord, match="is L, expected one of"):
        read_colours(tmp_path, "grey.png")
    with pytest.raises(BadRecord, match="is RGB, expected one of"):
        read_numbers(tmp_path, "rgb.png")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def _hostile() -> dict[str, bytes]:
    whole = _png(Image.fromarray(GREY))
    wrong = bytearray(whole)
    wrong[whole.index(b"IDAT") + 8] ^= 1
    header = (20_000).to_bytes(4, "big") * 2 + b"\x01\x00\x00\x00\x00"
    bomb = whole[:8] + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(b"\0" * 9000))
    frames = io.BytesIO()
    first = Image.fromarray(GREY)
    first.save(frames, "PNG", save_all=True, append_images=[Image.fromarray(GREY + 1)])
    jpeg = io.BytesIO()
    first.save(jpeg, "JPEG")
    return {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "no_end": whole[:-12],
        "wrong": bytes(wrong),
        "bomb": bomb + _chunk(b"IEND", b""),
        "zero": whole[:8] + _chunk(b"IHDR", b"\0" * 13) + _chunk(b"IEND", b""),
        "text": b"<html>" * 10,
        "jpeg": jpeg.getvalue(),
        "frames": frames.getvalue(),
    }


@pytest.mark.parametrize("name", sorted(_hostile()))
def test_damaged_pictures_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.png").write_bytes(_hostile()[name])
    with pytest.raises(BadRecord) as caught:
        read_numbers(tmp_path, "x.png")
    assert caught.value.code == "mask_damaged"


@given(at=st.integers(8, 10_000), value=st.integers(1, 255))
def test_a_changed_byte_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    data = bytearray(_png(Image.fromarray(GREY)))
    data[at % (len(data) - 8) + 8] ^= value
    (folder / "changed.png").write_bytes(data)
    with pytest.raises(BadRecord):
        read_numbers(folder, "changed.png")


def test_names_and_links_stay_in_the_folder(tmp_path: Path) -> None:
    inside = tmp_path / "masks"
    inside.mkdir()
    Image.fromarray(GREY).save(tmp_path / "secret.png")
    (inside / "link.png").symlink_to(tmp_path / "secret.png")
    for name in ("../secret.png", str(tmp_path / "secret.png"), "link.png", "a\0b.png"):
        with pytest.raises(BadRecord) as caught:
            read_numbers(inside, name)
        assert caught.value.code in {"path_escape", "bad_text"}
    with pytest.raises(BadRecord, match="no such file"):
        read_numbers(inside, "missing.png")


def test_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(GREY).save(tmp_path / "x.png")
    monkeypatch.setattr(segment_pictures, "MAX_PIXELS", 11)
    with pytest.raises(BadRecord, match="4x3 pixels is too large"):
        read_numbers(tmp_path, "x.png")
    monkeypatch.setattr(segment_pictures, "MAX_BYTES", 11)
    with pytest.raises(BadRecord, match="over 11 bytes"):
        read_numbers(tmp_path, "x.png")
    monkeypatch.setattr(segment_pictures, "SEGMENT_LIMIT", 11)
    with pytest.raises(BadRecord, match="12 segments"):
        Segments.from_numbers(GREY)


PICTURES = arrays.arrays(
    st.sampled_from([np.uint8, np.uint16, np.int32]),
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.integers(0, 200),
)


@given(numbers=PICTURES)
def test_segments_are_the_pixels_of_each_number(numbers: np.ndarray) -> None:
    segments = Segments.from_numbers(numbers)
    masks = segments.masks()
    assert segments.size == ImageSize(*numbers.shape)
    assert sorted(masks) == np.unique(numbers).tolist() == list(segments.numbers)
    for number, (mask, box) in masks.items():
        plain = Mask(numbers == number)
        assert mask == plain
        assert hash(mask) == hash(plain)
        assert mask.area == plain.area
        assert box == plain.to_box() == mask.to_box()
        assert mask.to_annotation() == plain.to_annotation()
        assert pickle.loads(pickle.dumps(mask)) == plain  # noqa: S301 - our own
        assert not mask.array.flags.writeable

"""Masks as single polygons, and as brush strokes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deixis.data.export.brush import encode_brush
from deixis.data.export.outlines import outlines, single_polygon
from deixis.data.sources.base import BadRecord
from deixis.data.sources.label_studio import decode_brush
from deixis.geometry import CodedMask, ImageSize, Mask

ARRAYS = st.tuples(st.integers(1, 24), st.integers(1, 24)).flatmap(
    lambda shape: arrays(np.bool_, shape)
)


@given(ARRAYS)
def test_a_polygon_along_pixels_is_filled_to_the_same_mask(array: np.ndarray) -> None:
    mask = Mask(array)
    polygon = single_polygon(mask)
    if mask.is_empty:
        assert polygon is None
        return
    assert polygon is not None
    assert Mask.from_polygons([polygon], mask.size) == mask


@given(ARRAYS)
def test_outlines_are_as_long_as_the_border(array: np.ndarray) -> None:
    padded = np.pad(array, 1)
    border = int((padded[1:] != padded[:-1]).sum() + (padded[:, 1:] != padded[:, :-1]).sum())
    length = sum(
        int(np.abs(np.diff(loop, axis=0, append=loop[:1])).sum()) for loop in outlines(array)
    )
    assert length == border


def test_polygons_stay_as_they_are() -> None:
    polygon = [1.5, 1.25, 8.0, 1.0, 8.0, 7.5]
    assert single_polygon(CodedMask([polygon], ImageSize(10, 10))) == polygon


@pytest.mark.parametrize(
    "polygons",
    [
        [[1, 1, 4, 1, 4, 4], [6, 6, 9, 6, 9, 9]],  # apart
        [[1, 1, 7, 1, 7, 7, 1, 7], [4, 4, 9, 4, 9, 9, 4, 9]],  # one over the other
        [[-5, 2, 6, 2, 6, 6, -5, 6]],  # beyond the image
    ],
)
def test_other_polygons_are_joined_or_redrawn(polygons: list[list[float]]) -> None:
    mask = CodedMask(polygons, ImageSize(10, 10))
    found = single_polygon(mask)
    assert found is not None
    assert min(found) >= 0
    assert max(found) <= 10
    assert Mask.from_polygons([found], mask.size) == mask


def test_a_mask_of_too_many_corners_has_no_polygon() -> None:
    checkers = np.indices((150, 150)).sum(axis=0) % 2 == 0
    assert single_polygon(Mask(checkers)) is None


@given(ARRAYS)
def test_brush_strokes_decode_to_the_same_mask(array: np.ndarray) -> None:
    coded = encode_brush(array)
    assert all(0 <= byte <= 255 for byte in coded)
    assert np.array_equal(decode_brush(bytes(coded), ImageSize(*array.shape)), array)


def test_long_runs_are_cut_into_pieces() -> None:
    array = np.zeros((300, 400), np.bool_)
    array[10:290, 3:399] = True
    array[0, 0] = True
    for one in (array, ~array, np.ones_like(array)):
        assert np.array_equal(decode_brush(bytes(encode_brush(one)), ImageSize(300, 400)), one)


def test_brush_bytes_are_those_of_the_format() -> None:
    # 2 x 1 pixels, the second is set: 8 values of 8 bits; lengths of 3, 4, 8 and 16 bits
    head = f"{8:032b}" + f"{7:05b}" + f"{2:04b}{3:04b}{7:04b}{15:04b}"
    body = "1" + "00" + f"{3:03b}" + f"{0:08b}" + "1" + "00" + f"{3:03b}" + f"{255:08b}"
    bits = (head + body).ljust(-(-len(head + body) // 8) * 8, "0")
    expected = [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]
    assert encode_brush(np.array([[False, True]])) == expected


def test_values_without_repeats_are_read() -> None:
    head = f"{8:032b}" + f"{7:05b}" + f"{2:04b}{3:04b}{7:04b}{15:04b}"
    values = (0, 0, 0, 127, 255, 255, 255, 128)
    bits = head + "0" + "00" + f"{7:03b}" + "".join(f"{value:08b}" for value in values)
    bits = bits.ljust(-(-len(bits) // 8) * 8, "0")
    data = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
    assert decode_brush(data, ImageSize(1, 2)).tolist() == [[False, True]]


@given(st.binary(max_size=60), st.integers(0, 40))
def test_damaged_strokes_are_refused_or_of_the_right_size(junk: bytes, cut: int) -> None:
    size = ImageSize(5, 7)
    good = bytes(encode_brush(np.eye(5, 7, dtype=np.bool_)))
    for data in (junk, good[:cut], good[:8] + junk):
        try:
            shape = decode_brush(data, size).shape
        except BadRecord as error:
            shape = (5, 7) if error.code == "mask_damaged" else ()
        assert shape == (5, 7)

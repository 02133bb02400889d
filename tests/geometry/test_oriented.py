from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deixis.errors import GeometryError
from deixis.geometry import Box, Flip, ImageSize, Orient, OrientedBox

SIZE = ImageSize(40, 60)
CORNERS = ((20.0, 10.0), (30.0, 20.0), (20.0, 30.0), (10.0, 20.0))


def test_corners_are_kept_and_the_box_is_around_them() -> None:
    one = OrientedBox.from_flat([20, 10, 30, 20, 20, 30, 10, 20])
    assert one.corners == CORNERS
    assert one.flat() == [20, 10, 30, 20, 20, 30, 10, 20]
    assert (one.to_box(), one.area) == (Box(10, 10, 30, 30), 200)


@given(degrees=st.floats(-720, 720), width=st.floats(1, 50), height=st.floats(1, 50))
def test_a_turn_keeps_middle_and_area_and_is_undone(
    degrees: float, width: float, height: float
) -> None:
    box = Box(5, 7, 5 + width, 7 + height)
    turned = OrientedBox.turned(box, degrees)
    assert turned.area == pytest.approx(box.area, abs=1e-5)
    assert turned.as_array().mean(axis=0) == pytest.approx(box.center, abs=1e-6)
    same = OrientedBox.turned(box, 360 * 2)
    assert same.to_box().as_array() == pytest.approx(box.as_array())


@pytest.mark.parametrize("exif", range(1, 9))
def test_corners_move_with_the_image_and_back(exif: int) -> None:
    one = OrientedBox(CORNERS)
    orient = Orient(SIZE, exif)
    there = orient.apply(one)
    assert orient.invert(there) == one
    assert there.to_box() == orient.apply(one.to_box())
    assert np.allclose(Flip(SIZE).apply(one).as_array()[:, 0], 60 - one.as_array()[:, 0])


@pytest.mark.parametrize(
    ("corners", "message"),
    [
        (CORNERS[:3], "expected four corners"),
        (((1, 1), (2,), (2, 2), (1, 2)), "expected four corners"),
        (None, "expected four corners"),
        (((1, 1), (2, float("nan")), (2, 2), (1, 2)), "expected a finite number"),
        (((1, 1), (2, "2"), (2, 2), (1, 2)), "expected a number"),
        (((1, 1), (2, 2), (3, 3), (4, 4)), "has no extent"),
    ],
)
def test_what_is_no_turned_box_is_refused(corners: Any, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        OrientedBox(corners)
    with pytest.raises(GeometryError, match="oriented box: expected 8 numbers, got 7"):
        OrientedBox.from_flat([0.0] * 7)

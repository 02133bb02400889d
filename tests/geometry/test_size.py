import numpy as np
import pytest

from deixis.errors import GeometryError
from deixis.geometry import ImageSize


def test_a_size_unpacks_as_height_then_width() -> None:
    height, width = ImageSize(3, 5)
    assert (height, width) == (3, 5)
    assert ImageSize(3, 5).area == 15


def test_a_size_prints_as_people_say_it() -> None:
    assert str(ImageSize(height=120, width=160)) == "160x120"


def test_a_size_keeps_plain_integers() -> None:
    size = ImageSize(*np.array([3, 5]))
    assert size == ImageSize(3, 5)
    assert type(size.height) is int


@pytest.mark.parametrize("side", [0, -1, 2**24 + 1, pytest.param(10**5000, id="long")])
def test_a_side_out_of_range_is_refused(side: int) -> None:
    with pytest.raises(GeometryError, match="image width: expected 1 to 16777216, got"):
        ImageSize(4, side)


@pytest.mark.parametrize("side", [True, 2.0, "2", None])
def test_a_side_that_is_no_integer_is_refused(side: object) -> None:
    with pytest.raises(GeometryError, match="image height: expected an integer, got"):
        ImageSize.from_annotation([side, 4])


@pytest.mark.parametrize("values", [None, 3, "34", [3], [3, 4, 5], {"height": 3, "width": 4}])
def test_a_size_that_is_no_pair_is_refused(values: object) -> None:
    with pytest.raises(GeometryError, match=r"size: expected \[height, width\], got"):
        ImageSize.from_annotation(values)


def test_a_size_too_large_to_draw_on_is_refused() -> None:
    ImageSize(2**14, 2**14).check_area()
    with pytest.raises(GeometryError, match="size 16385x16384: expected at most 268435456 pixels"):
        ImageSize(2**14, 2**14 + 1).check_area()

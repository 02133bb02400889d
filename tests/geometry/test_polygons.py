import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from deixis.errors import GeometryError
from deixis.geometry import ImageSize, Mask

SIZE = ImageSize(30, 40)


@st.composite
def drawn_polygons(draw: st.DrawFn) -> list[list[float]]:
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    digits = draw(st.sampled_from([0, 1, 15]))
    polygons = []
    for _ in range(draw(st.integers(1, 3))):
        vertices = generator.uniform(-12, 52, (draw(st.integers(3, 9)), 2)).round(digits)
        if draw(st.booleans()):
            vertices[1] = vertices[0]
        polygons.append(vertices.ravel().tolist())
    return polygons


def filled(polygons: list[list[float]], size: ImageSize) -> np.ndarray:
    """What pycocotools fills, taken from its run lengths: its decoder warns on NumPy 2."""
    rle = coco.merge(coco.frPyObjects(polygons, *size))
    return Mask.from_coco(rle, size=size).array


@settings(max_examples=60, deadline=None)
@given(drawn_polygons())
def test_polygons_fill_the_pixels_that_pycocotools_fills(polygons: list[list[float]]) -> None:
    expected = filled(polygons, SIZE)
    np.testing.assert_array_equal(Mask.from_polygons(polygons, SIZE).array, expected)


@pytest.mark.parametrize("size", [ImageSize(1, 1), ImageSize(1, 50), ImageSize(50, 1)])
def test_polygons_fill_small_images_as_pycocotools_does(size: ImageSize) -> None:
    generator = np.random.default_rng(7)
    for _ in range(30):
        polygons = [generator.uniform(-5, 55, 10).tolist()]
        expected = filled(polygons, size)
        np.testing.assert_array_equal(Mask.from_polygons(polygons, size).array, expected)


def test_a_rectangle_on_pixel_edges_fills_its_pixels() -> None:
    mask = Mask.from_polygons([[2, 3, 7, 3, 7, 9, 2, 9]], SIZE)
    assert mask.area == 30
    assert mask.to_box().to_xywh() == (2, 3, 5, 6)


def test_a_self_intersection_leaves_a_hole() -> None:
    twice_round = [0, 0, 20, 0, 20, 20, 0, 20, 0, 0, 5, 5, 15, 5, 15, 15, 5, 15, 5, 5]
    mask = Mask.from_polygons([twice_round], SIZE)
    assert not mask.array[10, 10]
    assert mask.area == 300


def test_several_polygons_are_united() -> None:
    parts = [[0.0, 0, 10, 0, 10, 10, 0, 10], [5.0, 5, 15, 5, 15, 15, 5, 15], [0.0, 0, 9, 0, 9, 9]]
    whole = np.logical_or.reduce([Mask.from_polygons([part], SIZE).array for part in parts])
    np.testing.assert_array_equal(Mask.from_polygons(parts, SIZE).array, whole)


def test_a_polygon_outside_gives_an_empty_mask() -> None:
    assert Mask.from_polygons([[100, 100, 110, 100, 110, 110]], SIZE).is_empty


def test_far_vertices_cost_no_memory() -> None:
    far = 2.0**24
    mask = Mask.from_polygons([[-far, -far, far, -far, far, far, -far, far]], SIZE)
    assert mask.area == SIZE.area


@pytest.mark.parametrize(
    ("polygons", "message"),
    [
        (None, "polygons: expected a list of polygons, got None"),
        ([], r"polygons: expected a list of polygons, got \[\]"),
        ("x", "polygons: expected a list of polygons, got 'x'"),
        ([1, 1, 5, 1, 5, 5], "polygon 0: expected a list of numbers, got 1"),
        ([[1, 1, 5, 5]], "polygon 0: expected 6 numbers or more, got 4"),
        ([[1, 1, 5, 1, 5, 5], []], "polygon 1: expected 6 numbers or more, got 0"),
        ([[1, 1, 5, 1, 5, 5, 7]], "polygon 0: expected pairs x, y, got 7 numbers"),
        ([[1, 1, 5, float("nan"), 5, 5]], "polygon 0: expected finite numbers .*, got nan at 3"),
        ([[1, 1, float("inf"), 1, 5, 5]], "polygon 0: expected finite numbers .*, got inf at 2"),
        ([[1, 1, -1e300, 1, 5, 5]], "polygon 0: expected finite numbers"),
        ([[1, 1, 10**30, 1, 5, 5]], "polygon 0: expected a list of numbers"),
        ([[1, 1, 10**400, 1.5, 5, 5]], "polygon 0: expected a list of numbers"),
        ([[1, 1, "5", 1, 5, 5]], "polygon 0: expected a list of numbers"),
        ([[1, 1, None, 1, 5, 5]], "polygon 0: expected a list of numbers"),
        ([[1, 1, True, 1, 5, 5]], "polygon 0: expected a list of numbers, got a bool"),
        ([[1, [1], 5, 1, 5, 5]], "polygon 0: expected a list of numbers"),
        ([[[1, 1], [5, 1], [5, 5]]], "polygon 0: expected a list of numbers"),
        ([np.zeros((3, 2))], "polygon 0: expected a list of numbers"),
        ([{"x": 1}], "polygon 0: expected a list of numbers"),
        ([[0.0] * 200_002], "polygon 0: expected at most 10000 vertices, got 100001"),
        ([[0.0] * 12_000] * 2, "polygons: expected at most 10000 vertices, got 12000"),
    ],
)
def test_damaged_polygons_are_refused(polygons: object, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        Mask.from_annotation(polygons, SIZE)


def test_edges_that_cross_too_many_columns_are_refused() -> None:
    zigzag = [value for index in range(5000) for value in (index % 2 * 9000, index % 3)]
    with pytest.raises(GeometryError, match="polygon: expected edges that cross at most 33554432"):
        Mask.from_polygons([zigzag], ImageSize(4, 9000))


def test_a_hostile_size_is_refused() -> None:
    with pytest.raises(GeometryError, match="expected at most 268435456 pixels"):
        Mask.from_polygons([[0, 0, 1, 0, 1, 1]], ImageSize(2**20, 2**20))

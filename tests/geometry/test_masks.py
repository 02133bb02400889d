import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deixis.errors import GeometryError
from deixis.geometry import Box, ImageSize, Mask, Point, Scribble, boxes_from_masks, mask_iou

SIZE = ImageSize(12, 16)


def test_a_mask_keeps_a_read_only_copy() -> None:
    array = np.zeros((3, 4), np.bool_)
    mask = Mask(array)
    array[0, 0] = True
    assert mask.is_empty
    with pytest.raises(ValueError, match="read-only"):
        mask.array[0, 0] = True


def test_a_view_of_a_read_only_array_is_copied() -> None:
    array = np.zeros((3, 4), np.bool_)
    view = array[:]
    view.flags.writeable = False
    mask = Mask(view)
    array[0, 0] = True
    assert mask.is_empty
    assert Mask(mask.array).array is mask.array


def test_a_mask_is_contiguous_whatever_it_was_made_of() -> None:
    assert Mask(np.zeros((3, 4), np.bool_).T).array.flags.c_contiguous


def test_masks_are_equal_where_their_pixels_are() -> None:
    one, same = Mask(np.eye(3, dtype=np.bool_)), Mask(np.eye(3, dtype=np.bool_))
    other, wider = Mask(np.zeros((3, 3), np.bool_)), Mask(np.zeros((3, 4), np.bool_))
    assert one == same
    assert len({one, same, other, wider}) == 3
    assert one != np.eye(3)


def test_a_mask_knows_its_measures() -> None:
    mask = Mask(np.eye(3, 4, dtype=np.bool_))
    assert (mask.size, mask.area, mask.is_empty) == (ImageSize(3, 4), 3, False)
    assert repr(mask) == "Mask(4x3, 3 pixels)"


@pytest.mark.parametrize(
    "array",
    [np.zeros((3, 4), np.uint8), np.zeros((3, 4, 1), np.bool_), [[True, False]], None],
)
def test_what_is_no_bool_image_is_refused(array: np.ndarray) -> None:
    with pytest.raises(GeometryError, match=r"mask: expected a bool array \[height width\], got"):
        Mask(array)


def test_a_mask_without_pixels_is_refused() -> None:
    with pytest.raises(GeometryError, match="image height: expected 1 to"):
        Mask(np.zeros((0, 4), np.bool_))


def test_an_empty_mask_has_no_box() -> None:
    with pytest.raises(GeometryError, match="mask of 16x12 is empty: it has no box"):
        Mask(np.zeros(tuple(SIZE), np.bool_)).to_box()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_box_of_whole_pixels_survives_being_a_mask(data: st.DataObject) -> None:
    x1, y1 = data.draw(st.integers(0, SIZE.width - 1)), data.draw(st.integers(0, SIZE.height - 1))
    x2 = data.draw(st.integers(x1 + 1, SIZE.width))
    y2 = data.draw(st.integers(y1 + 1, SIZE.height))
    box = Box(x1, y1, x2, y2)
    mask = Mask.from_box(box, SIZE)
    assert mask.to_box() == box
    assert mask.area == box.area
    np.testing.assert_array_equal(boxes_from_masks(mask.array[None])[0], box.as_array())


@settings(max_examples=60, deadline=None)
@given(st.floats(-3, 18), st.floats(-3, 18), st.floats(1e-6, 9), st.floats(1e-6, 9))
def test_any_box_that_touches_the_image_covers_a_pixel(
    x: float, y: float, width: float, height: float
) -> None:
    box = Box(x, y, x + width, y + height)
    try:
        inside = box.clip(SIZE)
    except GeometryError:
        with pytest.raises(GeometryError, match="lies wholly outside"):
            Mask.from_box(box, SIZE)
    else:
        covered = Mask.from_box(box, SIZE).to_box()
        assert abs(covered.width - inside.width) <= 1
        assert abs(covered.height - inside.height) <= 1


def test_every_region_becomes_a_mask() -> None:
    mask = Mask.from_box(Box(2, 3, 3, 4), SIZE)
    point, scribble = Point(2.5, 3.5), Scribble(((2.5, 3.5),), 1)
    for region in (mask, point, scribble, Box(2, 3, 3, 4)):
        assert Mask.from_region(region, SIZE) == mask
    assert Mask.from_point(point, SIZE) == Mask.from_scribble(scribble, SIZE) == mask


def test_a_mask_of_another_image_is_refused_as_region() -> None:
    with pytest.raises(GeometryError, match="mask: expected the image's size 16x12, got 4x3"):
        Mask.from_region(Mask(np.zeros((3, 4), np.bool_)), SIZE)


@pytest.mark.parametrize("value", [1, 255])
def test_a_mask_picture_is_read(value: int) -> None:
    levels = np.zeros((2, 3), np.uint8)
    levels[0, 1] = value
    assert Mask.from_levels(levels, ImageSize(2, 3)) == Mask(levels > 0)
    assert Mask.from_levels(levels > 0, ImageSize(2, 3)) == Mask(levels > 0)


def test_a_mask_picture_of_another_size_or_kind_is_refused() -> None:
    message = r"mask picture: expected integers \[2, 3\], got uint8 \[3, 2\]"
    with pytest.raises(GeometryError, match=message):
        Mask.from_levels(np.zeros((3, 2), np.uint8), ImageSize(2, 3))
    with pytest.raises(GeometryError, match=r"got float64 \[2, 3\]"):
        Mask.from_levels(np.zeros((2, 3)), ImageSize(2, 3))


def test_a_mask_picture_of_other_values_is_refused() -> None:
    levels = np.array([[0, 1, 255, 2]], np.uint8)
    message = r"mask picture: expected only 0 and 1, or 0 and 255, got \[0, 1, 2, 255\]"
    with pytest.raises(GeometryError, match=message):
        Mask.from_levels(levels, ImageSize(1, 4))


def test_a_segmentation_may_be_polygons_or_run_lengths() -> None:
    polygons = [[2, 3, 7, 3, 7, 9, 2, 9]]
    mask = Mask.from_annotation(polygons, SIZE)
    assert mask == Mask.from_polygons(polygons, SIZE)
    assert Mask.from_annotation(mask.to_coco(), SIZE) == mask
    assert Mask.from_annotation(mask.to_coco(compressed=False), SIZE) == mask


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 3), st.integers(0, 3))
def test_overlap_of_masks_counts_pixels(seed: int, n: int, m: int) -> None:
    generator = np.random.default_rng(seed)
    a, b = generator.random((n, 7, 11)) < 0.4, generator.random((m, 7, 11)) < 0.6
    expected = [[(x & y).sum() / (x | y).sum() for y in b] for x in a]
    np.testing.assert_allclose(mask_iou(a, b), np.reshape(expected, (n, m)))


def test_empty_masks_have_no_overlap() -> None:
    empty = np.zeros((1, 3, 4), np.bool_)
    assert mask_iou(empty, empty).tolist() == [[0]]

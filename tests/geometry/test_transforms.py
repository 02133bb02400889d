from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from deixis.errors import GeometryError
from deixis.geometry import (
    Box,
    Compose,
    Crop,
    DepthMap,
    Flip,
    Geometry,
    ImageSize,
    Keypoints,
    Letterbox,
    Mask,
    Orient,
    Padding,
    Point,
    Resize,
    Scribble,
    Transform,
)

NAMES = ("nose", "left_eye", "right_eye")
sides = st.integers(1, 40)
sizes = st.builds(ImageSize, sides, sides)


@st.composite
def crops(draw: st.DrawFn, source: ImageSize) -> Crop:
    x1, y1 = draw(st.integers(0, source.width - 1)), draw(st.integers(0, source.height - 1))
    x2 = draw(st.integers(x1 + 1, source.width))
    return Crop(source, (x1, y1, x2, draw(st.integers(y1 + 1, source.height))))


@st.composite
def transforms(draw: st.DrawFn, *, depth: int = 1) -> Transform:
    return draw(_of(draw(sizes), depth))


@st.composite
def _of(draw: st.DrawFn, source: ImageSize, depth: int) -> Transform:
    kind = draw(st.integers(0, 4 + depth))
    if kind == 0:
        return Resize(source, draw(sizes))
    if kind == 1:
        padding = draw(st.sampled_from(get_args(Padding)))
        return Letterbox(source, draw(sides), padding)
    if kind == 2:
        return draw(crops(source))
    if kind == 3:
        return Flip(source)
    if kind == 4:
        return Orient(source, draw(st.integers(1, 8)))
    parts = [draw(_of(source, 0))]
    for _ in range(draw(st.integers(0, 2))):
        parts.append(draw(_of(parts[-1].target, 0)))
    return Compose(tuple(parts))


def random_mask(size: ImageSize, seed: int = 0) -> Mask:
    return Mask(np.random.default_rng(seed).random(tuple(size)) < 0.5)


def units(size: ImageSize) -> list[Geometry]:
    width, height = float(size.width), float(size.height)
    positions = np.array([[1, 2], [width / 3, 0], [width, height]], np.float32)
    return [
        Box(0, height / 4, width / 3, height),
        Point(width / 3, height / 5),
        Scribble(((0, 0), (width / 2, height)), 3),
        Keypoints(positions, np.array([2, 1, 2], np.int8), NAMES),
        random_mask(size),
        DepthMap(np.ones(tuple(size), np.float32), "metric"),
    ]


def numbers(unit: Geometry) -> np.ndarray:
    match unit:
        case Box():
            return unit.as_array()
        case Point():
            return np.array([unit.x, unit.y])
        case Scribble():
            return np.append(np.ravel(unit.points), unit.width)
        case Keypoints():
            return np.append(unit.positions, unit.visibility)
        case _:
            raise AssertionError


@settings(max_examples=50, deadline=None)
@given(transforms())
def test_coordinates_return_from_every_transform(transform: Transform) -> None:
    for unit in units(transform.source)[:4]:
        back = transform.invert(transform.apply(unit))
        assert type(back) is type(unit)
        np.testing.assert_allclose(numbers(back), numbers(unit), atol=1e-3)
    for unit in units(transform.target)[:4]:
        np.testing.assert_allclose(
            numbers(transform.apply(transform.invert(unit))), numbers(unit), atol=1e-3
        )


@settings(max_examples=35, deadline=None)
@given(transforms())
def test_arrays_move_like_single_units(transform: Transform) -> None:
    box, point = units(transform.source)[:2]
    boxes, points = numbers(box)[None].repeat(3, axis=0), numbers(point)[None]
    np.testing.assert_allclose(transform.apply_boxes(boxes)[2], numbers(transform.apply(box)))
    np.testing.assert_allclose(transform.apply_points(points)[0], numbers(transform.apply(point)))
    np.testing.assert_allclose(
        transform.invert_boxes(transform.apply_boxes(boxes)), boxes, atol=1e-9
    )
    np.testing.assert_allclose(
        transform.invert_points(transform.apply_points(points)), points, atol=1e-9
    )


@settings(max_examples=35, deadline=None)
@given(transforms())
def test_masks_and_depth_maps_take_the_size_of_the_other_side(transform: Transform) -> None:
    for unit in units(transform.source)[4:]:
        moved = transform.apply(unit)
        assert isinstance(moved, Mask | DepthMap)
        assert moved.size == transform.target
        back = transform.invert(moved)
        assert isinstance(back, Mask | DepthMap)
        assert back.size == transform.source
    mask = random_mask(transform.source)
    assert transform.apply_mask(mask) == transform.apply(mask)
    moved_mask = transform.apply_mask(mask)
    assert transform.invert_mask(moved_mask) == transform.invert(moved_mask)


@settings(max_examples=35, deadline=None)
@given(transforms())
def test_boxes_and_points_keep_their_dtype_when_empty_or_not(transform: Transform) -> None:
    none = np.zeros((0, 4), np.float32)
    assert transform.apply_boxes(none).shape == (0, 4)
    assert transform.invert_points(none[:, :2]).shape == (0, 2)
    one = np.array([[0, 0, 1, 1]], np.float32)
    assert transform.apply_boxes(one).dtype == np.float32
    assert transform.invert_boxes(one).dtype == np.float32


@settings(max_examples=35, deadline=None)
@given(sizes, st.integers(0, 2**32), st.data())
def test_a_mask_returns_from_growing(source: ImageSize, seed: int, data: st.DataObject) -> None:
    mask = random_mask(source, seed)
    target = ImageSize(
        source.height + data.draw(st.integers(0, 40)), source.width + data.draw(st.integers(0, 40))
    )
    canvas = max(source) + data.draw(st.integers(0, 40))
    for transform in (Resize(source, target), Letterbox(source, canvas), Flip(source)):
        assert transform.invert(transform.apply(mask)) == mask


def test_a_mask_returns_from_a_letterbox_with_half_a_pixel_of_padding() -> None:
    transform = Letterbox(ImageSize(3, 4), 4)
    assert transform.offset == (0.0, 0.5)
    mask = random_mask(transform.source)
    assert transform.invert(transform.apply(mask)) == mask


@settings(max_examples=40, deadline=None)
@given(sizes, sizes, st.integers(1, 40), st.data())
def test_a_mask_never_vanishes_by_shrinking(
    source: ImageSize, target: ImageSize, canvas: int, data: st.DataObject
) -> None:
    array = np.zeros(tuple(source), np.bool_)
    row, column = (data.draw(st.integers(0, side - 1)) for side in source)
    array[row, column] = True
    for transform in (Resize(source, target), Letterbox(source, canvas)):
        moved = transform.apply(Mask(array))
        assert not moved.is_empty
        # Within a pixel of where its box goes.
        expected = numbers(transform.apply(Box(column, row, column + 1, row + 1)))
        np.testing.assert_allclose(numbers(moved.to_box()), expected, atol=1)


def test_a_mask_is_resized_by_the_nearest_centre() -> None:
    mask = Mask(np.array([[True, False, False, True]]))
    assert Resize(ImageSize(1, 4), ImageSize(1, 2)).apply(mask).array.tolist() == [[False, True]]
    doubled = Resize(ImageSize(1, 4), ImageSize(2, 8)).apply(mask)
    assert doubled.array.astype(int).tolist() == [[1, 1, 0, 0, 0, 0, 1, 1]] * 2


def test_a_letterbox_centres_with_exact_offsets() -> None:
    for padding in get_args(Padding):
        assert Letterbox(ImageSize(640, 480), 224, padding).offset == (28.0, 0.0)
    # an odd padding of 3 source pixels: one and a half before the image, or one
    assert Letterbox(ImageSize(7, 10), 20).offset == (0.0, 3.0)
    assert Letterbox(ImageSize(7, 10), 20, "floor").offset == (0.0, 2.0)
    with pytest.raises(GeometryError, match="letterbox padding: expected one of"):
        Letterbox(ImageSize(7, 10), 20, "ceiling")  # type: ignore[arg-type]  # no such padding
    transform = Letterbox(ImageSize(480, 640), 224)
    assert transform.scale == 0.35
    assert transform.offset == (0.0, 28.0)
    assert transform.apply(Box(0, 0, 640, 480)) == Box(0, 28, 224, 196)
    assert Letterbox(ImageSize(640, 480), 224).offset == (28.0, 0.0)
    assert transform.apply(Scribble(((0, 0),), 10)).width == pytest.approx(3.5)


def test_padding_is_clear_and_unknown() -> None:
    transform = Letterbox(ImageSize(2, 4), 4)
    assert transform.apply(Mask(np.ones((2, 4), np.bool_))).to_box() == Box(0, 1, 4, 3)
    depth = transform.apply(DepthMap(np.full((2, 4), 5, np.float32), "relative"))
    assert depth.values[:, 0].tolist() == [0, 5, 5, 0]
    assert depth.kind == "relative"


def test_what_lies_on_the_padding_is_cut_off() -> None:
    transform = Letterbox(ImageSize(2, 4), 4)
    array = np.zeros((4, 4), np.bool_)
    array[0] = True
    assert transform.invert(Mask(array)).is_empty


def test_a_stretched_scribble_takes_the_mean_of_both_scales() -> None:
    transform = Resize(ImageSize(10, 10), ImageSize(10, 40))
    assert transform.apply(Scribble(((1, 1),), 3)) == Scribble(((4, 1),), 6)


@pytest.mark.parametrize("exif", range(1, 9))
def test_orientation_turns_pixels_as_pillow_does(exif: int) -> None:
    pixels = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = exif
    transform = Orient(ImageSize(5, 7), exif)
    turned = transform.apply_array(pixels)
    np.testing.assert_array_equal(turned, np.asarray(ImageOps.exif_transpose(image)))
    assert turned.shape[:2] == tuple(transform.target)


@settings(max_examples=35, deadline=None)
@given(sizes, st.integers(1, 8), st.data())
def test_geometry_stays_on_its_pixels(source: ImageSize, exif: int, data: st.DataObject) -> None:
    mask = Mask.from_box(Box(*(float(x) for x in data.draw(crops(source)).box)), source)
    for transform in (Orient(source, exif), Flip(source), data.draw(crops(source))):
        moved = transform.apply(mask)
        np.testing.assert_array_equal(moved.array, transform.apply_array(mask.array))
        if not moved.is_empty:
            assert moved.to_box() == transform.apply(mask.to_box()).clip(transform.target)


@pytest.mark.parametrize(
    ("transform", "mirrors"),
    [(Flip(ImageSize(4, 6)), True)]
    + [(Orient(ImageSize(4, 6), exif), exif in {2, 4, 5, 7}) for exif in range(1, 9)],
)
def test_keypoints_exchange_left_and_right_in_a_mirror(
    transform: Transform, *, mirrors: bool
) -> None:
    positions = np.array([[3, 1], [4, 2], [2, 2]], np.float32)
    moved = transform.apply(Keypoints(positions, np.array([2, 1, 2], np.int8), NAMES))
    assert moved.visibility.tolist() == ([2, 2, 1] if mirrors else [2, 1, 2])
    order = [0, 2, 1] if mirrors else [0, 1, 2]
    np.testing.assert_array_equal(moved.positions, transform.apply_points(positions)[order])


def test_an_absent_keypoint_does_not_move() -> None:
    keypoints = Keypoints(np.zeros((3, 2), np.float32), np.zeros(3, np.int8), NAMES)
    assert Crop(ImageSize(9, 9), (3, 3, 6, 6)).apply(keypoints) == keypoints


def test_what_a_crop_cuts_off_stays_off() -> None:
    source = ImageSize(4, 4)
    transform = Compose((Crop(source, (0, 1, 4, 3)), Letterbox(ImageSize(2, 4), 4)))
    assert (transform.source, transform.target) == (source, source)
    full = Mask(np.ones((4, 4), np.bool_))
    assert transform.apply(full).to_box() == Box(0, 1, 4, 3)
    assert transform.invert(full).to_box() == Box(0, 1, 4, 3)


def test_parts_that_do_not_meet_are_refused() -> None:
    parts = (Flip(ImageSize(4, 4)), Flip(ImageSize(4, 5)))
    with pytest.raises(GeometryError, match="compose: transform 1 expects 5x4, got 4x4 of"):
        Compose(parts)
    with pytest.raises(GeometryError, match="compose: expected at least one transform, got none"):
        Compose(())


@pytest.mark.parametrize("exif", [0, 9, -1, True])
def test_an_unknown_orientation_is_refused(exif: int) -> None:
    with pytest.raises(GeometryError, match="EXIF orientation: expected 1 to 8, got"):
        Orient(ImageSize(4, 4), exif)


def test_an_orientation_that_is_no_integer_is_refused() -> None:
    with pytest.raises(GeometryError, match="EXIF orientation: expected 1 to 8, got '6'"):
        Orient(ImageSize(4, 4), "6")  # type: ignore[arg-type]  # what a damaged file may hold


@pytest.mark.parametrize("canvas", [0, -4, True])
def test_a_canvas_without_pixels_is_refused(canvas: int) -> None:
    with pytest.raises(GeometryError, match="letterbox canvas: expected"):
        Letterbox(ImageSize(4, 4), canvas)


@pytest.mark.parametrize("box", [(0, 0, 7, 3), (-1, 0, 3, 3), (2, 0, 2, 3), (0, 3, 3, 2)])
def test_a_crop_outside_is_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(GeometryError, match=r"crop \(.*\) \(xyxy\) does not fit a 6x4 image"):
        Crop(ImageSize(4, 6), box)


@pytest.mark.parametrize("box", [(0, 0, 3), (0, 0, 3.0, 3), (0, 0, True, 3)])
def test_a_crop_of_no_integers_is_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(GeometryError, match=r"crop: expected 4 integers \(xyxy\), got"):
        Crop(ImageSize(4, 6), box)


def test_a_mask_or_depth_map_of_another_image_is_refused() -> None:
    transform = Resize(ImageSize(4, 6), ImageSize(8, 8))
    with pytest.raises(GeometryError, match="mask: expected the size 6x4 of its image, got 4x6"):
        transform.apply(random_mask(ImageSize(6, 4)))
    with pytest.raises(GeometryError, match="depth map: expected the size 8x8 of its image"):
        transform.invert(DepthMap(np.ones((4, 6), np.float32), "metric"))


@pytest.mark.parametrize(
    "transform",
    [Flip(ImageSize(4, 6)), Orient(ImageSize(4, 6), 6), Crop(ImageSize(4, 6), (0, 0, 2, 2))],
)
def test_pixels_of_another_image_are_refused(transform: Flip | Orient | Crop) -> None:
    with pytest.raises(GeometryError, match=r"image array: expected \[4, 6, ...\], got \[6, 4\]"):
        transform.apply_array(np.zeros((6, 4)))


def test_a_target_too_large_to_draw_on_is_refused() -> None:
    with pytest.raises(GeometryError, match="expected at most 268435456 pixels"):
        Letterbox(ImageSize(4, 4), 2**20).apply(random_mask(ImageSize(4, 4)))


def test_a_thin_mask_keeps_its_length_where_only_one_axis_shrinks() -> None:
    array = np.zeros((4, 9), np.bool_)
    array[1:3, 2] = True
    moved = Resize(ImageSize(4, 9), ImageSize(8, 3)).apply(Mask(array))
    assert moved.to_box() == Box(0, 2, 1, 6)

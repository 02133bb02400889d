import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deixis.errors import GeometryError
from deixis.geometry import (
    Box,
    BoxLayout,
    ImageSize,
    box_area,
    box_iou,
    boxes_from_masks,
    clip_boxes,
    convert_boxes,
    generalized_box_iou,
    stack_boxes,
)

SIZE = ImageSize(120, 160)
LAYOUTS: tuple[BoxLayout, ...] = ("xyxy", "xywh", "cxcywh")
numbers = st.integers(-800, 800).map(lambda eighths: eighths / 8)


@st.composite
def drawn_boxes(draw: st.DrawFn) -> Box:
    x, y = draw(numbers), draw(numbers)
    side = st.integers(1, 800).map(lambda eighths: eighths / 8)
    return Box(x, y, x + draw(side), y + draw(side))


def test_a_box_knows_its_measures() -> None:
    box = Box(1, 2, 4, 8)
    assert (box.width, box.height, box.area, box.center) == (3, 6, 18, (2.5, 5))
    assert box.to_xywh() == (1, 2, 3, 6)
    assert Box.from_xywh(1, 2, 3, 6) == box
    assert Box.from_array(box.as_array()) == box


def test_a_box_keeps_plain_floats() -> None:
    box = Box(*np.array([1, 2, 3, 4], np.float32))
    assert [type(value) for value in (box.x1, box.y1, box.x2, box.y2)] == [float] * 4
    assert hash(box) == hash(Box(1, 2, 3, 4))


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 1e300, pytest.param(10**5000, id="long"), 2.0**24 + 1]
)
def test_a_coordinate_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(GeometryError, match="box x2: expected a finite number of at most"):
        Box(0, 0, value, 4)


@pytest.mark.parametrize("value", ["12", True, None, [1], np.bool_(True)])
def test_a_coordinate_that_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(GeometryError, match="box y1: expected a number, got"):
        Box.from_annotation([0, value, 4, 4], layout="xyxy")


def test_inverted_corners_are_refused() -> None:
    with pytest.raises(GeometryError, match=r"expected x2 > x1, got 30.0 and 150.0"):
        Box(150, 4, 30, 9)
    with pytest.raises(GeometryError, match=r"box \(1.0, 4.0, 2.0, 4.0\): expected y2 > y1"):
        Box(1, 4, 2, 4)


@pytest.mark.parametrize("layout", ["xywh", "cxcywh"])
@pytest.mark.parametrize("sides", [(0, 4), (4, 0), (-2, 4), (4, -2)])
def test_a_side_that_is_not_positive_is_refused(
    layout: BoxLayout, sides: tuple[float, float]
) -> None:
    message = rf"\({layout}\): expected a positive width and height, got {float(sides[0])} and"
    with pytest.raises(GeometryError, match=message):
        Box.from_annotation([1, 1, *sides], layout=layout)


@pytest.mark.parametrize("values", [None, "1234", [], [1, 2, 3], [1, 2, 3, 4, 5], {"x": 1}])
def test_what_is_no_list_of_four_is_refused(values: object) -> None:
    with pytest.raises(GeometryError, match=r"box: expected a list of 4 numbers \(xywh\), got"):
        Box.from_annotation(values)


def test_a_message_quotes_hostile_input_in_part() -> None:
    with pytest.raises(GeometryError) as caught:
        Box.from_annotation("x" * 10**6)
    assert len(str(caught.value)) < 200
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(GeometryError, match="got list that is too long to show"):
        Box.from_annotation(nested)


def test_an_overshoot_is_clipped() -> None:
    assert Box(-1, 2, 161, 120.5).clip(SIZE) == Box(0, 2, 160, 120)


@pytest.mark.parametrize("corners", [(-9, 0, 0, 9), (160, 0, 170, 9), (0, 120, 9, 130)])
def test_a_box_wholly_outside_cannot_be_clipped(
    corners: tuple[float, float, float, float],
) -> None:
    with pytest.raises(GeometryError, match="lies wholly outside a 160x120 image"):
        Box(*corners).clip(SIZE)


def test_only_a_box_inside_passes_the_check() -> None:
    Box(0, 0, 160, 120).check_inside(SIZE)
    for corners in ((-1, 0, 2, 2), (0, -1, 2, 2), (0, 0, 161, 2), (0, 0, 2, 121)):
        with pytest.raises(GeometryError, match=r"\(xyxy\) does not fit a 160x120 image"):
            Box(*corners).check_inside(SIZE)


@settings(max_examples=40, deadline=None)
@given(st.lists(drawn_boxes(), max_size=5), st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS))
def test_layouts_convert_there_and_back(boxes: list[Box], from_: BoxLayout, to: BoxLayout) -> None:
    corners = stack_boxes(boxes)
    written = convert_boxes(corners, "xyxy", from_)
    np.testing.assert_array_equal(
        convert_boxes(convert_boxes(written, from_, to), to, from_), written
    )
    for box, values in zip(boxes, written.tolist(), strict=True):
        assert Box.from_annotation(values, layout=from_) == box


def test_no_boxes_give_empty_arrays() -> None:
    none, one = stack_boxes([]), stack_boxes([Box(0, 0, 1, 1)])
    assert none.shape == (0, 4)
    assert box_iou(none, one).shape == (0, 1)
    assert generalized_box_iou(one, none).shape == (1, 0)
    assert convert_boxes(none, "xyxy", "cxcywh").shape == (0, 4)
    assert clip_boxes(none, SIZE).shape == (0, 4)
    assert boxes_from_masks(np.zeros((0, 3, 4), np.bool_)).shape == (0, 4)


def test_clipping_moves_coordinates_into_the_image() -> None:
    boxes = np.array([[-5, -5, 200, 200], [170, 3, 180, 4]], np.float32)
    clipped = clip_boxes(boxes, SIZE)
    assert clipped.tolist() == [[0, 0, 160, 120], [160, 3, 160, 4]]
    assert clipped.dtype == np.float32


def test_an_inverted_box_has_no_area() -> None:
    assert box_area(np.array([[4.0, 0, 1, 9], [0, 0, 2, 3]])).tolist() == [0, 6]


def test_overlap_has_no_extra_pixel() -> None:
    a = np.array([[0.0, 0, 2, 2]])
    b = np.array([[1.0, 0, 3, 2], [2, 0, 4, 2], [0, 0, 2, 2]])
    np.testing.assert_allclose(box_iou(a, b), [[1 / 3, 0, 1]])
    np.testing.assert_allclose(generalized_box_iou(a, b), [[1 / 3, 0, 1]])


def test_generalized_overlap_falls_with_the_gap() -> None:
    a = np.array([[0.0, 0, 1, 1]])
    b = np.array([[3.0, 0, 4, 1], [99, 0, 100, 1]])
    np.testing.assert_allclose(generalized_box_iou(a, b), [[-0.5, -0.98]])


def test_boxes_without_area_have_no_overlap() -> None:
    flat = np.array([[1.0, 1, 1, 1]])
    assert box_iou(flat, flat).tolist() == [[0]]
    assert generalized_box_iou(flat, flat).tolist() == [[0]]


@settings(max_examples=40, deadline=None)
@given(drawn_boxes(), drawn_boxes(), numbers, numbers)
def test_overlap_is_symmetric_and_does_not_depend_on_place(
    first: Box, second: Box, right: float, down: float
) -> None:
    a, b = stack_boxes([first]), stack_boxes([second])
    shift = np.array([right, down, right, down])
    for measure in (box_iou, generalized_box_iou):
        value = measure(a, b).item()
        assert value == pytest.approx(measure(b, a).item())
        assert value == pytest.approx(measure(a + shift, b + shift).item())
        assert measure(a, a).item() == pytest.approx(1)
    assert -1 <= generalized_box_iou(a, b).item() <= box_iou(a, b).item() + 1e-12


def test_a_box_around_a_mask_has_exclusive_edges() -> None:
    masks = np.zeros((2, 5, 6), np.bool_)
    masks[0, 1:3, 2:6] = True
    masks[1, 4, 0] = True
    assert boxes_from_masks(masks).tolist() == [[2, 1, 6, 3], [0, 4, 1, 5]]


def test_an_empty_mask_has_no_box() -> None:
    masks = np.zeros((2, 5, 6), np.bool_)
    masks[0, 1, 1] = True
    with pytest.raises(GeometryError, match="mask 1 of 2 is empty"):
        boxes_from_masks(masks)

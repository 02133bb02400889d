import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deixis.errors import GeometryError
from deixis.geometry import ImageSize, Point, Scribble, stack_points

SIZE = ImageSize(12, 16)


def test_a_point_covers_the_pixel_it_lies_in() -> None:
    assert np.argwhere(Point(2.9, 3.0).to_mask(SIZE).array).tolist() == [[3, 2]]


def test_a_point_on_the_far_edges_covers_the_last_pixel() -> None:
    assert np.argwhere(Point(16, 12).to_mask(SIZE).array).tolist() == [[11, 15]]


@pytest.mark.parametrize(("x", "y"), [(-0.1, 1), (1, -0.1), (16.1, 1), (1, 12.1)])
def test_a_point_outside_covers_nothing(x: float, y: float) -> None:
    with pytest.raises(GeometryError, match=r"point \(.*\) lies outside a 16x12 image"):
        Point(x, y).to_mask(SIZE)


@pytest.mark.parametrize("value", [math.nan, math.inf, True, "1"])
def test_a_point_of_no_numbers_is_refused(value: float) -> None:
    with pytest.raises(GeometryError, match="point y: expected a"):
        Point(1, value)


def test_points_stack_as_rows() -> None:
    assert stack_points([Point(1, 2), Point(3, 4)]).tolist() == [[1, 2], [3, 4]]
    assert stack_points([]).shape == (0, 2)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ((), r"scribble: expected points, got \(\)"),
        (None, "scribble: expected points, got None"),
        (((1.0, 1.0),) * 1_000_000, "scribble: expected at most 10000 points, got 1000000"),
        (((1.0,),), r"scribble point: expected \(x, y\), got \(1.0,\)"),
        ((1.0, 2.0), r"scribble point: expected \(x, y\), got 1.0"),
        (((math.nan, 1.0),), "scribble x: expected a finite number"),
        (((1.0, math.inf),), "scribble y: expected a finite number"),
        (((1.0, "1"),), "scribble y: expected a number"),
    ],
)
def test_a_damaged_scribble_is_refused(
    points: tuple[tuple[float, float], ...], message: str
) -> None:
    with pytest.raises(GeometryError, match=message):
        Scribble(points, 2)


@pytest.mark.parametrize("width", [0, -1, math.nan])
def test_a_scribble_needs_a_width(width: float) -> None:
    with pytest.raises(GeometryError, match="scribble width: expected"):
        Scribble(((1, 1),), width)


def test_a_scribble_outside_covers_nothing() -> None:
    with pytest.raises(GeometryError, match="scribble lies wholly outside a 16x12 image"):
        Scribble(((-9, -9), (-3, -9)), 2).to_mask(SIZE)


def test_a_hostile_size_is_refused() -> None:
    for region in (Point(1, 1), Scribble(((1, 1),), 1)):
        with pytest.raises(GeometryError, match="expected at most 268435456 pixels"):
            region.to_mask(ImageSize(2**20, 2**20))


def distance(x: float, y: float, start: tuple[float, float], end: tuple[float, float]) -> float:
    """Of a place to a segment, the plain way."""
    right, down = end[0] - start[0], end[1] - start[1]
    squared = right**2 + down**2
    along = ((x - start[0]) * right + (y - start[1]) * down) / squared if squared > 1e-30 else 0
    along = min(max(along, 0), 1)
    return math.hypot(x - start[0] - along * right, y - start[1] - along * down)


places = st.tuples(st.floats(-4, 20), st.floats(-4, 16)) | st.tuples(
    st.integers(-2, 18), st.integers(-2, 14)
).map(lambda place: (float(place[0]), float(place[1])))


@settings(max_examples=60, deadline=None)
@given(st.lists(places, min_size=1, max_size=4), st.floats(1.5, 12))
def test_a_scribble_covers_the_centres_within_half_its_width(
    points: list[tuple[float, float]], width: float
) -> None:
    starts, ends = (points[:-1], points[1:]) if len(points) > 1 else (points, points)
    distances = np.array(
        [
            [
                min(distance(c + 0.5, r + 0.5, a, b) for a, b in zip(starts, ends, strict=True))
                for c in range(SIZE.width)
            ]
            for r in range(SIZE.height)
        ]
    )
    clear, near = distances > width / 2 + 1e-6, distances < width / 2 - 1e-6
    try:
        array = Scribble(tuple(points), width).to_mask(SIZE).array
    except GeometryError:
        array = np.zeros(tuple(SIZE), np.bool_)
    assert array[near].all()
    assert not array[clear].any()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 16), st.floats(0, 12)), min_size=1, max_size=4),
    st.floats(1e-6, 1),
)
def test_a_scribble_however_thin_covers_every_pixel_it_passes(
    points: list[tuple[float, float]], width: float
) -> None:
    array = Scribble(tuple(points), width).to_mask(SIZE).array
    steps = np.linspace(0, 1, 50)[:, None]
    for start, end in zip(points, points[1:] or points, strict=False):
        passed = np.array(start) * (1 - steps) + np.array(end) * steps
        columns, rows = np.minimum(passed, (15.5, 11.5)).astype(int).T
        assert array[rows, columns].all()


def test_an_almost_level_stroke_is_drawn() -> None:
    flat = Scribble(((1, 5), (15, 5)), 2).to_mask(SIZE)
    assert Scribble(((1, 5), (15, 5 + 1e-300)), 2).to_mask(SIZE) == flat
    upright = Scribble(((5, 1), (5, 11)), 2).to_mask(SIZE)
    assert Scribble(((5, 1), (5 + 1e-300, 11)), 2).to_mask(SIZE) == upright


def test_many_segments_are_drawn_in_parts() -> None:
    size = ImageSize(600, 20)
    points = tuple((5.0 + index % 2, 600.0 * (index % 2)) for index in range(1200))
    assert Scribble(points, 3).to_mask(size) == Scribble(points[:3], 3).to_mask(size)


def test_a_segment_longer_than_a_part_is_drawn_whole() -> None:
    size = ImageSize(300_000, 2)
    assert Scribble(((1, 0), (1, 300_000)), 1).to_mask(size).area == 600_000

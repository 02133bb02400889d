"""Regions such as a person might give, and points on masks made of polygons."""

from collections.abc import Callable
from math import cos, pi, sin

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deixis.data.tasks import DEFAULT_RULES, TASKS, Rules
from deixis.data.tasks.answers import point_on
from deixis.data.tasks.inside import outlines, surely_inside
from deixis.data.tasks.prompts import draw_region, filled, with_region
from deixis.geometry import Box, CodedMask, ImageSize, Mask, Point, Scribble
from deixis.structures import Instance, Sample

SIZE = ImageSize(60, 80)


@pytest.mark.parametrize("kind", [Point, Scribble, Box, Mask])
def test_regions_lie_on_their_instance(kind: Callable[..., object], samples: list[Sample]) -> None:
    rng = np.random.default_rng(3)
    met = 0
    for sample in samples:
        for instance in sample.instances:
            region = draw_region(instance, sample, rng, DEFAULT_RULES)
            assert instance.mask is not None
            places = []
            if isinstance(region, Point):
                places = [(region.x, region.y)]
            elif isinstance(region, Scribble):
                places = list(region.points)
            assert all(instance.mask.array[int(y), int(x)] for x, y in places)
            met += type(region) is kind
    assert met > 10


def test_thin_and_empty_masks_have_points() -> None:
    thin = np.zeros(tuple(SIZE), np.bool_)
    thin[10, 20] = True
    sample = Sample("thin", np.zeros((1, 1, 3), np.uint8), SIZE)
    for array, places in ((thin, {(20.5, 10.5)}), (np.zeros_like(thin), None)):
        instance = Instance("line", Box(0.0, 0.0, 80.0, 60.0), mask=Mask(array))
        point = draw_region(instance, sample, np.random.default_rng(0), DEFAULT_RULES, kind="point")
        assert isinstance(point, Point)
        assert places is None or (point.x, point.y) in places
        assert point_on(instance) == (Point(20.5, 10.5) if places else Point(40.0, 30.0))


def test_a_region_replaces_its_slot() -> None:
    point = Point(1.0, 2.0)
    assert with_region("what is <region>?", point, slot="<region>") == ("What is ", point, "?")
    assert with_region("<region>?", point, slot="<region>") == (point, "?")
    assert with_region("what is it?", point, slot="<region>") == ("what is it? ", point)


def test_slots_take_words_regions_and_both() -> None:
    point, box = Point(1.0, 2.0), Box(0.0, 0.0, 1.0, 1.0)
    text = "what of {a}, {b} and {c}?"
    both = ("the dog at ", box)
    assert filled(text, {"a": "it", "b": point, "c": both}) == (
        *("What of it, ", point, " and the dog at ", box, "?"),
    )
    assert filled("{a}{b}", {"a": point, "b": "!"}) == (point, "!")
    # a user's prompt may leave a region out
    assert filled("what is it?", {"a": point}) == ("What is it? ", point)


def _polygon(center: tuple[float, float], radii: list[float]) -> list[float]:
    x, y = center
    turns = [2 * pi * step / len(radii) for step in range(len(radii))]
    corners = [(x + r * cos(t), y + r * sin(t)) for r, t in zip(radii, turns, strict=True)]
    return [value for corner in corners for value in corner]


RADII = st.lists(st.floats(2, 35), min_size=3, max_size=9)
CENTERS = st.tuples(st.floats(5, 75), st.floats(5, 55))


@given(st.lists(st.builds(_polygon, CENTERS, RADII), min_size=1, max_size=3), st.data())
def test_points_inside_polygons_are_on_their_mask(
    polygons: list[list[float]], data: st.DataObject
) -> None:
    array = Mask.from_polygons(polygons, SIZE).array
    for _ in range(20):
        x, y = data.draw(st.integers(0, 79)), data.draw(st.integers(0, 59))
        if surely_inside(polygons, x + 0.5, y + 0.5):
            assert array[y, x]


def test_most_points_in_a_polygon_are_found_without_filling_it() -> None:
    polygon = _polygon((40.0, 30.0), [25.0] * 20)
    found = [surely_inside([polygon], x + 0.5, y + 0.5) for x in range(80) for y in range(60)]
    assert sum(found) > 0.85 * Mask.from_polygons([polygon], SIZE).area
    assert not surely_inside([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0]], 5.0, 5.0)


@pytest.mark.parametrize(
    "radii", [[25.0] * 20, [30.0, 2.0] * 5, [1.5, 1.0, 1.2]], ids=["round", "star", "tiny"]
)
def test_points_on_polygons_lie_on_their_mask(radii: list[float]) -> None:
    mask = CodedMask([_polygon((40.2, 30.3), radii)], SIZE)
    assert outlines(mask) is not None
    assert outlines(Mask(mask.array)) is None
    instance = Instance("thing", Mask(mask.array).to_box(), mask=mask)
    sample = Sample("one", np.zeros((1, 1, 3), np.uint8), SIZE, instances=(instance,))
    rng = np.random.default_rng(0)
    for _ in range(20):
        for task in ("reg_point", "interactive_box_scribble"):
            (turn,) = TASKS[task].make(sample, rng, Rules())
            (region,) = [part for part in turn.question if not isinstance(part, str)]
            assert isinstance(region, Point | Scribble)
            places = region.points if isinstance(region, Scribble) else ((region.x, region.y),)
            assert all(mask.array[int(y), int(x)] for x, y in places)
    assert point_on(instance) == point_on(Instance("thing", instance.box, mask=Mask(mask.array)))
    middle = point_on(instance)
    assert mask.array[int(middle.y), int(middle.x)]


class Untouchable(CodedMask):
    """A mask that fails if its pixels are requested."""

    __slots__ = ()

    @property
    def array(self) -> np.ndarray:
        raise AssertionError("the pixels of a mask were touched")


def test_no_task_fills_a_mask_without_need(samples: list[Sample]) -> None:
    size = ImageSize(100, 100)
    instances = tuple(
        Instance(name, Box(x, 0.0, x + 20.0, 40.0), mask=Untouchable([shape], size))
        for name, x in (("dog", 0.0), ("dog", 30.0), ("cat", 60.0))
        for shape in [[x, 0.0, x + 20.0, 0.0, x + 20.0, 40.0, x, 40.0]]
    )
    scene = samples[0]
    sample = Sample(
        "photo",
        scene.image,
        size,
        instances=instances,
        relations=tuple(r for r in scene.relations if max(r.subject, r.object) < 3),
        absent_categories=("bird",),
        salient=2,
    )
    rng = np.random.default_rng(0)
    made = 0
    for task, spec in TASKS.items():
        # Only the union of several masks needs their pixels.
        for _ in range(0 if task == "semantic" else 20):
            made += len(spec.make(sample, rng, DEFAULT_RULES))
    assert made > 300

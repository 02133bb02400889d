from functools import cache

import numpy as np
import pytest

from deixis.data.scenes import Scene, Thing, draw_scene
from deixis.data.scenes.scene_facts import (
    OPPOSITES,
    Triple,
    salient_subject,
    scene_relations,
)
from deixis.geometry import ImageSize

SIZE = ImageSize(100, 200)
PREDICATES = {
    *("left of", "right of", "above", "below", "in front of", "behind"),
    *("holding", "wearing", "inside", "on"),
}


@cache
def scenes() -> tuple[Scene, ...]:
    return tuple(
        draw_scene(21, index, level=level) for level in ("standard", "hard") for index in range(40)
    )


def scene_of(*boxes: tuple[int, int, int, int]) -> Scene:
    """Return a scene of squares at these boxes, each nearer than the previous ones."""
    labels = np.full((SIZE.height, SIZE.width), -1, np.int16)
    for index, (x1, y1, x2, y2) in enumerate(boxes):
        labels[y1:y2, x1:x2] = index
    things = []
    for index, (x1, y1, x2, y2) in enumerate(boxes):
        rows, columns = np.nonzero(labels == index)
        seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        box = (float(seen[0]), float(seen[1]), float(seen[2]), float(seen[3]))
        things.append(
            Thing(
                kind="shape", name="square", symbol="", color="red", size="small", texture="plain",
                box=box, full_box=(float(x1), float(y1), float(x2), float(y2)),
                center=((x1 + x2) / 2, (y1 + y2) / 2), depth=9.0 - index,
                visibility=len(rows) / ((x2 - x1) * (y2 - y1)),
            )
        )  # fmt: skip
    image = np.zeros((SIZE.height, SIZE.width, 3), np.uint8)
    depth = np.ones((SIZE.height, SIZE.width), np.float32)
    return Scene(0, 0, "plain", "train", SIZE, image, labels, depth, tuple(things))


def test_instances_side_by_side_are_left_and_right_of_each_other() -> None:
    found = scene_relations(scene_of((10, 40, 30, 60), (100, 45, 120, 65)))
    assert set(found) == {Triple(0, "left of", 1), Triple(1, "right of", 0)}


def test_stacked_instances_are_above_and_below() -> None:
    found = scene_relations(scene_of((50, 5, 70, 25), (55, 60, 75, 80)))
    assert set(found) == {Triple(0, "above", 1), Triple(1, "below", 0)}


@pytest.mark.parametrize(
    "other",
    [(100, 80, 120, 100), (32, 40, 52, 60)],
    ids=["on a diagonal", "too close"],
)
def test_borderline_directions_give_no_relation(other: tuple[int, int, int, int]) -> None:
    assert scene_relations(scene_of((20, 20, 40, 40), other)) == ()


def test_an_instance_that_hides_another_is_in_front_of_it() -> None:
    found = scene_relations(scene_of((50, 30, 90, 70), (70, 50, 100, 80)))
    assert set(found) == {Triple(1, "in front of", 0), Triple(0, "behind", 1)}


def test_an_instance_that_only_touches_another_is_not_in_front() -> None:
    assert scene_relations(scene_of((50, 30, 70, 50), (70, 30, 90, 50))) == ()


def test_relations_of_drawn_scenes_have_opposites_and_margins() -> None:
    seen = set()
    for scene in scenes():
        found = scene_relations(scene)
        assert len(set(found)) == len(found)
        for subject, predicate, other in found:
            seen.add(predicate)
            first, second = scene.things[subject], scene.things[other]
            if predicate in OPPOSITES:
                assert (other, OPPOSITES[predicate], subject) in found
            if predicate == "left of":
                assert first.box is not None
                assert second.box is not None
                assert first.box[0] < second.box[0]
                assert first.box[2] < second.box[2]
            elif predicate == "in front of":
                assert first.depth < second.depth
                assert second.visibility < 1
            elif predicate == "holding":
                assert other in first.holds
            elif predicate == "inside":
                assert first.inside == other
    assert seen == PREDICATES


def test_the_subject_is_clearly_the_largest_visible_instance() -> None:
    assert salient_subject(scene_of((0, 0, 40, 40), (100, 0, 110, 10))) == 0
    assert salient_subject(scene_of((0, 0, 40, 40), (100, 0, 138, 40))) is None
    assert salient_subject(scene_of((0, 0, 5, 5))) == 0

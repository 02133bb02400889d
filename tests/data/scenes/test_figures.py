import numpy as np

from deixis.data.scenes.drawing import render
from deixis.data.scenes.figures import joints, roll_pose
from deixis.data.scenes.grounds import Ground
from deixis.data.scenes.scene import Thing
from deixis.data.scenes.seeds import Dice
from deixis.data.scenes.sprites import Draft
from deixis.geometry import COCO_KEYPOINTS, ImageSize

SIZE = ImageSize(120, 160)
RED = (214.0, 38.0, 42.0)


def ground() -> Ground:
    return Ground(
        np.full((3, SIZE.height, SIZE.width), 230, np.float32),
        np.full(SIZE.height, 9, np.float32),
        0,
    )


def figure(x: float = 80, y: float = 60) -> Draft:
    draft = Draft("figure", "person", "red", "large", "plain", 100, RED, RED, x=x, y=y, depth=5)
    draft.pose = roll_pose(Dice([1]))
    return draft


def square(x: float, y: float, extent: float, depth: float) -> Draft:
    return Draft(
        "shape", "square", "blue", "medium", "plain", extent, RED, RED, x=x, y=y, depth=depth
    )


def drawn(*drafts: Draft) -> tuple[Thing, ...]:
    return render(drafts, ground(), SIZE, visibility=0.0).things


def flags(thing: Thing) -> dict[str, int]:
    assert thing.keypoints is not None
    return dict(zip(COCO_KEYPOINTS, thing.keypoints[:, 2].astype(int).tolist(), strict=True))


def test_a_figure_alone_shows_all_keypoints_where_its_joints_are() -> None:
    draft = figure()
    (person,) = drawn(draft)
    assert set(flags(person).values()) == {2}
    assert draft.pose is not None
    assert person.keypoints is not None
    np.testing.assert_array_equal(person.keypoints[:, :2], joints(draft, draft.pose))


def test_left_and_right_keypoints_are_the_persons() -> None:
    (person,) = drawn(figure())
    assert person.keypoints is not None
    place = dict(zip(COCO_KEYPOINTS, person.keypoints[:, 0].tolist(), strict=True))
    for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"):
        assert place[f"left_{part}"] > place[f"right_{part}"]


def test_bodies_are_in_order_from_head_to_foot() -> None:
    (person,) = drawn(figure())
    assert person.keypoints is not None
    height = dict(zip(COCO_KEYPOINTS, person.keypoints[:, 1].tolist(), strict=True))
    order = ("left_eye", "nose", "left_shoulder", "left_hip", "left_knee", "left_ankle")
    assert [height[name] for name in order] == sorted(height[name] for name in order)


def test_a_nearer_instance_hides_keypoints() -> None:
    person, _ = drawn(figure(), square(80, 20, 30, 4))
    seen = flags(person)
    assert {seen[name] for name in COCO_KEYPOINTS[:5]} == {1}
    assert seen["left_knee"] == seen["right_ankle"] == 2


def test_a_farther_instance_hides_no_keypoints() -> None:
    person, _ = drawn(figure(), square(80, 20, 30, 6))
    assert set(flags(person).values()) == {2}


def test_keypoints_off_the_canvas_are_absent() -> None:
    (person,) = drawn(figure(y=90))
    seen = flags(person)
    assert person.keypoints is not None
    assert seen["left_ankle"] == seen["right_ankle"] == 0
    assert not person.keypoints[15:].any()
    assert seen["nose"] == 2


def test_raised_hands_are_drawn_whole() -> None:
    draft = figure(y=70)
    assert draft.pose is not None
    draft.pose.shoulders, draft.pose.elbows = (2.5, 2.5), (0.6, 0.6)
    (person,) = drawn(draft)
    assert person.keypoints is not None
    wrists = person.keypoints[9:11]
    assert person.full_box[1] < wrists[:, 1].min() - 3

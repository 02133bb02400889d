import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deixis.errors import GeometryError
from deixis.geometry import (
    COCO_FLIP_PAIRS,
    COCO_KEYPOINTS,
    ImageSize,
    Keypoints,
    mirrored_order,
)

NAMES = ("nose", "left_eye", "right_eye")


def face(*visibility: int) -> Keypoints:
    positions = np.array([[5, 5], [7, 3], [3, 3]], np.float32)
    return Keypoints(positions, np.array(visibility or (2, 2, 2), np.int8), NAMES)


def test_coco_has_17_keypoints_and_8_pairs() -> None:
    assert len(COCO_KEYPOINTS) == 17
    assert len(COCO_FLIP_PAIRS) == 8
    for left, right in COCO_FLIP_PAIRS:
        assert COCO_KEYPOINTS[left].replace("left_", "right_") == COCO_KEYPOINTS[right]


def test_keypoints_keep_read_only_copies() -> None:
    positions = np.ones((3, 2), np.float32)
    keypoints = Keypoints(positions, np.full(3, 2, np.int8), NAMES)
    positions[0] = 9
    assert keypoints.positions[0].tolist() == [1, 1]
    with pytest.raises(ValueError, match="read-only"):
        keypoints.positions[0] = 9


def test_an_absent_keypoint_has_no_position() -> None:
    positions = np.array([[np.nan, np.inf], [1, 1], [2, 2]], np.float32)
    keypoints = Keypoints(positions, np.array([0, 1, 2], np.int8), NAMES)
    assert keypoints.positions[0].tolist() == [0, 0]
    assert keypoints.num_labeled == 2
    assert len(keypoints) == 3


def test_keypoints_are_equal_by_content() -> None:
    assert face() == face()
    assert len({face(), face(), face(2, 2, 1)}) == 2
    assert face() != NAMES
    minus = Keypoints(np.full((3, 2), -0.0, np.float32), np.full(3, 2, np.int8), NAMES)
    plus = Keypoints(np.zeros((3, 2), np.float32), np.full(3, 2, np.int8), NAMES)
    assert hash(minus) == hash(plus)


@pytest.mark.parametrize(
    ("positions", "visibility", "names", "message"),
    [
        (
            np.zeros((2, 2), np.float32),
            np.zeros(3, np.int8),
            NAMES,
            r"float32 \[3, 2\], got float32",
        ),
        (np.zeros((3, 2)), np.zeros(3, np.int8), NAMES, r"float32 \[3, 2\], got float64 \[3, 2\]"),
        (np.zeros((3, 2), np.float32), np.zeros(2, np.int8), NAMES, r"visibility int8 \[3\], got"),
        (np.zeros((3, 2), np.float32), np.zeros(3), NAMES, r"int8 \[3\], got float64 \[3\]"),
        (np.zeros((3, 2), np.float32), np.array([0, 3, 0], np.int8), NAMES, "'left_eye': .* got 3"),
        (np.zeros((3, 2), np.float32), np.array([0, 0, -1], np.int8), NAMES, "'right_eye': .* -1"),
        (np.full((3, 2), np.nan, np.float32), np.ones(3, np.int8), NAMES, "'nose': .* finite"),
        (np.full((3, 2), 1e9, np.float32), np.ones(3, np.int8), NAMES, "'nose': .* finite"),
        (np.zeros((2, 2), np.float32), np.zeros(2, np.int8), ("a", "a"), "expected each name once"),
    ],
)
def test_unsound_keypoints_are_refused(
    positions: np.ndarray, visibility: np.ndarray, names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(GeometryError, match=message):
        Keypoints(positions, visibility, names)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 600), st.integers(1, 600), st.integers(0, 2)),
        min_size=17,
        max_size=17,
    )
)
def test_an_annotation_is_read_and_written(triples: list[tuple[int, int, int]]) -> None:
    values = [number for x, y, seen in triples for number in ((x, y, seen) if seen else (0, 0, 0))]
    keypoints = Keypoints.from_annotation(values)
    assert keypoints.to_annotation() == values
    assert keypoints.names == COCO_KEYPOINTS


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "keypoints: expected a list of 9 numbers, got None"),
        ([0] * 8, "keypoints: expected a list of 9 numbers, got"),
        ([0, 0, 0, 1, 1, 5, 0, 0, 0], "keypoint 'left_eye': expected visibility 0, 1 or 2, got 5"),
        ([0, 0, 0, 1, 1, 1.5, 0, 0, 0], "keypoint 'left_eye': expected visibility 0, 1 or 2"),
        ([0, 0, 0, 1, "1", 1, 0, 0, 0], "keypoint 'left_eye': expected a number, got '1'"),
        ([0, 0, 0, 1, 1, True, 0, 0, 0], "keypoint 'left_eye': expected a number, got True"),
        ([0, 0, 0, 0, 0, 0, float("inf"), 0, 2], "keypoint 'right_eye': expected a finite number"),
    ],
)
def test_a_damaged_annotation_is_refused(values: object, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        Keypoints.from_annotation(values, names=NAMES)


def test_a_mirror_exchanges_left_and_right() -> None:
    mirrored = face(2, 1, 2).mirrored()
    assert mirrored.positions.tolist() == [[5, 5], [3, 3], [7, 3]]
    assert mirrored.visibility.tolist() == [2, 2, 1]
    assert mirrored.names == NAMES
    assert mirrored.mirrored() == face(2, 1, 2)


def test_a_side_without_its_partner_has_no_mirror_image() -> None:
    with pytest.raises(
        GeometryError, match="'left_eye': its mirror image 'right_eye' is not there"
    ):
        mirrored_order(("nose", "left_eye"))


def test_keypoints_outside_become_absent() -> None:
    assert face().clip(ImageSize(10, 6)).visibility.tolist() == [2, 0, 2]

"""Keypoints: named positions on one body."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int8

from deixis.errors import GeometryError
from deixis.geometry.checks import COORDINATE_LIMIT, checked_coordinate, checks_itself, shown
from deixis.geometry.points import points_inside
from deixis.geometry.size import ImageSize

COCO_KEYPOINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
"""The 17 keypoints of a person in COCO, in COCO's order."""


def mirrored_order(names: Sequence[str]) -> tuple[int, ...]:
    """Return the index of the mirror image of each name.

    ``left_x`` and ``right_x`` mirror each other; any other name mirrors itself.

    Raises:
        GeometryError: One name of a pair is missing.
    """
    places = {name: index for index, name in enumerate(names)}
    order = []
    for name in names:
        mirror = name
        for side, other in (("left_", "right_"), ("right_", "left_")):
            if name.startswith(side):
                mirror = other + name.removeprefix(side)
        if mirror not in places:
            raise GeometryError(f"keypoint {name!r}: its mirror image {mirror!r} is not there")
        order.append(places[mirror])
    return tuple(order)


COCO_FLIP_PAIRS = tuple(
    (index, mirror) for index, mirror in enumerate(mirrored_order(COCO_KEYPOINTS)) if index < mirror
)
"""Indices of the COCO keypoints that are mirror images of each other."""


@checks_itself
@dataclass(frozen=True, slots=True, eq=False)
class Keypoints:
    """Named positions on one body, in pixels, with their visibility.

    ``visibility`` is COCO's: 0 absent, 1 occluded, 2 visible. The position of an absent keypoint
    has no meaning and is stored as (0, 0). The arrays are read-only copies.

    Raises:
        GeometryError: Shapes or types do not agree, a position is not finite, a visibility is
            not 0, 1 or 2, or a name is repeated.
    """

    positions: Float32[np.ndarray, "k 2"]
    visibility: Int8[np.ndarray, " k"]
    names: tuple[str, ...] = COCO_KEYPOINTS

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        count = len(self.names)
        if len(set(self.names)) != count:
            raise GeometryError(f"keypoints: expected each name once, got {shown(self.names)}")
        positions, visibility = np.array(self.positions), np.array(self.visibility)
        if positions.dtype != np.float32 or positions.shape != (count, 2):
            raise GeometryError(
                f"keypoints: expected positions float32 [{count}, 2], "
                f"got {positions.dtype} {list(positions.shape)}"
            )
        if visibility.dtype != np.int8 or visibility.shape != (count,):
            raise GeometryError(
                f"keypoints: expected visibility int8 [{count}], "
                f"got {visibility.dtype} {list(visibility.shape)}"
            )
        for name, value in zip(self.names, visibility.tolist(), strict=True):
            if not 0 <= value <= 2:
                raise GeometryError(
                    f"keypoint {name!r}: expected visibility 0, 1 or 2, got {value}"
                )
        positions[visibility == 0] = 0
        wrong = ~(np.abs(positions) <= COORDINATE_LIMIT).all(axis=1)
        if wrong.any():
            index = int(wrong.argmax())
            raise GeometryError(
                f"keypoint {self.names[index]!r}: expected finite numbers of at most "
                f"{COORDINATE_LIMIT} in size, got {positions[index].tolist()}"
            )
        positions.flags.writeable = False
        visibility.flags.writeable = False
        object.__setattr__(self, "positions", positions)
        object.__setattr__(self, "visibility", visibility)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Keypoints)
            and self.names == other.names
            and np.array_equal(self.positions, other.positions)
            and np.array_equal(self.visibility, other.visibility)
        )

    def __hash__(self) -> int:
        # Adding 0 turns -0.0 into 0.0: equal arrays need equal bytes.
        return hash((self.names, (self.positions + 0).tobytes(), self.visibility.tobytes()))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def num_labeled(self) -> int:
        """The number of keypoints that are not absent."""
        return int(np.count_nonzero(self.visibility))

    @classmethod
    def from_annotation(
        cls, values: object, *, names: tuple[str, ...] = COCO_KEYPOINTS
    ) -> "Keypoints":
        """Read and check COCO's flat list ``[x, y, v, x, y, v, ...]``.

        Raises:
            GeometryError: There are not three numbers for each name, or a number is invalid.
        """
        if not isinstance(values, list | tuple) or len(values) != 3 * len(names):
            raise GeometryError(
                f"keypoints: expected a list of {3 * len(names)} numbers, got {shown(values)}"
            )
        rows = []
        for index, value in enumerate(values):
            number = checked_coordinate(value, f"keypoint {names[index // 3]!r}")
            if index % 3 == 2 and number not in {0, 1, 2}:
                raise GeometryError(
                    f"keypoint {names[index // 3]!r}: expected visibility 0, 1 or 2, got {number}"
                )
            rows.append(number)
        table = np.array(rows).reshape(-1, 3)
        return cls(table[:, :2].astype(np.float32), table[:, 2].astype(np.int8), names)

    def to_annotation(self) -> list[float | int]:
        """Return COCO's flat list ``[x, y, v, x, y, v, ...]``."""
        return [
            value
            for (x, y), seen in zip(self.positions.tolist(), self.visibility.tolist(), strict=True)
            for value in (x, y, seen)
        ]

    def mirrored(self) -> "Keypoints":
        """Return the keypoints with left and right exchanged; the order of names stays.

        Raises:
            GeometryError: ``left_x`` exists without ``right_x``, or the other way round.
        """
        order = list(mirrored_order(self.names))
        return Keypoints(self.positions[order], self.visibility[order], self.names)

    def clip(self, size: ImageSize) -> "Keypoints":
        """Return the keypoints; those outside an image of ``size`` become absent."""
        inside = points_inside(self.positions, size)
        return Keypoints(
            self.positions,
            np.where(inside, self.visibility, np.int8(0)).astype(np.int8),
            self.names,
        )

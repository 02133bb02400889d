"""Locations of instances: in the picture, among similar ones, and relative to one another.

Each test has a strict threshold for certain instances and a loose one for possible instances. Words
are not used if some instance is possible but not certain.
"""

from collections.abc import Callable
from itertools import pairwise

from deixis.data.scenes.describe import Extent, Facts, bit_indices, overlap

REGION_CERTAIN = 0.4
REGION_POSSIBLE = 0.5
"""An instance is certainly on the left if its centre is left of the first value, and certainly not if
it is right of the second."""
REGION_REACH = 0.62
"""The right edge of an instance that is certainly on the left is left of this."""
MIDDLE_CERTAIN = 0.1
MIDDLE_POSSIBLE = 0.22
"""Distances of a centre from the middle of the picture on either axis: certain, possible."""

ORDER_MARGIN = 0.06
"""Least distance of centres, on one axis, between an instance and the next of an order."""
AREA_RATIO = 1.4
"""Least ratio of box areas between the largest instance and the next."""

SIDE_CERTAIN = 0.08
SIDE_POSSIBLE = 0.02
SIDE_OVERLAP = 0.25
"""For "left of": distance of centres, and largest overlap of the narrower box on that axis."""
NEAR_CERTAIN = 0.08
NEAR_POSSIBLE = 0.18
"""For "next to": the gap between two boxes."""

REGIONS = (
    *("left", "right", "top", "bottom", "middle"),
    *("top left", "top right", "bottom left", "bottom right"),
)
SIDES = ("left", "right", "above", "below")


def region(facts: Facts, name: str) -> Extent:
    """Return the instances in a region of the picture."""
    key = (f"region {name}", 0)
    if key not in facts.relations_seen:
        facts.relations_seen[key] = _region(facts, name)
    return facts.relations_seen[key]


def _region(facts: Facts, name: str) -> Extent:
    if " " in name:
        vertical, horizontal = name.split(" ")
        return region(facts, vertical) & region(facts, horizontal)
    certain = possible = 0
    for index, (x, y) in enumerate(facts.centers):
        x1, y1, x2, y2 = facts.boxes[index]
        if name == "middle":
            distance = max(abs(x - 0.5), abs(y - 0.5))
            sure, maybe = distance < MIDDLE_CERTAIN, distance < MIDDLE_POSSIBLE
        else:
            place, end = {
                "left": (x, x2),
                "right": (1 - x, 1 - x1),
                "top": (y, y2),
                "bottom": (1 - y, 1 - y1),
            }[name]
            sure = place < REGION_CERTAIN and end < REGION_REACH
            maybe = place < REGION_POSSIBLE
        certain |= sure << index
        possible |= maybe << index
    return Extent(certain & facts.clear, possible)


def ordered(facts: Facts, base: Extent, direction: str) -> tuple[int, ...]:
    """Return the instances of ``base`` from the ``left``, ``right``, ``top`` or ``bottom``.

    Empty if the order or ``base`` is not certain.
    """
    if not base.is_exact:
        return ()
    axis, sign = {"left": (0, 1), "right": (0, -1), "top": (1, 1), "bottom": (1, -1)}[direction]
    places = sorted((sign * facts.centers[i][axis], i) for i in bit_indices(base.certain))
    gaps = [after[0] - before[0] for before, after in pairwise(places)]
    return tuple(i for _, i in places) if all(gap >= ORDER_MARGIN for gap in gaps) else ()


def outermost(facts: Facts, base: Extent, direction: str) -> int | None:
    """Return the instance of ``base`` farthest to one side; None if not certain."""
    if not base.is_exact or base.certain.bit_count() < 2:
        return None
    axis, sign = {"left": (0, 1), "right": (0, -1), "top": (1, 1), "bottom": (1, -1)}[direction]
    places = sorted((sign * facts.centers[i][axis], i) for i in bit_indices(base.certain))
    return places[0][1] if places[1][0] - places[0][0] >= ORDER_MARGIN else None


def by_area(facts: Facts, base: Extent, extreme: str) -> int | None:
    """Return the ``largest`` or ``smallest`` instance of ``base``; None if not certain.

    The order is not certain if an instance is partly hidden, as its size is then unknown.
    """
    members = bit_indices(base.certain)
    if not base.is_exact or len(members) < 2:
        return None
    if any(facts.things[index].visibility < 0.85 for index in members):
        return None
    sizes = sorted(((facts.area(index), index) for index in members), reverse=extreme == "largest")
    small, large = sorted((sizes[0][0], sizes[1][0]))
    return sizes[0][1] if large >= AREA_RATIO * small else None


def beside(facts: Facts, side: str, anchor: int) -> Extent:
    """Return instances on one side of ``anchor``: ``left``, ``right``, ``above`` or ``below``."""
    return _cached(facts, side, anchor, _SIDE_TESTS[side])


def near(facts: Facts, anchor: int) -> Extent:
    """Return instances next to ``anchor``, with a small visible gap."""
    return _cached(facts, "near", anchor, _is_near)


def resting_on(facts: Facts, anchor: int) -> Extent:
    """Return the instances that stand on a surface."""
    return _carried(facts, "on", anchor, lambda index: facts.things[index].on == anchor)


def contained(facts: Facts, anchor: int) -> Extent:
    """Return the instances inside a container."""
    return _carried(facts, "inside", anchor, lambda index: facts.things[index].inside == anchor)


def held_by(facts: Facts, anchor: int) -> Extent:
    """Return the instances that a figure holds."""
    return _carried(facts, "held", anchor, lambda index: index in facts.things[anchor].holds)


def worn_by(facts: Facts, anchor: int) -> Extent:
    """Return the instances that a figure wears."""
    return _carried(facts, "worn", anchor, lambda index: index in facts.things[anchor].wears)


def holding(facts: Facts, anchor: int) -> Extent:
    """Return the figures that hold ``anchor``."""
    return _carried(facts, "holding", anchor, lambda index: anchor in facts.things[index].holds)


def wearing(facts: Facts, anchor: int) -> Extent:
    """Return the figures that wear ``anchor``."""
    return _carried(facts, "wearing", anchor, lambda index: anchor in facts.things[index].wears)


def _carried(facts: Facts, name: str, anchor: int, true: Callable[[int], bool]) -> Extent:
    # overlapping boxes may look like the relation, so they are possible
    def test(facts: Facts, index: int, anchor: int) -> tuple[bool, bool]:
        holds = true(index)
        return holds, holds or overlap(facts.boxes[index], facts.boxes[anchor])

    return _cached(facts, name, anchor, test)


_Test = Callable[[Facts, int, int], tuple[bool, bool]]


def _cached(facts: Facts, name: str, anchor: int, test: _Test) -> Extent:
    key = (name, anchor)
    if key not in facts.relations_seen:
        certain = possible = 0
        for index in range(facts.count):
            if index != anchor:
                sure, maybe = test(facts, index, anchor)
                certain |= sure << index
                possible |= (sure or maybe) << index
        facts.relations_seen[key] = Extent(certain & facts.clear, possible)
    return facts.relations_seen[key]


def _side_test(axis: int, sign: int) -> _Test:
    def test(facts: Facts, index: int, anchor: int) -> tuple[bool, bool]:
        distance = sign * (facts.centers[anchor][axis] - facts.centers[index][axis])
        box, other = facts.boxes[index], facts.boxes[anchor]
        shared = min(box[axis + 2], other[axis + 2]) - max(box[axis], other[axis])
        narrow = min(box[axis + 2] - box[axis], other[axis + 2] - other[axis])
        apart = shared <= SIDE_OVERLAP * narrow
        return distance >= SIDE_CERTAIN and apart, distance > SIDE_POSSIBLE

    return test


_SIDE_TESTS = {
    "left": _side_test(0, 1),
    "right": _side_test(0, -1),
    "above": _side_test(1, 1),
    "below": _side_test(1, -1),
}


def _is_near(facts: Facts, index: int, anchor: int) -> tuple[bool, bool]:
    box, other = facts.boxes[index], facts.boxes[anchor]
    across = max(box[0], other[0]) - min(box[2], other[2])
    down = max(box[1], other[1]) - min(box[3], other[3])
    gap = max(across, down)
    return 0 < gap < NEAR_CERTAIN and min(across, down) < 0, gap < NEAR_POSSIBLE

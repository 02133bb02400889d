"""Certain facts of a scene: relations, places, counts and the main subject.

All facts have margins: cases that a person might judge either way are left out.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from deixis.data.scenes.scene import Corners, Scene, Thing

MIN_DISTANCE = 0.12
"""Least distance of centres for a word of direction, as a fraction of the long side."""
MIN_DOMINANCE = 2.0
"""Least ratio of the distance along a direction to the distance across it."""
MIN_SEEN = 0.5
"""Least visible share of instances in a relation of direction."""
MIN_HIDDEN = 0.04
"""Least hidden share of an instance that is behind another."""
MIN_CONTACT = 4
"""Least length of the border between these two, in pixels of a canvas of 224."""
MAX_OVERLAP = 0.25
"""Largest share of the shorter side by which two instances may overlap along a direction."""

SALIENT_RATIO = 1.5
"""Least ratio of the visible area of the main subject to that of any other instance."""

OPPOSITES = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "in front of": "behind",
    "behind": "in front of",
}


class Triple(NamedTuple):
    """``subject predicate object``; subject and object are indices of instances."""

    subject: int
    predicate: str
    object: int


def scene_relations(scene: Scene) -> tuple[Triple, ...]:
    """Return all certain relations between two instances, with the converse if it has a word.

    ``holding``, ``wearing``, ``inside`` and ``on`` come from the scene; instances with such a
    relation have no relation of direction or depth.
    """
    given = list(_given(scene))
    related = {frozenset((triple.subject, triple.object)) for triple in given}
    found = list(given)
    contact = contact_lengths(scene)
    for first in range(len(scene.things)):
        for second in range(first + 1, len(scene.things)):
            if frozenset((first, second)) in related:
                continue
            for predicate in (
                _direction(scene, first, second),
                _order(scene, first, second, contact),
            ):
                if predicate is not None:
                    found.append(Triple(first, predicate, second))
                    found.append(Triple(second, OPPOSITES[predicate], first))
    return tuple(found)


def _given(scene: Scene) -> Iterator[Triple]:
    for index, thing in enumerate(scene.things):
        for other in thing.holds:
            yield Triple(index, "holding", other)
        for other in thing.wears:
            yield Triple(index, "wearing", other)
        if thing.inside is not None:
            yield Triple(index, "inside", thing.inside)
        if thing.on is not None:
            yield Triple(index, "on", thing.on)


def _direction(scene: Scene, first: int, second: int) -> str | None:
    a, b = scene.things[first], scene.things[second]
    if min(a.visibility, b.visibility) < MIN_SEEN:
        return None
    box, other = visible_box(a), visible_box(b)
    across = (other[0] + other[2] - box[0] - box[2]) / 2
    down = (other[1] + other[3] - box[1] - box[3]) / 2
    axis = 0 if abs(across) >= abs(down) else 1
    far, near = max(abs(across), abs(down)), min(abs(across), abs(down))
    shared = min(box[axis + 2], other[axis + 2]) - max(box[axis], other[axis])
    shorter = min(box[axis + 2] - box[axis], other[axis + 2] - other[axis])
    if far < MIN_DISTANCE * max(scene.size) or far < MIN_DOMINANCE * near:
        return None
    if shared > MAX_OVERLAP * shorter:
        return None
    if axis == 0:
        return "left of" if across > 0 else "right of"
    return "above" if down > 0 else "below"


def _order(
    scene: Scene, first: int, second: int, contact: Int[ndarray, "things things"]
) -> str | None:
    if covers(scene, first, second, contact):
        return "in front of"
    return "behind" if covers(scene, second, first, contact) else None


def covers(scene: Scene, near: int, far: int, contact: Int[ndarray, "things things"]) -> bool:
    """Return whether one instance visibly hides a part of another.

    ``contact`` is the result of `contact_lengths` for the scene.
    """
    return bool(
        scene.things[near].depth < scene.things[far].depth
        and contact[near, far] >= MIN_CONTACT * max(scene.size) / 224
        and scene.things[far].visibility <= 1 - MIN_HIDDEN
    )


def contact_lengths(scene: Scene) -> Int[ndarray, "things things"]:
    """Return the symmetric matrix of border lengths between instances, in pixels."""
    count = len(scene.things) + 1
    labels = scene.labels.astype(np.int32) + 1
    across = labels[:, :-1] * count + labels[:, 1:]
    down = labels[:-1] * count + labels[1:]
    pairs = np.concatenate([across.ravel(), down.ravel()])
    table = np.bincount(pairs, minlength=count * count).reshape(count, count)[1:, 1:]
    return np.asarray(table + table.T)


def visible_box(thing: Thing) -> Corners:
    """Return the box of the visible part of an instance."""
    return thing.full_box if thing.box is None else thing.box


def salient_subject(scene: Scene) -> int | None:
    """Return the index of the clearly largest visible instance; None if two are similarly large."""
    areas = np.bincount(scene.labels.ravel().astype(np.int64) + 1, minlength=len(scene.things) + 1)
    order = sorted(range(len(scene.things)), key=lambda index: (-int(areas[index + 1]), index))
    if len(order) > 1 and areas[order[0] + 1] < SALIENT_RATIO * areas[order[1] + 1]:
        return None
    return order[0]

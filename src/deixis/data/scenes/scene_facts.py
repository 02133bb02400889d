"""What can be said of a scene beyond doubt: relations, places, counts and the main subject.

Everything has margins: what a person might see either way is not said.
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
"""How many times farther apart things must be along a direction than across it."""
MIN_SEEN = 0.5
"""Least visible part of things that a direction is said of."""
MIN_HIDDEN = 0.04
"""Least hidden part of a thing that another is in front of."""
MIN_CONTACT = 4
"""Least length of the border between those two, in pixels of a canvas of 224."""
MAX_OVERLAP = 0.25
"""How much of the shorter side two things may share along their direction."""

SALIENT_RATIO = 1.5
"""How many times larger the visible area of a main subject is than that of any other thing."""

OPPOSITES = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "in front of": "behind",
    "behind": "in front of",
}


class Triple(NamedTuple):
    """``subject predicate object``; both are indices of things."""

    subject: int
    predicate: str
    object: int


def scene_relations(scene: Scene) -> tuple[Triple, ...]:
    """Every relation between two things that holds beyond doubt, both ways where there are two.

    ``holding``, ``wearing``, ``inside`` and ``on`` come from the scene; things that are so
    related have no relation of direction or depth besides.
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
    """Whether one thing hides a part of another, as far as the picture shows it.

    ``contact`` is what ``contact_lengths`` gives for the scene.
    """
    return bool(
        scene.things[near].depth < scene.things[far].depth
        and contact[near, far] >= MIN_CONTACT * max(scene.size) / 224
        and scene.things[far].visibility <= 1 - MIN_HIDDEN
    )


def contact_lengths(scene: Scene) -> Int[ndarray, "things things"]:
    """Length of the border between each two things, in pixels, the same both ways."""
    count = len(scene.things) + 1
    labels = scene.labels.astype(np.int32) + 1
    across = labels[:, :-1] * count + labels[:, 1:]
    down = labels[:-1] * count + labels[1:]
    pairs = np.concatenate([across.ravel(), down.ravel()])
    table = np.bincount(pairs, minlength=count * count).reshape(count, count)[1:, 1:]
    return np.asarray(table + table.T)


def visible_box(thing: Thing) -> Corners:
    """The box of what is seen of a thing."""
    return thing.full_box if thing.box is None else thing.box


def salient_subject(scene: Scene) -> int | None:
    """The thing that a picture is of: clearly the largest in view; None where none is."""
    areas = np.bincount(scene.labels.ravel().astype(np.int64) + 1, minlength=len(scene.things) + 1)
    order = sorted(range(len(scene.things)), key=lambda index: (-int(areas[index + 1]), index))
    if len(order) > 1 and areas[order[0] + 1] < SALIENT_RATIO * areas[order[1] + 1]:
        return None
    return order[0]

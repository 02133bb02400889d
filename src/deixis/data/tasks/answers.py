"""Building blocks of answers: unit groups, grounded phrases, and texts with fewer units."""

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from deixis.data.tasks.inside import outlines, surely_inside
from deixis.data.tasks.rules import Rules
from deixis.geometry import Point
from deixis.language import counted, many
from deixis.structures import (
    GroundedPhrase,
    GroundedText,
    Instance,
    Reference,
    Sample,
    Unit,
    UnitGroup,
)

Item = TypeVar("Item")
Piece = str | tuple[str, UnitGroup]
"""Plain words, or a phrase with its unit group."""

BOX = ("box",)
MASK = ("mask",)
POINT = ("point",)
KEYPOINT = ("keypoint",)
COMPOSITE = ("box", "mask")
POSE = ("box", "keypoint")


def pick(items: Sequence[Item], rng: np.random.Generator) -> Item:
    """Return a random item; all items are equally likely."""
    # integers() takes ten times as long for a single draw
    return items[int(rng.random() * len(items))]


def shuffled(items: Iterable[Item], rng: np.random.Generator) -> list[Item]:
    """Return the items in random order; all orders are equally likely."""
    mixed = list(items)
    for last in range(len(mixed) - 1, 0, -1):
        other = int(rng.random() * (last + 1))
        mixed[last], mixed[other] = mixed[other], mixed[last]
    return mixed


def capitalised(text: str) -> str:
    """Return the text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def ended(text: str) -> str:
    """Return words of a source as a sentence: with a capital, and a full stop if they have none.

    >>> ended("yes"), ended("Two dogs.")
    ('Yes.', 'Two dogs.')
    """
    words = capitalised(text.strip())
    return words if words.endswith((".", "!", "?", '"')) else f"{words}."


def left_to_right(sample: Sample, indices: Iterable[int]) -> list[int]:
    """Return instances ordered by the centre of their boxes: from the left, then from the top."""
    instances = sample.instances
    places = []
    for index in indices:
        box = instances[index].box
        places.append((box.x1 + box.x2, box.y1 + box.y2, index))
    places.sort()
    return [index for _, _, index in places]


def ordered(sample: Sample, indices: Sequence[int], rules: Rules) -> list[int]:
    """Return instances in the order that the rules give to answers."""
    if len(indices) < 2:
        return list(indices)
    placed = left_to_right(sample, indices)
    if rules.order == "area":
        placed.sort(key=lambda index: sample.instances[index].box.area)
    return placed


def unit_group(
    sample: Sample, indices: Sequence[int], unit_types: tuple[str, ...], rules: Rules
) -> UnitGroup | None:
    """Return a unit group with a reference for each instance, in the order of the rules.

    None if an instance lacks one of the units.
    """
    references = []
    for index in ordered(sample, indices, rules):
        instance = sample.instances[index]
        units = tuple([unit_of(instance, unit_type) for unit_type in unit_types])
        for unit in units:
            if unit is None:
                return None
        references.append(Reference(units))
    return UnitGroup(unit_types, tuple(references))


def unit_of(instance: Instance, unit_type: str) -> Unit | None:
    """Return the unit of an instance; None if the instance lacks a unit of that type."""
    if unit_type == "box":
        return instance.box
    if unit_type == "mask":
        return instance.mask
    if unit_type == "point":
        return point_on(instance)
    return instance.keypoints if has_keypoints(instance) else None


def has_keypoints(instance: Instance) -> bool:
    """Return whether at least one keypoint of an instance is annotated."""
    return instance.keypoints is not None and bool(instance.keypoints.visibility.any())


def point_on(instance: Instance) -> Point:
    """Return the point on an instance that is nearest to the centre of its box.

    Without a mask, or if the mask covers the centre, this is the centre of the box; otherwise it is
    the centre of a pixel of the mask.
    """
    box, mask = instance.box, instance.mask
    x, y = box.center
    polygons = None if mask is None else outlines(mask)
    if mask is None or (polygons is not None and surely_inside(polygons, x, y)):
        return Point(x, y)
    if mask.array[int(y), int(x)]:
        return Point(x, y)
    left, top = int(box.x1), int(box.y1)
    inner = mask.array[top : math.ceil(box.y2), left : math.ceil(box.x2)]
    rows, columns = np.nonzero(inner)
    if rows.size == 0:
        return Point(x, y)
    nearest = int(((columns + (left + 0.5 - x)) ** 2 + (rows + (top + 0.5 - y)) ** 2).argmin())
    return Point(left + int(columns[nearest]) + 0.5, top + int(rows[nearest]) + 0.5)


def pointing(before: str, phrase: str, after: str, group: UnitGroup) -> GroundedText:
    """Return a text with one grounded phrase."""
    start = len(before)
    grounded = GroundedPhrase(phrase, start, start + len(phrase), (group,))
    return GroundedText(f"{before}{phrase}{after}", (grounded,))


def written(pieces: Iterable[Piece]) -> GroundedText:
    """Join pieces to a text that begins with a capital."""
    text = ""
    phrases = []
    for piece in pieces:
        words = piece if isinstance(piece, str) else piece[0]
        if not text:
            words = capitalised(words)
        if not isinstance(piece, str):
            start = len(text)
            phrases.append(GroundedPhrase(words, start, start + len(words), (piece[1],)))
        text += words
    return GroundedText(text, tuple(phrases))


def listed(items: Sequence[Sequence[Piece]]) -> list[Piece]:
    """Join items with commas and a final "and"."""
    pieces: list[Piece] = []
    for position, item in enumerate(items):
        if position:
            pieces.append(" and " if position == len(items) - 1 else ", ")
        pieces += item
    return pieces


def by_class(sample: Sample, indices: Iterable[int]) -> list[tuple[str, list[int]]]:
    """Return classes in alphabetical order with their instances."""
    members: dict[str, list[int]] = {}
    for index in indices:
        members.setdefault(sample.instances[index].category, []).append(index)
    return sorted(members.items())


def in_words(sample: Sample, indices: Iterable[int]) -> GroundedText:
    """Name instances by class and number, without geometry: ``A ring and two stars.``."""
    items = [[counted(name, len(found))] for name, found in by_class(sample, indices)]
    return written([*listed(items), "."])


def in_classes(
    sample: Sample, indices: Iterable[int], unit_types: tuple[str, ...], rules: Rules
) -> GroundedText | None:
    """Name instances by class; each class is a grounded phrase: ``The ring and the stars.``.

    None if an instance lacks one of the units.
    """
    items: list[list[Piece]] = []
    for name, found in by_class(sample, indices):
        group = unit_group(sample, found, unit_types, rules)
        if group is None:
            return None
        items.append(["the ", (name if len(found) == 1 else many(name), group)])
    return written([*listed(items), "."])


def here(
    sample: Sample, indices: Sequence[int], unit_types: tuple[str, ...], rules: Rules
) -> GroundedText | None:
    """Point at instances without naming them: ``Here they are.``.

    None if an instance lacks one of the units.
    """
    group = unit_group(sample, indices, unit_types, rules)
    if group is None:
        return None
    if len(indices) == 1:
        return pointing("Here ", "it", " is.", group)
    return pointing("Here ", "they", " are.", group)


def none_of(names: str, unit_types: tuple[str, ...], rules: Rules) -> GroundedText:
    """Return the answer for an absent class; ``names`` is the class in the plural."""
    if rules.empty == "group" and unit_types:
        return pointing("There are no ", names, ".", UnitGroup(unit_types, ()))
    return GroundedText(f"There are no {names}.")


def in_units(text: GroundedText, unit_types: tuple[str, ...]) -> GroundedText | None:
    """Return a grounded text with only some unit types; None if a phrase lacks one of them."""
    phrases = []
    for phrase in text.phrases:
        groups = []
        for group in phrase.groups:
            if group.unit_types == unit_types:
                groups.append(group)
                continue
            if not set(unit_types) <= set(group.unit_types):
                return None
            columns = [group.unit_types.index(unit_type) for unit_type in unit_types]
            references = tuple(
                [
                    Reference(tuple([reference.units[column] for column in columns]))
                    for reference in group.references
                ]
            )
            groups.append(UnitGroup(unit_types, references))
        phrases.append(GroundedPhrase(phrase.text, phrase.start, phrase.end, tuple(groups)))
    return GroundedText(text.text, tuple(phrases))

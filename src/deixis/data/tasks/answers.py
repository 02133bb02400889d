"""Building blocks of turns: a wording chosen, a phrase that points, a text in other units."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from deixis.data.wording import wordings
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

BOX = ("box",)
MASK = ("mask",)
COMPOSITE = ("box", "mask")


def pick(items: Sequence[Item], rng: np.random.Generator) -> Item:
    """One item, each equally likely."""
    # A single draw of integers() costs ten times as much.
    return items[int(rng.random() * len(items))]


def worded(task: str, rng: np.random.Generator, **slots: str) -> str:
    """A question of a task with its slots filled."""
    return capitalised(pick(wordings(task), rng).format(**slots))


def capitalised(text: str) -> str:
    """Text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def left_to_right(sample: Sample, indices: Sequence[int]) -> list[int]:
    """Instances ordered by the centre of their boxes: from the left, then from the top."""

    def place(index: int) -> tuple[float, float, int]:
        box = sample.instances[index].box
        return box.x1 + box.x2, box.y1 + box.y2, index

    return sorted(indices, key=place)


def unit_group(
    sample: Sample, indices: Sequence[int], unit_types: tuple[str, ...]
) -> UnitGroup | None:
    """A group with a reference for each instance, from the left.

    None where an instance lacks one of the units.
    """
    references = []
    for index in left_to_right(sample, indices):
        units = tuple(_unit(sample.instances[index], unit_type) for unit_type in unit_types)
        if any(unit is None for unit in units):
            return None
        references.append(Reference(units))
    return UnitGroup(unit_types, tuple(references))


def _unit(instance: Instance, unit_type: str) -> Unit | None:
    if unit_type == "box":
        return instance.box
    return instance.mask if unit_type == "mask" else instance.keypoints


def pointing(before: str, phrase: str, after: str, group: UnitGroup) -> GroundedText:
    """A text of which one phrase points."""
    start = len(before)
    grounded = GroundedPhrase(phrase, start, start + len(phrase), (group,))
    return GroundedText(f"{before}{phrase}{after}", (grounded,))


def in_units(text: GroundedText, unit_types: tuple[str, ...]) -> GroundedText | None:
    """A grounded text with only some of its units; None where a phrase lacks one of them."""
    phrases = []
    for phrase in text.phrases:
        groups = []
        for group in phrase.groups:
            if not set(unit_types) <= set(group.unit_types):
                return None
            columns = [group.unit_types.index(unit_type) for unit_type in unit_types]
            references = tuple(
                Reference(tuple(reference.units[column] for column in columns), reference.score)
                for reference in group.references
            )
            groups.append(UnitGroup(unit_types, references))
        phrases.append(GroundedPhrase(phrase.text, phrase.start, phrase.end, tuple(groups)))
    return GroundedText(text.text, tuple(phrases))

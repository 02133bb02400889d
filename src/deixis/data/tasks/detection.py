"""Class names in, all their instances out: ``detection``, ``detection_all``, ``segmentation``."""

import numpy as np

from deixis.data.tasks.answers import (
    BOX,
    MASK,
    capitalised,
    left_to_right,
    pick,
    pointing,
    unit_group,
    worded,
)
from deixis.data.wording import join, plural
from deixis.structures import GroundedPhrase, GroundedText, Sample, Turn

REFERENCE_LIMIT = 16
"""Most references of one answer; fuller images are left to other tasks."""
CLEAR_VISIBILITY = 0.3
"""Classes with an instance of which less is seen are not asked for: who would count it?"""
ABSENT_SHARE = 0.15
"""Share of questions that ask for a class that is not there."""


_UNSAID = ("plain", "medium")


def detection(sample: Sample, rng: np.random.Generator) -> Turn | None:
    """Boxes of all instances of a class, or of a class with an attribute."""
    return _detect(sample, rng, task="detection", unit_types=BOX)


def segmentation(sample: Sample, rng: np.random.Generator) -> Turn | None:
    """Masks of all instances of a class, or of a class with an attribute."""
    return _detect(sample, rng, task="segmentation", unit_types=MASK)


def detection_all(sample: Sample, rng: np.random.Generator) -> Turn | None:
    """Boxes of everything, class by class in the order of the alphabet."""
    members = classes(sample)
    if not members or sum(map(len, members.values())) > REFERENCE_LIMIT:
        return None
    if any(
        instance.crowd or instance.visibility < CLEAR_VISIBILITY for instance in sample.instances
    ):
        return None
    names = sorted(members)
    words = [name if len(members[name]) == 1 else plural(name) for name in names]
    text = capitalised(f"{join(words)}.")
    phrases, position = [], 0
    for name, word in zip(names, words, strict=True):
        start = text.lower().index(word.lower(), position)
        position = start + len(word)
        group = unit_group(sample, members[name], BOX)
        if group is None:
            return None
        phrases.append(GroundedPhrase(text[start:position], start, position, (group,)))
    question = worded("detection_all", rng)
    return Turn((question,), GroundedText(text, tuple(phrases)), "detection_all")


def classes(sample: Sample) -> dict[str, list[int]]:
    """Instances of each class, from the left; crowds are in none."""
    members: dict[str, list[int]] = {}
    for index in left_to_right(sample, range(len(sample.instances))):
        instance = sample.instances[index]
        if not instance.crowd:
            members.setdefault(instance.category, []).append(index)
    return members


def draw_class(
    sample: Sample, rng: np.random.Generator, *, absent_share: float = ABSENT_SHARE
) -> tuple[str, list[int]] | None:
    """A class name, at times with an attribute before it, and its instances.

    None where the image has no instance and no class is known to be absent.
    """
    members = classes(sample)
    doubtful = {
        instance.category
        for instance in sample.instances
        if instance.crowd or instance.visibility < CLEAR_VISIBILITY
    }
    names = [name for name in members if name not in doubtful]
    if sample.absent_categories and (not names or rng.random() < absent_share):
        return pick(sample.absent_categories, rng), []
    if not names:
        return None
    name = pick(names, rng)
    found = members[name]
    if len(members) > 1 and rng.random() < 0.5:
        return name, found
    # Attributes of one word can stand before a noun; "red shirt" and the letter "A" cannot.
    attributes = [
        word
        for word in sample.instances[pick(found, rng)].attributes
        if len(word) > 1 and word.isalpha() and word not in _UNSAID
    ]
    if not attributes:
        return name, found
    chosen = attributes[0] if rng.random() < 0.6 else pick(attributes, rng)
    having = [index for index in found if chosen in sample.instances[index].attributes]
    return f"{chosen} {name}", having


def _detect(
    sample: Sample, rng: np.random.Generator, *, task: str, unit_types: tuple[str, ...]
) -> Turn | None:
    drawn = draw_class(sample, rng)
    if drawn is None or len(drawn[1]) > REFERENCE_LIMIT:
        return None
    name, indices = drawn
    question = worded(task, rng, name=name, names=plural(name))
    if not indices:
        return Turn((question,), GroundedText(f"There are no {plural(name)}."), task)
    group = unit_group(sample, indices, unit_types)
    if group is None:
        return None
    phrase = name if len(indices) == 1 else plural(name)
    return Turn((question,), pointing("The ", phrase, ".", group), task)

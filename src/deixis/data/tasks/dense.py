"""Answers about every pixel: ``depth`` and ``semantic``."""

import numpy as np

from deixis.data.tasks.answers import MASK, pick, pointing
from deixis.data.tasks.prompts import asked
from deixis.data.tasks.rules import Rules
from deixis.data.tasks.spec import TaskSpec, single
from deixis.geometry import Mask
from deixis.language import many
from deixis.structures import Reference, Sample, Turn, UnitGroup


def depth(sample: Sample, rng: np.random.Generator, rules: Rules) -> Turn | None:
    """Ask for the depth map of the image."""
    if sample.depth is None:
        return None
    group = UnitGroup(("depth",), (Reference((sample.depth,)),))
    return Turn(asked("depth", rng, rules), pointing("The ", "depth map", ".", group), "depth")


def semantic(sample: Sample, rng: np.random.Generator, rules: Rules) -> Turn | None:
    """Ask for one mask of all pixels of a class (countable or stuff), crowds included."""
    masks: dict[str, list[Mask]] = {}
    unknown: set[str] = set()
    for instance in sample.instances:
        if instance.mask is None:
            unknown.add(instance.category)
        else:
            masks.setdefault(instance.category, []).append(instance.mask)
    names = [name for name in masks if name not in unknown and sample.covers(name)]
    if not names:
        return None
    name = pick(names, rng)
    found = masks[name]
    group = UnitGroup(MASK, (Reference((union(found),)),))
    phrase = name if len(found) == 1 else many(name)
    question = asked("semantic", rng, rules, name=name)
    return Turn(question, pointing("The ", phrase, ".", group), "semantic")


def union(masks: list[Mask]) -> Mask:
    """Return the union of masks; a single mask is returned itself, without decoding it."""
    if len(masks) == 1:
        return masks[0]
    array = masks[0].array | masks[1].array
    for mask in masks[2:]:
        array |= mask.array
    array.flags.writeable = False
    return Mask(array)


SPECS = (
    TaskSpec(
        name="depth",
        family="dense",
        summary="The depth map of the image.",
        needs="a depth map",
        takes=("text",),
        gives=("depth",),
        rules=("wording",),
        wordings=("depth",),
        make=single(depth),
    ),
    TaskSpec(
        name="semantic",
        family="dense",
        summary="One mask for all pixels of a class (countable or stuff), crowds included.",
        needs="the masks of every instance of a class",
        takes=("text",),
        gives=MASK,
        rules=("wording",),
        wordings=("semantic",),
        make=single(semantic),
    ),
)

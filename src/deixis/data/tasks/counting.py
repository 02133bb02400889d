"""Counting: with references, in words, and by the class of an example."""

import numpy as np

from deixis.data.tasks.answers import COMPOSITE, none_of, pick, pointing, unit_group
from deixis.data.tasks.prompts import asked, draw_region
from deixis.data.tasks.rules import RegionKind, Rules
from deixis.data.tasks.spec import TaskSpec, single
from deixis.data.tasks.things import clear_classes, draw_class, draw_name
from deixis.language import count_word, many, sentence
from deixis.structures import GroundedText, Sample, Turn


def count(sample: Sample, rng: np.random.Generator, rules: Rules) -> Turn | None:
    """Ask for a number, with a reference for each instance: ``There are three red circles.``."""
    drawn = draw_class(sample, rng, rules)
    if drawn is None or len(drawn[1]) > rules.max_references:
        return None
    name, indices = drawn
    question = asked("count", rng, rules, name=name, names=many(name))
    if not indices:
        unit_types = COMPOSITE if _has_masks(sample) else ("box",)
        return Turn(question, none_of(many(name), unit_types, rules), "count")
    group = unit_group(sample, indices, COMPOSITE, rules)
    if group is None:
        group = unit_group(sample, indices, ("box",), rules)
    if group is None:
        return None
    verb, noun = ("is", name) if len(indices) == 1 else ("are", many(name))
    answer = pointing(f"There {verb} ", f"{count_word(len(indices))} {noun}", ".", group)
    return Turn(question, answer, "count")


def _has_masks(sample: Sample) -> bool:
    return all(instance.mask is not None for instance in sample.instances)


def count_words(sample: Sample, rng: np.random.Generator, rules: Rules) -> Turn | None:
    """Ask for a number in words, without references."""
    drawn = draw_class(sample, rng, rules)
    if drawn is None:
        return None
    name, indices = drawn
    question = asked("count_words", rng, rules, name=name, names=many(name))
    return Turn(question, GroundedText(sentence(count_word(len(indices)))), "count_words")


def count_like(
    sample: Sample, rng: np.random.Generator, rules: Rules, *, task: str, kind: RegionKind
) -> Turn | None:
    """Ask for the number of instances of an example's class, including the example."""
    members = clear_classes(sample, rules)
    if not members:
        return None
    indices = members[draw_name(members, rng, rules)]
    region = draw_region(sample.instances[pick(indices, rng)], sample, rng, rules, kind=kind)
    question = asked("count_example", rng, rules, region=region)
    return Turn(question, GroundedText(sentence(count_word(len(indices)))), task)


_NEEDS = "every instance of a class, or a class known to be absent"
_RULES = (
    *("absent_share", "attribute_share", "class_by_count", "clear_visibility", "empty"),
    "wording",
)
_LIKE_RULES = ("class_by_count", "clear_visibility", "wording")

SPECS = (
    TaskSpec(
        name="count",
        family="counting",
        summary="The number of instances of a class, with a reference for each.",
        needs=_NEEDS,
        takes=("text",),
        gives=COMPOSITE,
        rules=("max_references", "order", *_RULES),
        wordings=("count",),
        make=single(count),
    ),
    TaskSpec(
        name="count_words",
        family="counting",
        summary="The number of instances of a class, in words only.",
        needs=_NEEDS,
        takes=("text",),
        gives=("words",),
        rules=_RULES,
        wordings=("count_words",),
        make=single(count_words),
    ),
    TaskSpec(
        name="count_example",
        family="counting",
        summary="The number of instances of the class of the instance in a box.",
        needs="every instance of a class, none of them a crowd or mostly hidden",
        takes=("box",),
        gives=("words",),
        rules=_LIKE_RULES,
        wordings=("count_example",),
        make=single(count_like, task="count_example", kind="box"),
    ),
    TaskSpec(
        name="point_look_twice",
        family="counting",
        summary="The number of instances of the class of the instance at a point (PointQA, look twice).",
        needs="every instance of a class, none of them a crowd or mostly hidden",
        takes=("point",),
        gives=("words",),
        rules=(*_LIKE_RULES, "points_on_mask", "box_core"),
        wordings=("count_example",),
        make=single(count_like, task="point_look_twice", kind="point"),
    ),
)

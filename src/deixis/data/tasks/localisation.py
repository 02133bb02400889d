"""Localisation: expressions, answered with boxes, masks, both, points or keypoints."""

import numpy as np

from deixis.data.tasks.answers import (
    BOX,
    COMPOSITE,
    KEYPOINT,
    MASK,
    POINT,
    POSE,
    capitalised,
    has_keypoints,
    pick,
    pointing,
    unit_group,
)
from deixis.data.tasks.prompts import Question, asked
from deixis.data.tasks.rules import DEFAULT_RULES, Rules
from deixis.data.tasks.spec import TaskSpec, single
from deixis.language import bare, definite, head_phrase, is_plural, many
from deixis.structures import Description, Expression, GroundedText, Sample, Turn


def localise(
    sample: Sample,
    rng: np.random.Generator,
    rules: Rules,
    *,
    task: str,
    unit_types: tuple[str, ...],
) -> Turn | None:
    """Ask for the units of all instances that an expression refers to."""
    present = [
        expression
        for expression in sample.expressions
        if 0 < len(expression.instances) <= rules.max_references
    ]
    if "keypoint" in unit_types:
        present = [
            expression
            for expression in present
            if all(has_keypoints(sample.instances[index]) for index in expression.instances)
        ]
    if not present:
        return None
    expression = pick(present, rng)
    answer = point_out(sample, expression, unit_types, rules)
    if answer is None:
        return None
    return Turn(ask(expression.text, task, rng, rules), answer, task)


def absent(sample: Sample, rng: np.random.Generator, rules: Rules) -> Turn | None:
    """Ask for an expression that refers to nothing in the image, with the usual wordings.

    If the source has no expressions, ask for an absent class.
    """
    missing = [expression.text for expression in sample.expressions if not expression.instances]
    if not missing and not sample.expressions:
        missing = list(sample.absent_categories)
    if not missing:
        return None
    text = pick(missing, rng)
    task = pick(("rec", "res", "locate"), rng)
    return Turn(ask(text, task, rng, rules), deny(text), "absent")


def ask(text: str, task: str, rng: np.random.Generator, rules: Rules) -> Question:
    """Return a question of a task about an expression."""
    if task == "locate" and rng.random() < rules.bare_share:
        return (text,)
    verb = "are" if is_plural(text) else "is"
    words = definite(text)
    if task == "ref_tag":
        words = Description(words)
    return asked(task, rng, rules, x=words, **{"is": verb})


def point_out(
    sample: Sample,
    expression: Expression,
    unit_types: tuple[str, ...],
    rules: Rules = DEFAULT_RULES,
) -> GroundedText | None:
    """Return the short form of an expression, grounded on its instances.

    None if an instance lacks one of the units.
    """
    group = unit_group(sample, expression.instances, unit_types, rules)
    if group is None:
        return None
    head = head_phrase(expression.text)
    if len(expression.instances) > 1 and not is_plural(expression.text):
        head = many(head)
    return pointing("The ", head, ".", group)


def deny(expression: str) -> GroundedText:
    """Return the answer to an expression that refers to nothing in the image."""
    verb = "are" if is_plural(expression) else "is"
    return GroundedText(capitalised(f"there {verb} no {bare(expression)}."))


_RULES = ("max_references", "order", "wording")
_NEEDS = "an expression that refers to instances"

SPECS = (
    TaskSpec(
        name="rec",
        family="expressions",
        summary="Referring expression comprehension: an expression, answered with boxes.",
        needs=_NEEDS,
        takes=("text",),
        gives=BOX,
        rules=_RULES,
        wordings=("rec",),
        make=single(localise, task="rec", unit_types=BOX),
    ),
    TaskSpec(
        name="res",
        family="expressions",
        summary="Referring expression segmentation: an expression, answered with masks.",
        needs=f"{_NEEDS}, with masks",
        takes=("text",),
        gives=MASK,
        rules=_RULES,
        wordings=("res",),
        make=single(localise, task="res", unit_types=MASK),
    ),
    TaskSpec(
        name="locate",
        family="expressions",
        summary="An expression, often without other words, answered with a box and a mask for each instance.",
        needs=f"{_NEEDS}, with masks",
        takes=("text",),
        gives=COMPOSITE,
        rules=(*_RULES, "bare_share"),
        wordings=("locate",),
        make=single(localise, task="locate", unit_types=COMPOSITE),
    ),
    TaskSpec(
        name="ref_tag",
        family="expressions",
        summary="An expression marked in the question as TAMP marks it, answered with boxes.",
        needs=_NEEDS,
        takes=("text",),
        gives=BOX,
        rules=_RULES,
        wordings=("ref_tag",),
        make=single(localise, task="ref_tag", unit_types=BOX),
    ),
    TaskSpec(
        name="point_out",
        family="expressions",
        summary="An expression, answered with a point on each instance.",
        needs=_NEEDS,
        takes=("text",),
        gives=POINT,
        rules=_RULES,
        wordings=("point_out",),
        make=single(localise, task="point_out", unit_types=POINT),
    ),
    TaskSpec(
        name="keypoint_named",
        family="expressions",
        summary="An expression, answered with the keypoints of each instance.",
        needs=f"{_NEEDS}, all with keypoints",
        takes=("text",),
        gives=KEYPOINT,
        rules=_RULES,
        wordings=("keypoint_named",),
        make=single(localise, task="keypoint_named", unit_types=KEYPOINT),
    ),
    TaskSpec(
        name="box_keypoint",
        family="expressions",
        summary="An expression, answered with a box and the keypoints of each instance.",
        needs=f"{_NEEDS}, all with keypoints",
        takes=("text",),
        gives=POSE,
        rules=_RULES,
        wordings=("box_keypoint",),
        make=single(localise, task="box_keypoint", unit_types=POSE),
    ),
    TaskSpec(
        name="absent",
        family="expressions",
        summary="An expression that refers to nothing in the image; the answer denies it.",
        needs="an expression without instances, or no expressions and a class known to be absent",
        takes=("text",),
        gives=("words",),
        rules=("bare_share", "wording"),
        wordings=("locate", "rec", "res"),
        make=single(absent),
    ),
)

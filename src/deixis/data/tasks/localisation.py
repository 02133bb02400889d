"""Words in, geometry out: ``rec`` (box), ``res`` (mask), ``locate`` (both), and ``absent``."""

import numpy as np

from deixis.data.tasks.answers import (
    BOX,
    COMPOSITE,
    MASK,
    capitalised,
    pick,
    pointing,
    unit_group,
    worded,
)
from deixis.data.wording import bare, definite, head_phrase, is_plural, plural
from deixis.structures import Expression, GroundedText, Sample, Turn

BARE_SHARE = 0.5
"""Share of ``locate`` questions that are the expression and nothing else."""


def rec(sample: Sample, rng: np.random.Generator) -> Turn | None:
    """Referring expression comprehension: an expression, answered with boxes."""
    return _localise(sample, rng, task="rec", unit_types=BOX)


def res(sample: Sample, rng: np.random.Generator) -> Turn | None:
    """Referring expression segmentation: an expression, answered with masks."""
    return _localise(sample, rng, task="res", unit_types=MASK)


def locate(sample: Sample, rng: np.random.Generator) -> Turn | None:
    """An expression, mostly bare, answered with a box and a mask of each thing."""
    return _localise(sample, rng, task="locate", unit_types=COMPOSITE)


def absent(sample: Sample, rng: np.random.Generator) -> Turn | None:
    """An expression that means nothing in the image, asked as any other is."""
    missing = [expression for expression in sample.expressions if not expression.instances]
    if not missing:
        return None
    expression = pick(missing, rng)
    task = pick(("rec", "res", "locate"), rng)
    return Turn((ask(expression.text, task, rng),), deny(expression.text), "absent")


def _localise(
    sample: Sample, rng: np.random.Generator, *, task: str, unit_types: tuple[str, ...]
) -> Turn | None:
    present = [expression for expression in sample.expressions if expression.instances]
    if not present:
        return None
    expression = pick(present, rng)
    answer = point_out(sample, expression, unit_types)
    if answer is None:
        return None
    return Turn((ask(expression.text, task, rng),), answer, task)


def ask(expression: str, task: str, rng: np.random.Generator) -> str:
    """A question of ``rec``, ``res`` or ``locate`` about an expression."""
    if task == "locate" and rng.random() < BARE_SHARE:
        return expression
    verb = "are" if is_plural(expression) else "is"
    return worded(task, rng, x=definite(expression), **{"is": verb})


def point_out(
    sample: Sample, expression: Expression, unit_types: tuple[str, ...]
) -> GroundedText | None:
    """The short form of an expression, pointing at what it means.

    None where an instance lacks one of the units.
    """
    group = unit_group(sample, expression.instances, unit_types)
    if group is None:
        return None
    head = head_phrase(expression.text)
    if len(expression.instances) > 1 and not is_plural(expression.text):
        head = plural(head)
    return pointing("The ", head, ".", group)


def deny(expression: str) -> GroundedText:
    """The answer to an expression that means nothing in the image."""
    verb = "are" if is_plural(expression) else "is"
    return GroundedText(capitalised(f"there {verb} no {bare(expression)}."))

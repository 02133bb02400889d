"""Region in, words out: ``reg``, ``reg_unique`` and ``region_qa``."""

import numpy as np

from deixis.data.tasks.answers import capitalised, pick
from deixis.data.wording import REGION_SLOT, article, definite, sentence, wordings
from deixis.geometry import Box, Mask, Point, Scribble
from deixis.structures import GroundedText, Instance, QuestionPart, Region, Sample, Turn

SCRIBBLE_WIDTH = 0.02
"""Width of a drawn scribble, as a fraction of the image's longer side."""


def reg(sample: Sample, rng: np.random.Generator) -> Turn | None:
    """Describe the thing at a region, in the data's own fixed form where it has one."""
    known = [
        (question.instance, question.answer)
        for question in sample.questions
        if question.kind == "description" and question.instance is not None
    ]
    if not known:
        known = [
            (index, sentence(article(instance.category)))
            for index, instance in enumerate(sample.instances)
        ]
    if not known:
        return None
    index, answer = pick(known, rng)
    region = draw_region(sample.instances[index], sample, rng)
    question = with_region(pick(wordings("reg"), rng), region, slot="{region}")
    return Turn(question, GroundedText(answer), "reg")


def reg_unique(sample: Sample, rng: np.random.Generator) -> Turn | None:
    """Write an expression that means the thing at a region and no other."""
    known = [expression for expression in sample.expressions if len(expression.instances) == 1]
    if not known:
        return None
    expression = pick(known, rng)
    region = draw_region(sample.instances[expression.instances[0]], sample, rng)
    question = with_region(pick(wordings("reg_unique"), rng), region, slot="{region}")
    return Turn(question, GroundedText(sentence(definite(expression.text))), "reg_unique")


def region_qa(sample: Sample, rng: np.random.Generator) -> Turn | None:
    """A question about the thing at a region."""
    known = [question for question in sample.questions if question.kind != "description"]
    places = [
        sample.instances[question.instance] if question.instance is not None else None
        for question in known
    ]
    asked = [
        (question, place)
        for question, place in zip(known, places, strict=True)
        if place is not None or question.region is not None
    ]
    if not asked:
        return None
    chosen, place = pick(asked, rng)
    region = chosen.region
    if region is None and place is not None:
        region = draw_region(place, sample, rng)
    if region is None:
        return None
    question = with_region(chosen.question, region, slot=REGION_SLOT)
    return Turn(question, GroundedText(chosen.answer), "region_qa")


def with_region(text: str, region: Region, *, slot: str) -> tuple[QuestionPart, ...]:
    """A question with a region in place of its first slot, or at its end where it has none."""
    before, found, after = text.partition(slot)
    if not found:
        return (f"{text} ", region)
    parts: list[QuestionPart] = [capitalised(before), region, after]
    return tuple(part for part in parts if part != "")


def draw_region(instance: Instance, sample: Sample, rng: np.random.Generator) -> Region:
    """A point, box, scribble or mask that a person might give for a thing.

    Points and the joints of scribbles lie on the thing where its mask is known, else in its box.
    """
    kind = pick(("point", "box", "scribble", "mask"), rng)
    if kind == "mask" and instance.mask is not None:
        return instance.mask
    if kind in {"box", "mask"}:
        return instance.box
    places = _places(instance.box, instance.mask, rng, count=1 if kind == "point" else 3)
    if kind == "point":
        return Point(*places[0])
    width = max(2.0, SCRIBBLE_WIDTH * max(sample.size))
    return Scribble(tuple(sorted(places)), width)


def _places(
    box: Box, mask: Mask | None, rng: np.random.Generator, *, count: int
) -> list[tuple[float, float]]:
    draws = rng.random((count, 2)).tolist()
    if mask is None:
        return [(box.x1 + u * box.width, box.y1 + v * box.height) for u, v in draws]
    left, top = int(box.x1), int(box.y1)
    inner = mask.array[top : int(np.ceil(box.y2)), left : int(np.ceil(box.x2))]
    pixels = np.flatnonzero(inner)
    if pixels.size == 0:
        return [(box.x1 + u * box.width, box.y1 + v * box.height) for u, v in draws]
    chosen = [int(pixels[int(u * pixels.size)]) for u, _ in draws]
    columns = inner.shape[1]
    return [(left + at % columns + 0.5, top + at // columns + 0.5) for at in chosen]

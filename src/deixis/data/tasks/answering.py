"""Questions of the data about the whole image: answered plainly, shortly, and with reasons."""

import numpy as np

from deixis.data.tasks.answers import ended, pick
from deixis.data.tasks.places import SEVERAL, with_boxes, with_phrases
from deixis.data.tasks.prompts import asked, with_region
from deixis.data.tasks.rules import Rules
from deixis.data.tasks.spec import TaskSpec, single
from deixis.data.wording import REGION_SLOT
from deixis.structures import GroundedText, QuestionAnswer, Sample, Turn

_NO_QUESTIONS = frozenset({"description", "statement"})
"""Kinds whose texts are no questions."""


def vqa(sample: Sample, rng: np.random.Generator, _rules: Rules) -> Turn | None:
    """A question of the data about the image, with its answer."""
    known = about_image(sample)
    if not known:
        return None
    chosen = pick(known, rng)
    return Turn((chosen.question,), GroundedText(ended(chosen.answer)), "vqa")


def about_image(sample: Sample) -> list[QuestionAnswer]:
    """Questions of the data about the whole image that make sense without options."""
    return [
        question
        for question in sample.questions
        if question.instance is None
        and question.region is None
        and not question.options
        and question.kind not in _NO_QUESTIONS
    ]


def short_answer(sample: Sample, rng: np.random.Generator, rules: Rules) -> Turn | None:
    """A question of the data with a short answer, asked to be answered shortly."""
    known = [
        question
        for question in about_image(sample)
        if len(question.answer.split()) <= rules.short_words
    ]
    if not known:
        return None
    chosen = pick(known, rng)
    question = asked("short_answer", rng, rules, question=chosen.question)
    return Turn(question, GroundedText(ended(chosen.answer)), "short_answer")


def vqa_reason(sample: Sample, rng: np.random.Generator, rules: Rules) -> Turn | None:
    """A question of the data, answered with its reasons first and the answer last."""
    known = [
        question
        for question in sample.questions
        if question.rationale.strip() and question.kind != "description"
    ]
    if not known:
        return None
    chosen = pick(known, rng)
    text = with_boxes(chosen.question, sample)
    region = chosen.region
    if region is None and chosen.instance is not None:
        region = sample.instances[chosen.instance].box
    if region is not None and chosen.kind != SEVERAL:
        text = with_region(chosen.question, region, slot=REGION_SLOT)
    question = asked("reason_answer", rng, rules, question=text)
    answer = f"{ended(chosen.rationale)} Answer: {ended(chosen.answer)}"
    return Turn(question, with_phrases(answer, sample, rules), "vqa_reason")


SPECS = (
    TaskSpec(
        name="vqa",
        family="questions",
        summary="A question of the data about the image.",
        needs="a question about the image",
        takes=("text",),
        gives=("words",),
        rules=(),
        wordings=(),
        make=single(vqa),
    ),
    TaskSpec(
        name="short_answer",
        family="questions",
        summary="A question of the data, asked to be answered shortly.",
        needs="a question about the image with a short answer",
        takes=("text",),
        gives=("words",),
        rules=("short_words", "wording"),
        wordings=("short_answer",),
        make=single(short_answer),
    ),
    TaskSpec(
        name="vqa_reason",
        family="questions",
        summary="A question of the data, answered with its reasons first.",
        needs="a question with a rationale",
        takes=("text", "box"),
        gives=("words", "box"),
        rules=("wording",),
        wordings=("reason_answer",),
        make=single(vqa_reason),
    ),
)

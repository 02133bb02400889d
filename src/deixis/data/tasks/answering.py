"""Questions from the source about the whole image: plain, with short answers, with rationales."""

import numpy as np

from deixis.data.tasks.answers import ended, pick
from deixis.data.tasks.places import SEVERAL, with_boxes, with_phrases
from deixis.data.tasks.prompts import asked, with_region
from deixis.data.tasks.rules import Rules
from deixis.data.tasks.spec import TaskSpec, single
from deixis.data.wording import REGION_SLOT
from deixis.structures import DIALOGUE, GroundedText, QuestionAnswer, Sample, Turn

_NO_QUESTIONS = frozenset({"description", "statement"})
"""Kinds of entries whose texts are not questions."""


def vqa(sample: Sample, rng: np.random.Generator, _rules: Rules) -> Turn | None:
    """Ask a question from the source about the image."""
    known = about_image(sample)
    if not known:
        return None
    chosen = pick(known, rng)
    return Turn((chosen.question,), GroundedText(ended(chosen.answer)), "vqa")


def about_image(sample: Sample) -> list[QuestionAnswer]:
    """Return the source's questions about the whole image that make sense alone, without options.

    Of a conversation, only the first question counts: later ones may refer to earlier turns.
    """
    found: list[QuestionAnswer] = []
    talking = False
    for question in sample.questions:
        goes_on = talking and question.kind == DIALOGUE
        talking = talking or question.kind == DIALOGUE
        if (
            question.instance is None
            and question.region is None
            and not question.options
            and question.kind not in _NO_QUESTIONS
            and not goes_on
        ):
            found.append(question)
    return found


def conversation(sample: Sample, _rng: np.random.Generator, rules: Rules) -> tuple[Turn, ...]:
    """Return a conversation from the source from its first turn, with the units of its answers."""
    turns = [one for one in sample.questions if one.kind == DIALOGUE][: rules.max_turns]
    if not turns or max(map(_pointed_at, turns)) > rules.max_references:
        return ()
    return tuple(
        Turn(
            (one.question,),
            GroundedText(one.answer, one.phrases)
            if one.phrases
            else GroundedText(ended(one.answer)),
            "conversation",
        )
        for one in turns
    )


def _pointed_at(question: QuestionAnswer) -> int:
    return sum(len(group.references) for one in question.phrases for group in one.groups)


def short_answer(sample: Sample, rng: np.random.Generator, rules: Rules) -> Turn | None:
    """Ask a question from the source, with a request for a short answer."""
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
    """Ask a question from the source; the answer begins with the rationale."""
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
        summary="A question about the image, from the source.",
        needs="a question about the image",
        takes=("text",),
        gives=("words",),
        rules=(),
        wordings=(),
        make=single(vqa),
    ),
    TaskSpec(
        name="conversation",
        family="questions",
        summary="A conversation from the source, from its first turn.",
        needs="a conversation about the image",
        takes=("text",),
        gives=("words", "box", "mask", "keypoint"),
        rules=("max_turns", "max_references"),
        wordings=(),
        make=conversation,
        dependent=True,
    ),
    TaskSpec(
        name="short_answer",
        family="questions",
        summary="A question from the source, with a request for a short answer.",
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
        summary="A question from the source, answered with the rationale first.",
        needs="a question with a rationale",
        takes=("text", "box"),
        gives=("words", "box"),
        rules=("wording",),
        wordings=("reason_answer",),
        make=single(vqa_reason),
    ),
)

"""Questions with options: ``choice`` in words, ``which_box`` in boxes."""

from collections.abc import Iterable, Sequence

import numpy as np

from deixis.data.tasks.answering import about_image
from deixis.data.tasks.answers import BOX, pick, pointing, shuffled, unit_group
from deixis.data.tasks.places import SEVERAL, place, with_boxes
from deixis.data.tasks.prompts import asked
from deixis.data.tasks.rules import Rules
from deixis.data.tasks.spec import TaskSpec, single
from deixis.geometry import Box
from deixis.language import article, count_word, definite, is_plural
from deixis.structures import Expression, GroundedText, QuestionAnswer, QuestionPart, Sample, Turn

MAX_OVERLAP = 0.5
"""Largest IoU of a wrong option with the right box."""
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NUMBERS = {count_word(number): number for number in range(21)}
_YES_NO = ("yes", "no")
_ANY_KIND = "vqa"
"""The kind of questions without a stated kind."""


def choice(sample: Sample, rng: np.random.Generator, rules: Rules) -> Turn | None:
    """Ask a question from the source with options, answered with a letter.

    The options come from the source if it has some. Otherwise wrong options are answers to other
    questions of the kind, other numbers, yes or no, or absent classes.
    """
    known = about_image(sample)
    known += [question for question in sample.questions if _has_options(question)]
    if not known:
        return None
    chosen = pick(known, rng)
    right = _bare(chosen.answer)
    wrong = _wrong_answers(sample, chosen, right, rng)
    if not wrong:
        return None
    options = shuffled([right, *wrong[: rules.max_options - 1]], rng)
    listed = ", ".join(
        [f"({letter}) {option}" for letter, option in zip(_LETTERS, options, strict=False)]
    )
    question = asked(
        "choice",
        rng,
        rules,
        question=with_boxes(chosen.question, sample),
        options=with_boxes(listed, sample),
    )
    return Turn(question, GroundedText(f"{_LETTERS[options.index(right)]}."), "choice")


def _has_options(question: QuestionAnswer) -> bool:
    is_about_image = question.instance is None and question.region is None
    return bool(question.options) and (is_about_image or question.kind == SEVERAL)


def _wrong_answers(
    sample: Sample, chosen: QuestionAnswer, right: str, rng: np.random.Generator
) -> list[str]:
    lowered = right.lower()
    if chosen.options:
        options = {_bare(option).lower(): _bare(option) for option in chosen.options}
        if lowered not in options:
            return []
        return shuffled([text for key, text in options.items() if key != lowered], rng)
    if lowered in _YES_NO:
        return ["no" if lowered == "yes" else "yes"]
    number = _number(right)
    if number is not None:
        near = [each for each in range(max(0, number - 3), number + 4) if each != number]
        return [count_word(each) if right.isalpha() else str(each) for each in shuffled(near, rng)]
    wrong = shuffled(_other_answers(sample.questions, chosen, lowered), rng)
    noun = right.rpartition(" ")[2]
    if any(instance.category == noun for instance in sample.instances):
        wrong += [article(name) for name in shuffled(sample.absent_categories, rng)]
    return wrong


def _other_answers(
    questions: Iterable[QuestionAnswer], chosen: QuestionAnswer, right: str
) -> list[str]:
    """Return answers to other questions of the kind; empty if the kind is unknown."""
    if chosen.kind == _ANY_KIND:
        return []
    answers = [_bare(question.answer) for question in questions if question.kind == chosen.kind]
    others = {answer.lower(): answer for answer in answers if answer}
    return [
        text
        for key, text in others.items()
        if key != right and key not in _YES_NO and _number(key) is None
    ]


def _number(text: str) -> int | None:
    if text.lower() in _NUMBERS:
        return _NUMBERS[text.lower()]
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


def _bare(answer: str) -> str:
    """Return an answer as an option: without full stop, and a sentence also without capital."""
    words = answer.strip()
    if words.endswith("."):
        words = words[:-1]
        if words[1:] == words[1:].lower():
            words = words.lower()
    return words


def which_box(sample: Sample, rng: np.random.Generator, rules: Rules) -> Turn | None:
    """Ask which of several boxes shows the instance in question, as in Visual7W."""
    known: list[QuestionAnswer | Expression] = [
        question
        for question in sample.questions
        if question.kind == "which" and question.instance is not None
    ]
    known += [expression for expression in sample.expressions if len(expression.instances) == 1]
    if not known:
        return None
    text, right, offered = _which(pick(known, rng), sample)
    target = sample.instances[right].box
    wrong: list[int] = []
    for index in shuffled(offered, rng):
        if len(wrong) == rules.max_options - 1:
            break
        instance = sample.instances[index]
        if index == right or instance.crowd or _overlap(instance.box, target):
            continue
        if all(sample.instances[other].box != instance.box for other in wrong):
            wrong.append(index)
    group = unit_group(sample, [right], BOX, rules)
    if not wrong or group is None:
        return None
    options = shuffled([right, *wrong], rng)
    listed: list[QuestionPart] = []
    for letter, index in zip(_LETTERS, options, strict=False):
        listed += [f"{', ' if listed else ''}({letter}) ", sample.instances[index].box]
    question = asked("which_box", rng, rules, question=text, options=tuple(listed))
    answer = pointing("", f"Box {_LETTERS[options.index(right)]}", ".", group)
    return Turn(question, answer, "which_box")


def _which(chosen: QuestionAnswer | Expression, sample: Sample) -> tuple[str, int, Sequence[int]]:
    """Return a question about one instance, the instance, and the instances for wrong options."""
    everything = range(len(sample.instances))
    if isinstance(chosen, Expression):
        verb = "are" if is_plural(chosen.text) else "is"
        text = f"Which one {verb} {definite(chosen.text)}?"
        return text, chosen.instances[0], everything
    right = place(chosen.answer, sample)
    offered = [place(option, sample) for option in chosen.options]
    known = [index for index in offered if index is not None]
    if right is None:
        right = -1 if chosen.instance is None else chosen.instance
    return chosen.question, right, known or everything


def _overlap(box: Box, other: Box) -> bool:
    across = min(box.x2, other.x2) - max(box.x1, other.x1)
    down = min(box.y2, other.y2) - max(box.y1, other.y1)
    if across <= 0 or down <= 0:
        return False
    shared = across * down
    return shared > MAX_OVERLAP * (box.area + other.area - shared)


SPECS = (
    TaskSpec(
        name="choice",
        family="choices",
        summary="A question from the source with options, answered with a letter.",
        needs="a question about the image with options, or with known wrong answers",
        takes=("text",),
        gives=("words",),
        rules=("max_options", "wording"),
        wordings=("choice",),
        make=single(choice),
    ),
    TaskSpec(
        name="which_box",
        family="choices",
        summary="Which of several boxes shows the instance in question (Visual7W).",
        needs="an expression or a question of kind `which` for one instance; a second instance",
        takes=("box",),
        gives=BOX,
        rules=("max_options", "wording"),
        wordings=("which_box",),
        make=single(which_box),
    ),
)

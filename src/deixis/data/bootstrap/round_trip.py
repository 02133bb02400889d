"""From a box to its description and back to a box, by one model."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from deixis.data.bootstrap.bootstrap_plan import Prompts
from deixis.data.wording import REGION_SLOT
from deixis.errors import GeometryError
from deixis.geometry import Box, Mask, overlap_of_boxes
from deixis.language import bare, definite, is_plural
from deixis.structures import Answer, QuestionPart, Reference

Pixels = UInt8[np.ndarray, "_ _ 3"]
"""The pixels of an image; images may differ in size."""

Question = tuple[Pixels, tuple[QuestionPart, ...]]
"""An image and the parts of a question about it."""

DROPPED = {
    "no_description": "the model does not describe the box",
    "cut": "the description is truncated or too long",
    "nothing_found": "the model finds no box by its description",
    "iou_below": "the IoU of the located and the true box is too small",
}
"""Reasons for which a description is dropped."""

LONGEST = 500
"""Largest number of characters of a description."""

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


@runtime_checkable
class Asker(Protocol):
    """A model that answers many questions about images at once, one answer for each, in order."""

    def ask_many(self, questions: Sequence[Question], /) -> Sequence[Answer]:
        """Answer each question; units are in the pixels of its image."""


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """The result for one box: its description, the box located by it, and their IoU.

    ``reason`` is a key of `DROPPED`, or empty for a description that is kept. ``answer`` is the
    model's description, ``expression`` the noun phrase that it was asked to locate, ``num_found``
    the number of boxes in its answer.
    """

    answer: str
    expression: str
    found: Box | None
    num_found: int
    iou: float
    reason: str


def round_trips(
    asker: Asker,
    boxes: Sequence[tuple[Pixels, Box]],
    prompts: Prompts,
    *,
    iou: float,
    batch_size: int,
) -> list[RoundTrip]:
    """Describe boxes and locate the descriptions; one result for each box."""
    asked = [(image, region_question(prompts.describe, box)) for image, box in boxes]
    described = [_described(answer) for answer in ask_in_batches(asker, asked, batch_size)]
    looking = [number for number, (_, _, reason) in enumerate(described) if not reason]
    questions = [
        (boxes[number][0], (locate_question(prompts.locate, described[number][1]),))
        for number in looking
    ]
    located = dict(zip(looking, ask_in_batches(asker, questions, batch_size), strict=True))
    trips = []
    for number, (answer, expression, reason) in enumerate(described):
        if reason:
            trips.append(RoundTrip(answer, expression, None, 0, 0.0, reason))
            continue
        found = found_boxes(located[number])
        best = found[0] if found else None
        met = 0.0 if best is None else overlap_of_boxes(boxes[number][1], best)
        missed = "nothing_found" if best is None else "" if met >= iou else "iou_below"
        trips.append(RoundTrip(answer, expression, best, len(found), met, missed))
    return trips


def ask_in_batches(asker: Asker, questions: Sequence[Question], size: int) -> list[Answer]:
    """Ask questions in batches.

    The last digits of an answer's numbers may depend on the batch, so the same questions are always
    divided into the same batches.
    """
    answers: list[Answer] = []
    for start in range(0, len(questions), size):
        answers += asker.ask_many(questions[start : start + size])
    return answers


def region_question(prompt: str, box: Box) -> tuple[QuestionPart, ...]:
    """Return a prompt with a box in place of its slot."""
    before, _, after = prompt.partition(REGION_SLOT)
    return tuple(part for part in (before, box, after) if part)


def locate_question(prompt: str, expression: str) -> str:
    """Return a prompt with an expression in place of its slot."""
    verb = "are" if is_plural(expression) else "is"
    # not by `format`: braces in a description are text
    return prompt.replace("{is}", verb).replace("{x}", definite(expression))


def _described(answer: Answer) -> tuple[str, str, str]:
    """Return the answer, its expression, and the reason to drop it, or ``""``."""
    text = " ".join(answer.text.split())
    expression = to_expression(text)
    if not expression or not text.isprintable():
        return text, expression, "no_description"
    if answer.finish_reason == "length" or len(text) > LONGEST:
        return text, expression, "cut"
    return text, expression, ""


def to_expression(description: str) -> str:
    """Return the first sentence as a noun phrase, without full stop, article and capital.

    >>> to_expression("A small red circle."), to_expression("TV on a table. It is on.")
    ('small red circle', 'TV on a table')
    """
    first = _SENTENCE_END.split(description.strip(), maxsplit=1)[0].strip(" .!?")
    words = bare(first) if first else ""
    # words of one letter and abbreviations keep their capitals
    if len(words) > 1 and words[0].isupper() and words[1].islower():
        words = words[0].lower() + words[1:]
    return words


def found_boxes(answer: Answer) -> list[Box]:
    """Return the boxes that an answer points at, by descending score.

    Equal and missing scores keep their order. A reference with only a mask gives the box around it.
    """
    scored = [
        (-(reference.score or 0.0), box)
        for phrase in answer.phrases
        for reference in phrase.references
        if (box := reference_box(reference)) is not None
    ]
    return [box for _, box in sorted(scored, key=lambda one: one[0])]


def reference_box(reference: Reference) -> Box | None:
    """Return the box of a reference, or the box around its mask; None without both."""
    for unit in reference.units:
        if isinstance(unit, Box):
            return unit
    for unit in reference.units:
        if isinstance(unit, Mask):
            try:
                return unit.to_box()
            except GeometryError:
                return None
    return None

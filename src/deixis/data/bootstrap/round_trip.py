"""From a box to words and back to a box, by one model."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from deixis.data.bootstrap.plan import Prompts
from deixis.data.wording import REGION_SLOT
from deixis.errors import GeometryError
from deixis.geometry import Box, Mask
from deixis.geometry.boxes import box_iou
from deixis.language import bare, definite, is_plural
from deixis.structures import Answer, QuestionPart, Reference

Pixels = UInt8[np.ndarray, "_ _ 3"]
"""One of several images, which need not be of one size."""

Question = tuple[Pixels, tuple[QuestionPart, ...]]
"""An image, and the parts of a question about it."""

DROPPED = {
    "no_description": "the model says nothing of the box",
    "cut": "the description has no end, or is longer than anybody says",
    "nothing_found": "the model finds no box by its description",
    "iou_below": "the box found does not meet the true one",
}
"""Why a description is not kept."""

LONGEST = 500
"""Characters of a description; a longer one is no description of a thing."""

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


@runtime_checkable
class Asker(Protocol):
    """A model that answers many questions about images at once, one answer for each, in order."""

    def ask_many(self, questions: Sequence[Question], /) -> Sequence[Answer]:
        """Answer each question; units are in the pixels of its image."""


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """What became of a box: words, the box that they lead to, and how well it meets the first.

    ``reason`` is a key of `DROPPED`, or empty for a description that is kept. ``answer`` is what
    the model wrote, ``expression`` what it was asked for, ``num_found`` how many things it found.
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
    """Describe boxes and look for what the descriptions mean; one result for each box."""
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
        met = 0.0 if best is None else overlap(boxes[number][1], best)
        missed = "nothing_found" if best is None else "" if met >= iou else "iou_below"
        trips.append(RoundTrip(answer, expression, best, len(found), met, missed))
    return trips


def ask_in_batches(asker: Asker, questions: Sequence[Question], size: int) -> list[Answer]:
    """Ask questions a few at a time.

    Where questions are cut decides what is in a batch with what, and that may show in the last
    digits of an answer's numbers: the same questions are always cut in the same way.
    """
    answers: list[Answer] = []
    for start in range(0, len(questions), size):
        answers += asker.ask_many(questions[start : start + size])
    return answers


def region_question(prompt: str, box: Box) -> tuple[QuestionPart, ...]:
    """A prompt with a box in the place of its slot."""
    before, _, after = prompt.partition(REGION_SLOT)
    return tuple(part for part in (before, box, after) if part)


def locate_question(prompt: str, expression: str) -> str:
    """A prompt with an expression in the place of its slot."""
    verb = "are" if is_plural(expression) else "is"
    # not by `format`: braces in a description are text
    return prompt.replace("{is}", verb).replace("{x}", definite(expression))


def _described(answer: Answer) -> tuple[str, str, str]:
    """What was answered, the expression in it, and why it is none."""
    text = " ".join(answer.text.split())
    expression = to_expression(text)
    if not expression or not text.isprintable():
        return text, expression, "no_description"
    if answer.finish_reason == "length" or len(text) > LONGEST:
        return text, expression, "cut"
    return text, expression, ""


def to_expression(description: str) -> str:
    """The first sentence of a description as a noun phrase: no full stop, article or capital.

    >>> to_expression("A small red circle."), to_expression("TV on a table. It is on.")
    ('small red circle', 'TV on a table')
    """
    first = _SENTENCE_END.split(description.strip(), maxsplit=1)[0].strip(" .!?")
    words = bare(first) if first else ""
    # a word of one letter, or of more than one capital, keeps its own
    if len(words) > 1 and words[0].isupper() and words[1].islower():
        words = words[0].lower() + words[1:]
    return words


def found_boxes(answer: Answer) -> list[Box]:
    """The boxes that an answer points at, the one of the highest score first.

    Of equal scores, and where there are none, the first comes first. A reference with a mask alone
    has the box around it.
    """
    scored = [
        (-(reference.score or 0.0), box)
        for phrase in answer.phrases
        for reference in phrase.references
        if (box := reference_box(reference)) is not None
    ]
    return [box for _, box in sorted(scored, key=lambda one: one[0])]


def reference_box(reference: Reference) -> Box | None:
    """The box of a reference, or the one around its mask; None where it has neither."""
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


def overlap(first: Box, second: Box) -> float:
    """IoU of two boxes."""
    one, other = (np.array([[box.x1, box.y1, box.x2, box.y2]], float) for box in (first, second))
    return float(box_iou(one, other)[0, 0])

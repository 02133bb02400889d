"""Trivial baselines that any model must beat."""

import numpy as np

from deixis.geometry import Box, Mask
from deixis.structures import (
    Answer,
    GroundedPhrase,
    GroundedText,
    QuestionPart,
    Reference,
    Sample,
    Unit,
    UnitGroup,
)

_PHRASE = "thing"


def _answer_with(sample: Sample, units: tuple[Unit, ...]) -> Answer:
    group = UnitGroup(("box", "mask"), (Reference(units),))
    before = "The "
    phrase = GroundedPhrase(_PHRASE, len(before), len(before) + len(_PHRASE), (group,))
    return Answer(GroundedText(f"{before}{_PHRASE}.", (phrase,)), sample.size)


class CenterBox:
    """Points at the middle of the image: a box of half its width and half its height."""

    name = "centre box"

    def answer_sample(self, sample: Sample, question: tuple[QuestionPart, ...], /) -> Answer:  # noqa: ARG002 - every question gets the same answer
        """Answer with the centre box of the image."""
        height, width = sample.size
        box = Box(width / 4, height / 4, width * 3 / 4, height * 3 / 4)
        return _answer_with(sample, (box, Mask.from_box(box, sample.size)))


class LargestInstance:
    """Points at the instance with the most visible pixels, with its true box and mask.

    It reads the annotated geometry and ignores the question.
    """

    name = "largest instance"

    def answer_sample(self, sample: Sample, question: tuple[QuestionPart, ...], /) -> Answer:  # noqa: ARG002 - every question gets the same answer
        """Answer from the annotation; the answer is empty for a sample without instances."""
        if not sample.instances:
            return Answer(GroundedText("There is nothing."), sample.size)
        areas = [
            instance.box.area if instance.mask is None else float(instance.mask.area)
            for instance in sample.instances
        ]
        largest = sample.instances[int(np.argmax(areas))]
        mask = largest.mask or Mask.from_box(largest.box, sample.size)
        return _answer_with(sample, (largest.box, mask))

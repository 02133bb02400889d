"""Questions about the whole image: ``vqa``."""

import numpy as np

from deixis.data.tasks.answers import pick
from deixis.structures import GroundedText, Sample, Turn


def vqa(sample: Sample, rng: np.random.Generator) -> Turn | None:
    """A question of the data about the image, with its answer."""
    known = [
        question
        for question in sample.questions
        if question.instance is None and question.region is None and question.kind != "description"
    ]
    if not known:
        return None
    chosen = pick(known, rng)
    return Turn((chosen.question,), GroundedText(chosen.answer), "vqa")

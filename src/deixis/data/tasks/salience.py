"""The subject of an image: ``salient``, with class, box, mask, explanation (u-LLaVA, section 3.3)."""

import numpy as np

from deixis.data.tasks.answers import COMPOSITE, ended, unit_group, written
from deixis.data.tasks.prompts import asked
from deixis.data.tasks.rules import Rules
from deixis.data.tasks.spec import TaskSpec, single
from deixis.structures import GroundedText, Sample, Turn


def salient(sample: Sample, rng: np.random.Generator, rules: Rules) -> Turn | None:
    """Ask for the salient instance; the answer has its class, box, mask and explanation."""
    if sample.salient is None:
        return None
    group = unit_group(sample, [sample.salient], COMPOSITE, rules)
    if group is None:
        return None
    category = sample.instances[sample.salient].category
    explained = explanation(sample, sample.salient)
    after = f". {explained}" if explained else "."
    answer = written(["the ", (category, group), after])
    return Turn(asked("salient", rng, rules), answer, "salient")


def explanation(sample: Sample, index: int) -> str:
    """Return the source's description of an instance, or the sentence of a caption that names it.

    Empty if the source has neither.
    """
    for question in sample.questions:
        if question.instance == index and question.kind == "description":
            return ended(question.answer)
    box = sample.instances[index].box
    for text in sample.captions:
        for phrase in text.phrases:
            if box in phrase.boxes:
                return ended(_sentence_at(text, phrase.start))
    return ""


def _sentence_at(text: GroundedText, place: int) -> str:
    """Return the sentence that contains a position of a text."""
    start = text.text.rfind(". ", 0, place)
    end = text.text.find(". ", place)
    return text.text[0 if start < 0 else start + 2 : len(text.text) if end < 0 else end + 1]


SPECS = (
    TaskSpec(
        name="salient",
        family="salience",
        summary="The salient instance of the image: class, box, mask and an explanation.",
        needs="a salient instance with a mask",
        takes=("text",),
        gives=COMPOSITE,
        rules=("wording",),
        wordings=("salient",),
        make=single(salient),
    ),
)

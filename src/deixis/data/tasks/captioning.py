"""The whole image in words: ``caption``, and grounded in units ``gcg``, ``gcg_box``, ``gcg_mask``."""

import numpy as np

from deixis.data.tasks.answers import BOX, COMPOSITE, MASK, in_units, pick, worded
from deixis.structures import GroundedText, Sample, Turn


def caption(sample: Sample, rng: np.random.Generator) -> Turn | None:
    """The shortest caption, without geometry."""
    if not sample.captions:
        return None
    shortest = min(sample.captions, key=lambda text: len(text.text))
    return Turn((worded("caption", rng),), GroundedText(shortest.text), "caption")


def gcg(sample: Sample, rng: np.random.Generator) -> Turn | None:
    """A caption whose phrases have boxes and masks."""
    return _grounded(sample, rng, task="gcg", unit_types=COMPOSITE)


def gcg_box(sample: Sample, rng: np.random.Generator) -> Turn | None:
    """A caption whose phrases have boxes."""
    return _grounded(sample, rng, task="gcg_box", unit_types=BOX)


def gcg_mask(sample: Sample, rng: np.random.Generator) -> Turn | None:
    """A caption whose phrases have masks."""
    return _grounded(sample, rng, task="gcg_mask", unit_types=MASK)


def _grounded(
    sample: Sample, rng: np.random.Generator, *, task: str, unit_types: tuple[str, ...]
) -> Turn | None:
    grounded = [text for text in sample.captions if text.phrases]
    if not grounded:
        return None
    answer = in_units(pick(grounded, rng), unit_types)
    return None if answer is None else Turn((worded(task, rng),), answer, task)

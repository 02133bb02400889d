"""How many: ``count`` shows what it counts, ``count_words`` says a number."""

import numpy as np

from deixis.data.tasks.answers import COMPOSITE, pointing, unit_group, worded
from deixis.data.tasks.detection import REFERENCE_LIMIT, draw_class
from deixis.data.wording import count_word, plural, sentence
from deixis.structures import GroundedText, Sample, Turn

ABSENT_SHARE = 0.15


def count(sample: Sample, rng: np.random.Generator) -> Turn | None:
    """A number, with all that is counted pointed at, as in ``There are three red circles.``."""
    drawn = draw_class(sample, rng, absent_share=ABSENT_SHARE)
    if drawn is None or len(drawn[1]) > REFERENCE_LIMIT:
        return None
    name, indices = drawn
    question = worded("count", rng, name=name, names=plural(name))
    if not indices:
        return Turn((question,), GroundedText(f"There are no {plural(name)}."), "count")
    group = unit_group(sample, indices, COMPOSITE) or unit_group(sample, indices, ("box",))
    if group is None:
        return None
    verb, noun = ("is", name) if len(indices) == 1 else ("are", plural(name))
    answer = pointing(f"There {verb} ", f"{count_word(len(indices))} {noun}", ".", group)
    return Turn((question,), answer, "count")


def count_words(sample: Sample, rng: np.random.Generator) -> Turn | None:
    """A number in words alone."""
    drawn = draw_class(sample, rng, absent_share=ABSENT_SHARE)
    if drawn is None:
        return None
    name, indices = drawn
    question = worded("count_words", rng, name=name, names=plural(name))
    return Turn((question,), GroundedText(sentence(count_word(len(indices)))), "count_words")

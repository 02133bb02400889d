"""Check of presence: decides between an answer that points and one that denies.

A language model that denies ("There is no red circle.") judges by the form of the question: it does
not see absence. If its second likeliest first token leads to an answer that points, the reference
can be checked: does the vision encoder recognise the words of the phrase in the cell, and does the
cell lie where the question says? The odds of the two first tokens are multiplied by the odds of
both checks.

A failed check is strong evidence and a passed one is weaker, since not all words of a question can
be checked. Hence the bounds; they were chosen on training scenes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from deixis.language import named_sides, plural

LOOKS_FOR, PLACE_FOR, MOST_AGAINST = 2.0, 4.0, 50.0
"""Bounds of the factors by which the checks change the odds of an answer that points."""
STEEPNESS = 40.0
"""Log odds of a place for each image side between the instance's centre and the image's."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Evidence about one reference.

    ``looks`` is the least probability that a word of its phrase is recognised there, None if no word
    can be checked; ``place`` is the instance's centre as a share of the image's width and height.
    """

    looks: float | None
    place: tuple[float, float]


@dataclass(frozen=True, slots=True)
class SecondLook:
    """Decides between answers that point and answers that deny; ``words`` maps concepts to columns."""

    words: Mapping[str, int]

    def needed(self, *, points: bool, runner_up: float) -> bool:
        """Say whether the checks could turn the likeliest first token into the second.

        ``runner_up`` is the probability of the second.
        """
        most = MOST_AGAINST**2 if points else LOOKS_FOR * PLACE_FOR
        return bool(self.words) and runner_up * most > 1 - runner_up

    def believes(self, question: str, *, pointing: float, seen: Sequence[Seen]) -> bool:
        """Say whether an answer that points is likelier than a denial.

        ``pointing`` is the probability of its first token; one reference that passes is enough.
        """
        factor = max((self._factor(question, one) for one in seen), default=1.0)
        return pointing * factor > 1 - pointing

    def _factor(self, question: str, seen: Seen) -> float:
        factor = 1.0
        if seen.looks is not None:
            odds = seen.looks / max(1 - seen.looks, 1e-6)
            factor *= min(max(odds, 1 / MOST_AGAINST), LOOKS_FOR)
        inside = [sign * (seen.place[axis] - 0.5) for axis, sign in named_sides(question)]
        if inside:
            odds = math.exp(STEEPNESS * min(max(min(inside), -0.5), 0.5))
            factor *= min(max(odds, 1 / MOST_AGAINST), PLACE_FOR)
        return factor

    def concepts(self, phrase: str) -> tuple[int, ...]:
        """Columns of the words and word pairs of a phrase that the model recognises in cells."""
        said = phrase.split()
        parts = {*said, *(" ".join(pair) for pair in pairwise(said))}
        return tuple(
            index
            for word, index in self.words.items()
            # a letter names a letter at the end only: "the letter A", and not "A letter"
            if (word in parts and (len(word) > 1 or word == said[-1])) or plural(word) in parts
        )

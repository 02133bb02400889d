"""Is it really there? Two ways to begin an answer, decided by what is seen.

A language model that denies ("There is no red circle.") goes by the form of the question: it cannot
see absence. Where its second likeliest beginning leads to an answer that points, both ways are on
the table, and what is pointed at can be checked: do the phrase's words hold in the elected cell, and
does it lie where the question says? The odds of the two beginnings are multiplied by the odds of
both.

What does not hold is strong evidence, what holds a weaker one, since not all that a question says
can be checked. Hence the bounds; they were chosen on training scenes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from deixis.language import named_sides, plural

LOOKS_FOR, PLACE_FOR, MOST_AGAINST = 2.0, 4.0, 50.0
"""Factors by which what is seen may change the odds of an answer that points."""
STEEPNESS = 40.0
"""Log odds of a place for each image side between the object's centre and the image's."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Evidence about one reference.

    ``looks`` is the least chance that a word of its phrase holds there, None where no word can be
    checked; ``place`` is the object's centre as a share of the image's width and height.
    """

    looks: float | None
    place: tuple[float, float]


@dataclass(frozen=True, slots=True)
class SecondLook:
    """Decides between answers that point and answers that deny; ``words`` are the concepts."""

    words: Mapping[str, int]

    def needed(self, *, points: bool, runner_up: float) -> bool:
        """Say whether seeing could still change the odds of the likeliest beginning.

        ``runner_up`` is the probability of the second.
        """
        most = MOST_AGAINST**2 if points else LOOKS_FOR * PLACE_FOR
        return bool(self.words) and runner_up * most > 1 - runner_up

    def believes(self, question: str, *, pointing: float, seen: Sequence[Seen]) -> bool:
        """Say whether an answer that points is likelier than a denial.

        ``pointing`` is the probability of its beginning; one reference that holds is enough.
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
        """Columns of the words and pairs of words of a phrase that the model tells from a cell."""
        said = phrase.split()
        parts = {*said, *(" ".join(pair) for pair in pairwise(said))}
        return tuple(
            index
            for word, index in self.words.items()
            # a letter names a letter at the end only: "the letter A", and not "A letter"
            if (word in parts and (len(word) > 1 or word == said[-1])) or plural(word) in parts
        )

"""Counting: one number for one question."""

import re
from dataclasses import dataclass

import numpy as np

from deixis.errors import BenchmarkError
from deixis.language import NUMBER_WORDS
from deixis.metrics.confidence_intervals import Interval, confidence_interval
from deixis.metrics.text import words_of

_LONGEST_NUMBER = 9


def parse_count(text: str) -> int | None:
    """Return the first number in ``text``, in digits or in words up to twenty.

    ``no`` and ``none`` are zero. None for a text without a number or with one of ten or more
    digits.
    """
    for word in words_of(text):
        if word in NUMBER_WORDS:
            return NUMBER_WORDS[word]
        if re.fullmatch(r"[0-9]+", word):
            return int(word) if len(word) <= _LONGEST_NUMBER else None
    return None


@dataclass(frozen=True, slots=True)
class CountScore:
    """Share of exact counts, and mean absolute error of the parsed ones.

    ``mean_absolute_error`` is None if no answer had a number. ``num_unparsed`` answers had none and
    count as wrong.
    """

    accuracy: float
    accuracy_interval: Interval
    mean_absolute_error: float | None
    num_examples: int
    num_unparsed: int


class CountAccuracy:
    """Compares counts."""

    def __init__(self) -> None:
        self._right: list[bool] = []
        self._errors: list[int] = []

    def update(self, predicted: int | None, target: int) -> bool:
        """Add one example and return whether it is right; ``predicted`` is None for no number.

        Raises:
            BenchmarkError: A count is negative.
        """
        if target < 0 or (predicted is not None and predicted < 0):
            raise BenchmarkError(f"a count is negative: predicted {predicted}, target {target}")
        right = predicted == target
        self._right.append(right)
        if predicted is not None:
            self._errors.append(abs(predicted - target))
        return right

    def compute(self, *, seed: int = 0) -> CountScore:
        """Return the score; ``seed`` draws the interval.

        Raises:
            BenchmarkError: No example was added.
        """
        if not self._right:
            raise BenchmarkError("no examples")
        right = np.array(self._right, dtype=np.float64)
        return CountScore(
            accuracy=float(right.mean()),
            accuracy_interval=confidence_interval(right, seed=seed),
            mean_absolute_error=float(np.mean(self._errors)) if self._errors else None,
            num_examples=len(self._right),
            num_unparsed=len(self._right) - len(self._errors),
        )

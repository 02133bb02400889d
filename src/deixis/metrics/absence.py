"""Absent phrases: does the model point although the image has no such instance?"""

from dataclasses import dataclass

import numpy as np

from deixis.errors import BenchmarkError
from deixis.metrics.confidence_intervals import Interval, confidence_interval


@dataclass(frozen=True, slots=True)
class AbsenceScore:
    """Answers to phrases without a target, as fractions in [0, 1].

    ``accuracy`` is the share of answers that said that nothing is there; ``false_positive_rate``
    the share that pointed. ``num_unparsed`` answers did neither and count as wrong.
    """

    accuracy: float
    accuracy_interval: Interval
    false_positive_rate: float
    num_examples: int
    num_unparsed: int


class AbsenceAccuracy:
    """Counts answers that decline to point."""

    def __init__(self) -> None:
        self._pointed: list[int | None] = []

    def update(self, num_units: int | None) -> bool:
        """Add one absent phrase and return whether the answer declined.

        ``num_units`` is the number of instances that the answer points at; None if the answer has
        neither units nor the statement that nothing is there.

        Raises:
            BenchmarkError: ``num_units`` is negative.
        """
        if num_units is not None and num_units < 0:
            raise BenchmarkError(f"an answer cannot point at {num_units} instances")
        self._pointed.append(num_units)
        return num_units == 0

    def compute(self, *, seed: int = 0) -> AbsenceScore:
        """Return the score; ``seed`` draws the interval.

        Raises:
            BenchmarkError: No example was added.
        """
        if not self._pointed:
            raise BenchmarkError("no examples")
        refused = np.array([units == 0 for units in self._pointed], dtype=np.float64)
        wrong = [units is not None and units > 0 for units in self._pointed]
        return AbsenceScore(
            accuracy=float(refused.mean()),
            accuracy_interval=confidence_interval(refused, seed=seed),
            false_positive_rate=float(np.mean(wrong)),
            num_examples=len(self._pointed),
            num_unparsed=self._pointed.count(None),
        )

"""Calibration of confidences: is an answer with a score of 0.8 right in 80 % of cases?"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from deixis.errors import BenchmarkError


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The answers whose score lies in [``low``, ``high``), or up to 1 in the last bin."""

    low: float
    high: float
    num_examples: int
    mean_score: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class CalibrationScore:
    """Calibration of the scores.

    ``expected_calibration_error`` (ECE) is the mean over bins of equal width, weighted by their
    answers, of the distance between mean score and accuracy; ``brier`` is the mean squared
    distance between score and outcome; ``auroc`` is the chance that a right answer scores above
    a wrong one, with ties as one half, and None where all are right or all are wrong. Empty
    bins are left out of ``bins``.
    """

    expected_calibration_error: float
    brier: float
    auroc: float | None
    num_examples: int
    bins: tuple[ReliabilityBin, ...]


def _auroc(scores: Float[ndarray, " n"], right: Bool[ndarray, " n"]) -> float | None:
    num_right = int(right.sum())
    num_wrong = right.size - num_right
    if not num_right or not num_wrong:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(mean_ranks[inverse][right].sum())
    return (rank_sum - num_right * (num_right + 1) / 2) / (num_right * num_wrong)


class Calibration:
    """Collects scores with their outcomes."""

    def __init__(self, *, num_bins: int = 10) -> None:
        if num_bins < 1:
            raise BenchmarkError(f"a reliability table needs at least one bin, got {num_bins}")
        self._num_bins = num_bins
        self._scores: list[float] = []
        self._right: list[bool] = []

    def update(self, score: float, right: bool) -> None:  # noqa: FBT001 - the pair is the example
        """Add one answer.

        Raises:
            BenchmarkError: The score is not in [0, 1].
        """
        if not (math.isfinite(score) and 0.0 <= score <= 1.0):
            raise BenchmarkError(f"score {score} is not in [0, 1]")
        self._scores.append(score)
        self._right.append(right)

    def __len__(self) -> int:
        return len(self._scores)

    def compute(self) -> CalibrationScore:
        """Return the score.

        Raises:
            BenchmarkError: No example was added.
        """
        if not self._scores:
            raise BenchmarkError("no examples")
        scores, right = np.array(self._scores), np.array(self._right, dtype=bool)
        edges = np.linspace(0.0, 1.0, self._num_bins + 1)
        place = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, self._num_bins - 1)
        bins = tuple(
            ReliabilityBin(
                low=float(edges[index]),
                high=float(edges[index + 1]),
                num_examples=int(np.count_nonzero(place == index)),
                mean_score=float(scores[place == index].mean()),
                accuracy=float(right[place == index].mean()),
            )
            for index in np.unique(place)
        )
        gaps = [entry.num_examples * abs(entry.mean_score - entry.accuracy) for entry in bins]
        return CalibrationScore(
            expected_calibration_error=sum(gaps) / scores.size,
            brier=float(np.mean((scores - right) ** 2)),
            auroc=_auroc(scores, right),
            num_examples=scores.size,
            bins=bins,
        )

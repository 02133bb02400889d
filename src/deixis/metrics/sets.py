"""Sets of instances: all boxes of a phrase or class name, and no others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from numpy import ndarray
from scipy.optimize import linear_sum_assignment

from deixis.errors import BenchmarkError
from deixis.geometry import Box, box_iou, stack_boxes
from deixis.metrics.confidence_intervals import Interval, confidence_interval
from deixis.metrics.thresholds import Inequality, passes


def count_matches(hits: Bool[ndarray, "predicted target"]) -> int:
    """Return the size of a largest one-to-one matching of true entries; 0 for no rows."""
    rows, columns = linear_sum_assignment(hits, maximize=True)
    return int(np.count_nonzero(hits[rows, columns]))


@dataclass(frozen=True, slots=True)
class SetScore:
    """Accuracy of predicted sets of boxes, as fractions in [0, 1].

    ``mean_f1`` is the mean of each expression's F1 under a largest one-to-one matching at
    ``threshold``; ``exact_accuracy`` is the share of expressions with an F1 of 1 (nothing missed,
    nothing added). ``precision`` and ``recall`` are over all boxes of the split and None where
    there are none. An expression without targets has an F1 of 1 if the answer has no box and of
    0 otherwise. ``num_unparsed`` answers count as wrong.
    """

    mean_f1: float
    exact_accuracy: float
    exact_accuracy_interval: Interval
    precision: float | None
    recall: float | None
    num_examples: int
    num_unparsed: int
    threshold: float
    inequality: Inequality


class SetAccuracy:
    """Matches predicted with true boxes, expression by expression."""

    def __init__(self, *, threshold: float = 0.5, inequality: Inequality = ">=") -> None:
        self._threshold = threshold
        self._inequality: Inequality = inequality
        self._f1: list[float] = []
        self._num_matched = 0
        self._num_predicted = 0
        self._num_targets = 0
        self._num_unparsed = 0

    def update(self, predicted: Sequence[Box] | None, target: Sequence[Box]) -> float:
        """Add one expression and return its F1; ``predicted`` is None for an unparsed answer."""
        boxes = predicted or ()
        matched = self._count(boxes, target)
        total = len(boxes) + len(target)
        f1 = 2 * matched / total if total else 1.0
        if predicted is None:
            self._num_unparsed += 1
            f1 = 0.0
        self._f1.append(f1)
        self._num_matched += matched
        self._num_predicted += len(boxes)
        self._num_targets += len(target)
        return f1

    def compute(self, *, seed: int = 0) -> SetScore:
        """Return the score; ``seed`` draws the interval.

        Raises:
            BenchmarkError: No example was added.
        """
        if not self._f1:
            raise BenchmarkError("no examples")
        exact = np.array([f1 == 1.0 for f1 in self._f1], dtype=np.float64)
        predicted, targets = self._num_predicted, self._num_targets
        return SetScore(
            mean_f1=float(np.mean(self._f1)),
            exact_accuracy=float(exact.mean()),
            exact_accuracy_interval=confidence_interval(exact, seed=seed),
            precision=self._num_matched / predicted if predicted else None,
            recall=self._num_matched / targets if targets else None,
            num_examples=len(self._f1),
            num_unparsed=self._num_unparsed,
            threshold=self._threshold,
            inequality=self._inequality,
        )

    def _count(self, predicted: Sequence[Box], target: Sequence[Box]) -> int:
        if not predicted or not target:
            return 0
        hits = [
            [passes(overlap, self._threshold, self._inequality) for overlap in row]
            for row in box_iou(stack_boxes(predicted), stack_boxes(target)).tolist()
        ]
        return count_matches(np.array(hits, dtype=bool))

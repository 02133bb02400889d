"""Referring expression comprehension (REC): one box for one expression."""

from dataclasses import dataclass

import numpy as np

from deixis.errors import BenchmarkError
from deixis.geometry import Box, overlap_of_boxes
from deixis.metrics.confidence_intervals import Interval, confidence_interval
from deixis.metrics.thresholds import Inequality, passes


@dataclass(frozen=True, slots=True)
class ComprehensionScore:
    """Accuracy over a split, as fractions in [0, 1].

    ``accuracy`` is at an IoU of 0.5. ``num_unparsed`` answers had no box and ``num_declined`` said
    that nothing is there: both count as wrong and are reported separately, so that a formatting
    regression is not mistaken for a localisation regression.
    """

    accuracy: float
    accuracy_interval: Interval
    accuracy_at_70: float
    accuracy_at_90: float
    mean_iou: float
    num_examples: int
    num_unparsed: int
    num_declined: int
    inequality: Inequality


class ComprehensionAccuracy:
    """Counts boxes that match their target.

    ``inequality`` is ``>`` by default, as in most published REC evaluations.
    """

    def __init__(self, *, inequality: Inequality = ">") -> None:
        self._inequality: Inequality = inequality
        self._overlaps: list[float] = []
        self._num_unparsed = 0
        self._num_declined = 0

    def update(self, predicted: Box | None, target: Box, *, declined: bool = False) -> float:
        """Add one example and return its IoU.

        ``predicted`` is None if the answer had no box; ``declined`` says that the answer stated
        that nothing is there.

        Raises:
            BenchmarkError: A declined answer has a box.
        """
        if predicted is None:
            self._num_declined += declined
            self._num_unparsed += not declined
            overlap = 0.0
        elif declined:
            raise BenchmarkError("a declined answer cannot have a box")
        else:
            overlap = overlap_of_boxes(predicted, target)
        self._overlaps.append(overlap)
        return overlap

    def compute(self, *, seed: int = 0) -> ComprehensionScore:
        """Return the score; ``seed`` draws the interval.

        Raises:
            BenchmarkError: No example was added.
        """
        if not self._overlaps:
            raise BenchmarkError("no examples")
        hits = np.array(self._hits(0.5), dtype=np.float64)
        return ComprehensionScore(
            accuracy=float(hits.mean()),
            accuracy_interval=confidence_interval(hits, seed=seed),
            accuracy_at_70=float(np.mean(self._hits(0.7))),
            accuracy_at_90=float(np.mean(self._hits(0.9))),
            mean_iou=float(np.mean(self._overlaps)),
            num_examples=len(self._overlaps),
            num_unparsed=self._num_unparsed,
            num_declined=self._num_declined,
            inequality=self._inequality,
        )

    def _hits(self, threshold: float) -> list[bool]:
        return [passes(overlap, threshold, self._inequality) for overlap in self._overlaps]

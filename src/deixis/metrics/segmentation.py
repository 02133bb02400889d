"""Referring expression segmentation (RES): one mask for one expression, which may be empty."""

from dataclasses import dataclass

import numpy as np

from deixis.errors import BenchmarkError, GeometryError
from deixis.geometry import Mask
from deixis.metrics.confidence_intervals import Interval, confidence_interval
from deixis.metrics.thresholds import Inequality, passes


@dataclass(frozen=True, slots=True)
class SegmentationScore:
    """Mask overlap over a split, as fractions in [0, 1].

    ``cumulative_iou`` (cIoU, also called oIoU) is total intersection over total union;
    ``mean_iou`` (gIoU in LISA-style papers) is the mean of the IoU of each example, where an
    expression without a target counts 1 if the answer is empty and 0 otherwise. Precisions are
    over the expressions that have a target. ``target_accuracy`` (T-acc) is the share of those
    that got a mask; ``no_target_accuracy`` (N-acc) the share of the others that got none. A figure
    over no expressions is None. ``num_unparsed`` answers count as wrong: their target is in the
    union. ``num_declined`` answers were empty though there is a target.
    """

    cumulative_iou: float
    cumulative_iou_interval: Interval
    mean_iou: float
    precision_at_50: float | None
    precision_at_70: float | None
    precision_at_90: float | None
    target_accuracy: float | None
    no_target_accuracy: float | None
    num_examples: int
    num_unparsed: int
    num_declined: int
    inequality: Inequality


def _share(right: list[bool]) -> float | None:
    return sum(right) / len(right) if right else None


class SegmentationAccuracy:
    """Sums intersections and unions of masks."""

    def __init__(self, *, inequality: Inequality = ">") -> None:
        self._inequality: Inequality = inequality
        self._intersections: list[float] = []
        self._unions: list[float] = []
        self._overlaps: list[float] = []
        self._target_overlaps: list[float] = []
        self._found: list[bool] = []
        self._refused: list[bool] = []
        self._num_unparsed = 0
        self._num_declined = 0

    def update(self, predicted: Mask | None, target: Mask) -> float:
        """Add one example and return its IoU.

        ``predicted`` is None if the answer had no mask, and an empty mask if it stated that nothing
        is there. An empty ``target`` means that the expression has no target.

        Raises:
            GeometryError: The masks differ in size.
        """
        if predicted is not None and predicted.size != target.size:
            raise GeometryError(f"a predicted mask is {predicted.size}, its target {target.size}")
        if predicted is None:
            intersection, union = 0, target.area
            self._num_unparsed += 1
        else:
            intersection = int(np.count_nonzero(predicted.array & target.array))
            union = predicted.area + target.area - intersection
        answered_empty = predicted is not None and predicted.is_empty
        if target.is_empty:
            overlap = float(answered_empty)
            self._refused.append(answered_empty)
        else:
            overlap = intersection / union
            self._target_overlaps.append(overlap)
            self._found.append(predicted is not None and not answered_empty)
            self._num_declined += answered_empty
        self._intersections.append(intersection)
        self._unions.append(union)
        self._overlaps.append(overlap)
        return overlap

    def compute(self, *, seed: int = 0) -> SegmentationScore:
        """Return the score; ``seed`` draws the interval.

        A cumulative IoU whose union is empty (nothing to find, nothing drawn) is 1.0.

        Raises:
            BenchmarkError: No example was added.
        """
        if not self._overlaps:
            raise BenchmarkError("no examples")
        intersections, unions = np.array(self._intersections, float), np.array(self._unions, float)
        total = unions.sum()
        return SegmentationScore(
            cumulative_iou=float(intersections.sum() / total) if total else 1.0,
            cumulative_iou_interval=confidence_interval(intersections, unions, seed=seed),
            mean_iou=float(np.mean(self._overlaps)),
            precision_at_50=self._precision(0.5),
            precision_at_70=self._precision(0.7),
            precision_at_90=self._precision(0.9),
            target_accuracy=_share(self._found),
            no_target_accuracy=_share(self._refused),
            num_examples=len(self._overlaps),
            num_unparsed=self._num_unparsed,
            num_declined=self._num_declined,
            inequality=self._inequality,
        )

    def _precision(self, threshold: float) -> float | None:
        return _share(
            [passes(overlap, threshold, self._inequality) for overlap in self._target_overlaps]
        )

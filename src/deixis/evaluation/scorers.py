"""From predictions to scores, one scorer for each kind of task."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import numpy as np

from deixis.evaluation.examples import Example
from deixis.evaluation.predictions import PredictedReference, Prediction
from deixis.geometry import Mask
from deixis.metrics import (
    AbsenceAccuracy,
    AbsenceScore,
    AnswerAccuracy,
    AnswerScore,
    Calibration,
    CalibrationScore,
    ComprehensionAccuracy,
    ComprehensionScore,
    CountAccuracy,
    CountScore,
    DescriptionAccuracy,
    DescriptionScore,
    SegmentationAccuracy,
    SegmentationScore,
    SetAccuracy,
    SetScore,
    parse_count,
)

Score = (
    ComprehensionScore
    | SegmentationScore
    | SetScore
    | AbsenceScore
    | CountScore
    | DescriptionScore
    | AnswerScore
)

SELECTION = "the reference with the highest score, the first among equals"
"""Which of several references answers for a single target."""

_CALIBRATION_IOU = 0.5


class Scorer(Protocol):
    """Takes predictions one by one and gives scores by name."""

    def update(self, example: Example, prediction: Prediction) -> None:
        """Add one prediction."""

    def compute(self, *, seed: int) -> Mapping[str, Score]:
        """Return the scores."""

    def calibration(self) -> CalibrationScore | None:
        """Return the calibration of the confidences; None without confidences."""


def best_reference(references: Sequence[PredictedReference]) -> PredictedReference:
    """Return the reference that answers for a single target, as `SELECTION` says."""
    return max(references, key=lambda one: -1.0 if one.score is None else one.score)


class _Confidence:
    def __init__(self) -> None:
        self._calibration = Calibration()

    def note(self, chosen: PredictedReference, overlap: float) -> None:
        if chosen.score is not None:
            self._calibration.update(chosen.score, overlap >= _CALIBRATION_IOU)

    def compute(self) -> CalibrationScore | None:
        return self._calibration.compute() if len(self._calibration) else None


class BoxScorer:
    """REC: one box for one target, at an IoU above 0.5."""

    def __init__(self) -> None:
        self._metric = ComprehensionAccuracy()
        self._confidence = _Confidence()

    def update(self, example: Example, prediction: Prediction) -> None:
        """Add one prediction."""
        (target,) = example.boxes
        found = [one for one in prediction.references or () if one.box is not None]
        if not found:
            self._metric.update(None, target, declined=prediction.references == ())
            return
        chosen = best_reference(found)
        self._confidence.note(chosen, self._metric.update(chosen.box, target))

    def compute(self, *, seed: int) -> Mapping[str, Score]:
        """Return the score under ``rec``."""
        return {"rec": self._metric.compute(seed=seed)}

    def calibration(self) -> CalibrationScore | None:
        """Return the calibration of the confidences of the chosen boxes."""
        return self._confidence.compute()


class MaskScorer:
    """RES: one mask for one target."""

    def __init__(self) -> None:
        self._metric = SegmentationAccuracy()
        self._confidence = _Confidence()

    def update(self, example: Example, prediction: Prediction) -> None:
        """Add one prediction."""
        found = [one for one in prediction.references or () if one.mask is not None]
        if not found:
            empty = Mask(np.zeros(tuple(example.sample.size), dtype=np.bool_))
            self._metric.update(empty if prediction.references == () else None, example.mask)
            return
        chosen = best_reference(found)
        self._confidence.note(chosen, self._metric.update(chosen.mask, example.mask))

    def compute(self, *, seed: int) -> Mapping[str, Score]:
        """Return the score under ``res``."""
        return {"res": self._metric.compute(seed=seed)}

    def calibration(self) -> CalibrationScore | None:
        """Return the calibration of the confidences of the chosen masks."""
        return self._confidence.compute()


class BoxAndMaskScorer:
    """Box and mask of the same answers, scored separately; confidences are compared with boxes."""

    def __init__(self) -> None:
        self._boxes = BoxScorer()
        self._masks = MaskScorer()

    def update(self, example: Example, prediction: Prediction) -> None:
        """Add one prediction."""
        self._boxes.update(example, prediction)
        self._masks.update(example, prediction)

    def compute(self, *, seed: int) -> Mapping[str, Score]:
        """Return the scores under ``rec`` and ``res``."""
        return {**self._boxes.compute(seed=seed), **self._masks.compute(seed=seed)}

    def calibration(self) -> CalibrationScore | None:
        """Return the calibration of the confidences of the chosen boxes."""
        return self._boxes.calibration()


class _Uncalibrated:
    def calibration(self) -> CalibrationScore | None:
        """Return None: these answers have no single confidence."""
        return None


class SetScorer(_Uncalibrated):
    """All boxes of a phrase or a class, and no others."""

    def __init__(self) -> None:
        self._metric = SetAccuracy()

    def update(self, example: Example, prediction: Prediction) -> None:
        """Add one prediction."""
        references = prediction.references
        boxes = [one.box for one in references or () if one.box is not None]
        parsed = references == () or bool(boxes)
        self._metric.update(boxes if parsed else None, example.boxes)

    def compute(self, *, seed: int) -> Mapping[str, Score]:
        """Return the score under ``set``."""
        return {"set": self._metric.compute(seed=seed)}


class AbsenceScorer(_Uncalibrated):
    """Phrases without a target."""

    def __init__(self) -> None:
        self._metric = AbsenceAccuracy()

    def update(self, example: Example, prediction: Prediction) -> None:  # noqa: ARG002 - there is no target
        """Add one prediction."""
        references = prediction.references
        self._metric.update(None if references is None else len(references))

    def compute(self, *, seed: int) -> Mapping[str, Score]:
        """Return the score under ``absent``."""
        return {"absent": self._metric.compute(seed=seed)}


class CountScorer(_Uncalibrated):
    """A number, read from the words of the answer."""

    def __init__(self) -> None:
        self._metric = CountAccuracy()

    def update(self, example: Example, prediction: Prediction) -> None:
        """Add one prediction."""
        self._metric.update(parse_count(prediction.text), len(example.targets))

    def compute(self, *, seed: int) -> Mapping[str, Score]:
        """Return the score under ``count``."""
        return {"count": self._metric.compute(seed=seed)}


class DescriptionScorer(_Uncalibrated):
    """A description of a region against the data's; the F1 is over words of ``vocabulary``."""

    def __init__(self, *, vocabulary: Collection[str] | None = None) -> None:
        self._metric = DescriptionAccuracy(vocabulary=vocabulary)

    def update(self, example: Example, prediction: Prediction) -> None:
        """Add one prediction."""
        self._metric.update(prediction.text, example.texts)

    def compute(self, *, seed: int) -> Mapping[str, Score]:
        """Return the score under ``reg``."""
        return {"reg": self._metric.compute(seed=seed)}


class AnswerScorer(_Uncalibrated):
    """A short answer in words."""

    def __init__(self) -> None:
        self._metric = AnswerAccuracy()

    def update(self, example: Example, prediction: Prediction) -> None:
        """Add one prediction."""
        self._metric.update(prediction.text, example.texts)

    def compute(self, *, seed: int) -> Mapping[str, Score]:
        """Return the score under ``vqa``."""
        return {"vqa": self._metric.compute(seed=seed)}

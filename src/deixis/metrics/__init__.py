"""Metrics of answers against truth; pure functions without models, files or images."""

from deixis.metrics.absence import AbsenceAccuracy, AbsenceScore
from deixis.metrics.calibration import Calibration, CalibrationScore, ReliabilityBin
from deixis.metrics.comprehension import (
    ComprehensionAccuracy,
    ComprehensionScore,
)
from deixis.metrics.confidence_intervals import Interval, confidence_interval
from deixis.metrics.counting import CountAccuracy, CountScore, parse_count
from deixis.metrics.segmentation import SegmentationAccuracy, SegmentationScore
from deixis.metrics.sets import SetAccuracy, SetScore, count_matches
from deixis.metrics.text import (
    AnswerAccuracy,
    AnswerScore,
    DescriptionAccuracy,
    DescriptionScore,
    answer_agreement,
    normalize_answer,
    word_f1,
    words_of,
)
from deixis.metrics.thresholds import Inequality, passes

__all__ = [
    "AbsenceAccuracy",
    "AbsenceScore",
    "AnswerAccuracy",
    "AnswerScore",
    "Calibration",
    "CalibrationScore",
    "ComprehensionAccuracy",
    "ComprehensionScore",
    "CountAccuracy",
    "CountScore",
    "DescriptionAccuracy",
    "DescriptionScore",
    "Inequality",
    "Interval",
    "ReliabilityBin",
    "SegmentationAccuracy",
    "SegmentationScore",
    "SetAccuracy",
    "SetScore",
    "answer_agreement",
    "confidence_interval",
    "count_matches",
    "normalize_answer",
    "parse_count",
    "passes",
    "word_f1",
    "words_of",
]

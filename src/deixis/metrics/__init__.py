"""Answers against truth, as numbers. Pure: no model, no file, no image."""

from deixis.metrics.absence import AbsenceAccuracy, AbsenceScore
from deixis.metrics.bootstrap import Interval, bootstrap_interval
from deixis.metrics.calibration import Calibration, CalibrationScore, ReliabilityBin
from deixis.metrics.comprehension import (
    ComprehensionAccuracy,
    ComprehensionScore,
    overlap_of_boxes,
)
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
    "bootstrap_interval",
    "count_matches",
    "normalize_answer",
    "overlap_of_boxes",
    "parse_count",
    "passes",
    "word_f1",
    "words_of",
]

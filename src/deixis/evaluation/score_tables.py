"""Scores as columns of a table."""

from collections.abc import Sequence
from dataclasses import dataclass

from deixis.evaluation.scorers import Score
from deixis.metrics import (
    AbsenceScore,
    AnswerScore,
    CalibrationScore,
    ComprehensionScore,
    CountScore,
    DescriptionScore,
    Interval,
    SegmentationScore,
    SetScore,
)

Figures = dict[str, str]
"""The cells of one row by column heading."""


@dataclass(frozen=True, slots=True)
class Headline:
    """The main figure of a score."""

    name: str
    value: float
    interval: Interval


def headline(score: Score) -> Headline:
    """Return the main figure of a score with its interval."""
    match score:
        case SegmentationScore():
            return Headline("cumulative IoU", score.cumulative_iou, score.cumulative_iou_interval)
        case SetScore():
            return Headline("exact sets", score.exact_accuracy, score.exact_accuracy_interval)
        case DescriptionScore():
            return Headline("exact match", score.exact_match, score.exact_match_interval)
        case ComprehensionScore():
            return Headline("accuracy at 0.5", score.accuracy, score.accuracy_interval)
        case AbsenceScore() | CountScore() | AnswerScore():
            return Headline("accuracy", score.accuracy, score.accuracy_interval)


def figures_of(score: Score, calibration: CalibrationScore | None = None) -> Figures:
    """Return the cells of a score: headline, details, number of examples and of unparsed answers."""
    first = headline(score)
    interval = f"[{number(first.interval.low)}, {number(first.interval.high)}]"
    columns = {first.name: f"{number(first.value)} {interval}"}
    columns |= {name: number(value) for name, value in _details(score).items()}
    if calibration is not None:
        columns["ECE"] = number(calibration.expected_calibration_error)
    columns["examples"] = str(score.num_examples)
    columns["unparsed"] = str(score.num_unparsed)
    if isinstance(score, ComprehensionScore | SegmentationScore):
        columns["declined"] = str(score.num_declined)
    return columns


def _details(score: Score) -> dict[str, float | None]:
    match score:
        case ComprehensionScore():
            return {
                "at 0.7": score.accuracy_at_70,
                "at 0.9": score.accuracy_at_90,
                "mean IoU": score.mean_iou,
            }
        case SegmentationScore():
            return {
                "mean IoU": score.mean_iou,
                "precision at 0.5": score.precision_at_50,
                "at 0.7": score.precision_at_70,
                "at 0.9": score.precision_at_90,
            }
        case SetScore():
            return {"mean F1": score.mean_f1, "precision": score.precision, "recall": score.recall}
        case AbsenceScore():
            return {"false positives": score.false_positive_rate}
        case CountScore():
            return {"mean error": score.mean_absolute_error}
        case DescriptionScore():
            return {"attribute F1": score.word_f1}
        case AnswerScore():
            return {}


def number(value: float | None) -> str:
    """Return a figure with three digits, or a dash for None."""
    return "–" if value is None else f"{value:.3f}"  # noqa: RUF001 - a dash in a table cell


def format_table(rows: Sequence[Figures]) -> str:
    """Return rows that share their columns as a Markdown table, newline included.

    Missing cells are dashes.
    """
    headings = list(dict.fromkeys(heading for row in rows for heading in row))
    lines = [headings, ["---"] * len(headings)]
    lines += [[row.get(heading, number(None)) for heading in headings] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)

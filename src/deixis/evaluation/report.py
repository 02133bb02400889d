"""Results of an evaluation, as JSON and as Markdown tables."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deixis.errors import BenchmarkError
from deixis.evaluation.fusion_comparison import FusionComparison
from deixis.evaluation.protocol import EvaluationProtocol
from deixis.evaluation.score_tables import Figures, figures_of, format_table, headline
from deixis.evaluation.scorers import Score
from deixis.metrics import CalibrationScore
from deixis.storage import write_file


@dataclass(frozen=True, slots=True)
class Result:
    """The scores of one benchmark with the terms under which they were measured.

    ``coverage`` is below 1 where predictions were missing and that was allowed; they count as
    wrong. ``num_with_problems`` answers have problems listed, ``num_cut`` reached the length limit.
    ``fusion`` compares the sources of boxes if that was asked for; the scores are always those of
    answers without fusion.
    """

    benchmark: str
    scores: Mapping[str, Score]
    calibration: CalibrationScore | None
    coverage: float
    num_with_problems: int
    num_cut: int
    protocol: EvaluationProtocol
    fusion: FusionComparison | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; the key ``fusion`` is left out without a comparison."""
        data = asdict(self)
        del data["fusion"]
        return data if self.fusion is None else {**data, "fusion": self.fusion.to_dict()}

    @property
    def headline(self) -> float:
        """The first figure of the first score: accuracy, cumulative IoU or F1."""
        return headline(next(iter(self.scores.values()))).value


@dataclass(frozen=True, slots=True)
class Report:
    """Results of one predictor in the order asked for. All figures are fractions in [0, 1]."""

    results: tuple[Result, ...]

    def __getitem__(self, benchmark: str) -> Result:
        """Return the result of a benchmark, named in full.

        Raises:
            BenchmarkError: The report has no result of this name.
        """
        for result in self.results:
            if result.benchmark == benchmark:
                return result
        raise BenchmarkError(
            f"no result of {benchmark}: the report holds "
            f"{', '.join(result.benchmark for result in self.results)}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {"results": [result.to_dict() for result in self.results]}

    def to_json(self, path: Path) -> None:
        """Write the report atomically.

        Raises:
            StorageError: The file cannot be written.
        """
        write_file(path, json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n")

    def to_markdown(self) -> str:
        """Return one table for each kind of score, a row for each benchmark.

        A last table compares sources and strategies, for benchmarks with a fusion comparison.
        """
        tables: dict[str, list[tuple[str, Figures]]] = {}
        for result in self.results:
            for kind, score in result.scores.items():
                figures = figures_of(score, result.calibration)
                tables.setdefault(kind, []).append((result.benchmark, figures))
        pieces = [
            format_table([{"benchmark": name, **figures} for name, figures in rows])
            for rows in tables.values()
        ]
        fused = [
            {"benchmark": result.benchmark, **row}
            for result in self.results
            if result.fusion is not None
            for row in result.fusion.rows()
        ]
        return "\n".join([*pieces, format_table(fused)] if fused else pieces)

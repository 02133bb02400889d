"""How good each source of boxes and each way to fuse them is, from the answers to a benchmark."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from deixis.errors import BenchmarkError
from deixis.evaluation.benchmark import Benchmark
from deixis.evaluation.examples import Example
from deixis.evaluation.figures import Figures, figures_of, number
from deixis.evaluation.predictions import Prediction
from deixis.evaluation.predictor import PredictorRecord
from deixis.evaluation.scoring import BoxAndMaskScorer, BoxScorer, best_thing
from deixis.geometry import Box
from deixis.inference.fusion import (
    BoxSource,
    FusionReport,
    FusionStrategy,
    ScoredBox,
    compare_fusion,
    read_strategy,
)

_Sample = tuple[Mapping[BoxSource, ScoredBox], Box]


@dataclass(frozen=True, slots=True)
class FusionResult:
    """Sources and strategies on the same answers.

    ``threshold`` is the IoU at which two boxes count as the same thing; ``detector`` says who
    gave the third box, None where nobody did.
    """

    report: FusionReport
    threshold: float
    detector: PredictorRecord | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            **self.report.to_dict(),
            "threshold": self.threshold,
            "detector": None if self.detector is None else asdict(self.detector),
        }

    def rows(self) -> list[Figures]:
        """Return a row for each source that gave a box, each strategy, and the ceiling."""
        report = self.report
        rows: list[Figures] = [
            {"box of": name, **figures_of(score)}
            for name, score in report.sources.items()
            if score.num_unparsed < score.num_examples
        ]
        for name, score in report.fused.items():
            gain = report.gains[name]
            interval = gain.accuracy_interval
            rows.append(
                {
                    "box of": f"fused: {name}",
                    **figures_of(score),
                    "gain": f"{gain.accuracy:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]",
                    "won": str(gain.num_won),
                    "lost": str(gain.num_lost),
                }
            )
        rows.append({"box of": "any source right", "accuracy at 0.5": number(report.any_right)})
        # who declined is not told apart here
        return [{name: cell for name, cell in row.items() if name != "declined"} for row in rows]


class FusionTally:
    """Takes the answers of one benchmark, one by one.

    The reference that answers is the one that is scored without fusion.
    """

    def __init__(
        self,
        strategies: Sequence[FusionStrategy],
        *,
        threshold: float,
        detector: PredictorRecord | None,
    ) -> None:
        self._strategies = strategies
        self._threshold = threshold
        self._detector = detector
        self._samples: list[_Sample] = []

    def add(self, example: Example, prediction: Prediction) -> None:
        """Add the boxes of one answer; none where it points at nothing."""
        (target,) = example.boxes
        things = prediction.references or ()
        pointing = [thing for thing in things if thing.box is not None]
        found = [thing for thing in things if thing.sources]
        chosen = best_thing(pointing or found) if pointing or found else None
        sources = {} if chosen is None or chosen.sources is None else chosen.sources
        self._samples.append((sources, target))

    def compute(self, *, seed: int) -> FusionResult:
        """Compare what was added; ``seed`` draws the intervals."""
        report = compare_fusion(
            self._samples, strategies=self._strategies, threshold=self._threshold, seed=seed
        )
        return FusionResult(report, self._threshold, self._detector)


def read_strategies(names: Sequence[str]) -> tuple[FusionStrategy, ...]:
    """Check the names of strategies; one that is named twice is taken once.

    Raises:
        PromptError: There is none of that name.
    """
    return tuple(dict.fromkeys(read_strategy(name) for name in names))


def check_fusible(benchmarks: Sequence[Benchmark]) -> None:
    """Check that one box answers every question.

    Raises:
        BenchmarkError: It does not.
    """
    for benchmark in benchmarks:
        if benchmark.task.scorer not in {BoxScorer, BoxAndMaskScorer}:
            raise BenchmarkError(
                f"{benchmark.name}: expected rec or locate to compare fused boxes on, "
                f"got {benchmark.task_name}"
            )

"""Comparison of the sources of boxes and of the strategies that fuse them, on one benchmark."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from deixis.errors import BenchmarkError
from deixis.evaluation.benchmark import Benchmark
from deixis.evaluation.examples import Example
from deixis.evaluation.predictions import Prediction
from deixis.evaluation.predictor_interface import PredictorRecord
from deixis.evaluation.score_tables import Figures, figures_of, number
from deixis.evaluation.scorers import BoxAndMaskScorer, BoxScorer, best_reference
from deixis.geometry import Box
from deixis.inference.fusion import fuse_boxes, read_strategy
from deixis.inference.pointing_answer import (
    SOURCES,
    STRATEGIES,
    BoxSource,
    FusionStrategy,
    ScoredBox,
)
from deixis.metrics import (
    ComprehensionAccuracy,
    ComprehensionScore,
    Inequality,
    Interval,
    confidence_interval,
    passes,
)

_Sample = tuple[Mapping[BoxSource, ScoredBox], Box]


@dataclass(frozen=True, slots=True)
class Gain:
    """What a strategy changes against the box decoder alone, sample by sample.

    ``accuracy`` and ``mean_iou`` are differences with their 95 % intervals, the samples drawn in
    pairs. ``num_won`` samples are right with the strategy alone, ``num_lost`` with the decoder
    alone.
    """

    accuracy: float
    accuracy_interval: Interval
    mean_iou: float
    mean_iou_interval: Interval
    num_won: int
    num_lost: int


@dataclass(frozen=True, slots=True)
class FusionComparison:
    """How good each source of boxes and each strategy was on the same samples.

    A sample without a box counts as wrong; ``num_unparsed`` of a score says how many there were.
    ``gains`` sets each strategy beside the box decoder, which answers without fusion.
    ``any_right`` is the share of samples where at least one source was right: an upper bound for
    every strategy that picks a source. ``threshold`` is the least IoU of two boxes of
    the same instance. ``detector`` records the detector, None without one.
    """

    sources: Mapping[BoxSource, ComprehensionScore]
    fused: Mapping[FusionStrategy, ComprehensionScore]
    gains: Mapping[FusionStrategy, Gain]
    any_right: float
    num_examples: int
    threshold: float = 0.5
    detector: PredictorRecord | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    def rows(self) -> list[Figures]:
        """Return a row for each source that gave a box, for each strategy, and for `any_right`."""
        rows: list[Figures] = [
            {"box of": name, **figures_of(score)}
            for name, score in self.sources.items()
            if score.num_unparsed < score.num_examples
        ]
        for name, score in self.fused.items():
            gain = self.gains[name]
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
        rows.append({"box of": "any source right", "accuracy at 0.5": number(self.any_right)})
        # declined answers are not counted separately here
        return [{name: cell for name, cell in row.items() if name != "declined"} for row in rows]


class FusionTally:
    """Collects the boxes of the answers to one benchmark.

    It uses the reference of each answer that is scored without fusion.
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
        """Add the boxes of one answer, if it points."""
        (target,) = example.boxes
        references = prediction.references or ()
        pointing = [one for one in references if one.box is not None]
        found = [one for one in references if one.sources]
        chosen = best_reference(pointing or found) if pointing or found else None
        sources = {} if chosen is None or chosen.sources is None else chosen.sources
        self._samples.append((sources, target))

    def compute(self, *, seed: int) -> FusionComparison:
        """Compare sources and strategies on the added boxes; ``seed`` draws the intervals."""
        return compare_fusion(
            self._samples,
            strategies=self._strategies,
            threshold=self._threshold,
            seed=seed,
            detector=self._detector,
        )


def compare_fusion(
    samples: Iterable[_Sample],
    *,
    strategies: Sequence[FusionStrategy] = STRATEGIES,
    threshold: float = 0.5,
    weights: Mapping[BoxSource, float] | None = None,
    inequality: Inequality = ">",
    seed: int = 0,
    detector: PredictorRecord | None = None,
) -> FusionComparison:
    """Score every source and every strategy against the true boxes.

    Args:
        samples: The boxes by source and the true box of each sample.
        strategies: The strategies to compare.
        threshold: As for `deixis.inference.fusion.fuse_boxes`.
        weights: As for `deixis.inference.fusion.fuse_boxes`.
        inequality: A box is right where its IoU is ``>`` or ``>=`` 0.5.
        seed: Seed of the intervals.
        detector: The detector that gave the third boxes, for the record.

    Raises:
        BenchmarkError: There are no samples.
        GeometryError: A weight is not positive.
    """
    of_sources = {name: ComprehensionAccuracy(inequality=inequality) for name in SOURCES}
    of_fused = {name: ComprehensionAccuracy(inequality=inequality) for name in strategies}
    decoded: list[float] = []
    made: dict[FusionStrategy, list[float]] = {name: [] for name in strategies}
    any_right: list[bool] = []
    for found, target in samples:
        overlaps = {
            name: counter.update(found[name].box if name in found else None, target)
            for name, counter in of_sources.items()
        }
        decoded.append(overlaps["decoder"])
        any_right.append(any(passes(each, 0.5, inequality) for each in overlaps.values()))
        for name, fused_counter in of_fused.items():
            fused = fuse_boxes(found, name, threshold=threshold, weights=weights)
            made[name].append(fused_counter.update(None if fused is None else fused.box, target))
    return FusionComparison(
        {name: counter.compute(seed=seed) for name, counter in of_sources.items()},
        {name: counter.compute(seed=seed) for name, counter in of_fused.items()},
        {name: _gain(found, decoded, inequality, seed=seed) for name, found in made.items()},
        sum(any_right) / len(any_right),
        len(any_right),
        threshold,
        detector,
    )


def read_strategies(names: Sequence[str]) -> tuple[FusionStrategy, ...]:
    """Check the names of strategies; repeated names are dropped.

    Raises:
        PromptError: A strategy is unknown.
    """
    return tuple(dict.fromkeys(read_strategy(name) for name in names))


def check_fusible(benchmarks: Sequence[Benchmark]) -> None:
    """Check that one box answers every question of the benchmarks.

    Raises:
        BenchmarkError: A benchmark is of another task.
    """
    for benchmark in benchmarks:
        if benchmark.task.scorer not in {BoxScorer, BoxAndMaskScorer}:
            raise BenchmarkError(
                f"{benchmark.name}: expected rec or locate to compare fused boxes on, "
                f"got {benchmark.task_name}"
            )


def _gain(
    made: Sequence[float], decoded: Sequence[float], inequality: Inequality, *, seed: int
) -> Gain:
    right, before = (
        np.array([passes(each, 0.5, inequality) for each in overlaps], dtype=np.float64)
        for overlaps in (made, decoded)
    )
    hits, overlaps = right - before, np.array(made) - np.array(decoded)
    return Gain(
        float(hits.mean()),
        confidence_interval(hits, seed=seed),
        float(overlaps.mean()),
        confidence_interval(overlaps, seed=seed),
        int((hits > 0).sum()),
        int((hits < 0).sum()),
    )

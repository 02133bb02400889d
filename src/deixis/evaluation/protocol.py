"""The evaluation protocol: the conditions of a measured number, stored with it."""

from collections.abc import Mapping
from dataclasses import dataclass

from deixis import __version__
from deixis.evaluation.benchmark import Benchmark
from deixis.evaluation.predictor_interface import PredictorRecord
from deixis.evaluation.scorers import SELECTION, Score
from deixis.metrics import Inequality

FAILURE_POLICY = "an answer without what was asked for counts as wrong and stays in the denominator"
SENTENCE_POLICY = "each expression or question is one example; none are merged"
BOX_FRAME = "pixels of the source image, xyxy, exclusive right and bottom edges"


@dataclass(frozen=True, slots=True)
class EvaluationProtocol:
    """Everything that two evaluations must share for their numbers to be comparable.

    ``wording`` is the question with its slots; ``num_examples`` is the number of examples asked;
    ``examples_sha256`` changes with any image, question or truth. ``threshold`` and
    ``inequality`` say when an IoU counts as right, for scores that use one. ``seed`` is the seed
    of the scenes, ``interval_seed`` that of the intervals.
    """

    benchmark: str
    task: str
    set: str
    split: str
    level: str
    seed: int
    num_examples: int
    wording: str
    examples_sha256: str
    threshold: float | None
    inequality: Inequality | None
    selection: str
    box_frame: str
    sentence_policy: str
    failure_policy: str
    predictor: PredictorRecord
    interval_seed: int
    deixis_version: str


def build_protocol(
    benchmark: Benchmark,
    scores: Mapping[str, Score],
    predictor: PredictorRecord,
    *,
    num_examples: int,
    examples_sha256: str,
    interval_seed: int,
) -> EvaluationProtocol:
    """Return the protocol of one result."""
    inequalities: list[Inequality] = [
        score.inequality for score in scores.values() if hasattr(score, "inequality")
    ]
    return EvaluationProtocol(
        benchmark=benchmark.name,
        task=benchmark.task_name,
        set=benchmark.set_name,
        split=benchmark.split,
        level=benchmark.level,
        seed=benchmark.seed,
        num_examples=num_examples,
        wording=benchmark.task.wording,
        examples_sha256=examples_sha256,
        threshold=0.5 if inequalities else None,
        inequality=inequalities[0] if inequalities else None,
        selection=SELECTION,
        box_frame=BOX_FRAME,
        sentence_policy=SENTENCE_POLICY,
        failure_policy=FAILURE_POLICY,
        predictor=predictor,
        interval_seed=interval_seed,
        deixis_version=__version__,
    )

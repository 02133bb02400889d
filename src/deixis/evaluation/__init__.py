"""Benchmarks, the terms of each number, and the program that measures it."""

from deixis.evaluation.baselines import CenterBox, LargestThing
from deixis.evaluation.benchmark import (
    NUM_EXAMPLES,
    SETS,
    TASKS,
    Benchmark,
    Task,
    benchmark_names,
    resolve_benchmark,
)
from deixis.evaluation.examples import Example
from deixis.evaluation.predictions import PointedThing, Prediction
from deixis.evaluation.predictor import (
    BatchPredictor,
    PredictorRecord,
    SamplePredictor,
    hash_weights,
    record_predictor,
)
from deixis.evaluation.protocol import EvaluationProtocol
from deixis.evaluation.report import Report, Result
from deixis.evaluation.results_table import write_results_table
from deixis.evaluation.runner import Progress, evaluate, score
from deixis.evaluation.scoring import Score

__all__ = [
    "NUM_EXAMPLES",
    "SETS",
    "TASKS",
    "BatchPredictor",
    "Benchmark",
    "CenterBox",
    "EvaluationProtocol",
    "Example",
    "LargestThing",
    "PointedThing",
    "Prediction",
    "PredictorRecord",
    "Progress",
    "Report",
    "Result",
    "SamplePredictor",
    "Score",
    "Task",
    "benchmark_names",
    "evaluate",
    "hash_weights",
    "record_predictor",
    "resolve_benchmark",
    "score",
    "write_results_table",
]

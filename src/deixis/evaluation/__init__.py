"""Benchmarks, the terms of each number, and the program that measures it."""

from deixis.evaluation.baselines import CenterBox, LargestInstance
from deixis.evaluation.benchmark import (
    BENCHMARK_TASKS,
    NUM_EXAMPLES,
    SETS,
    Benchmark,
    BenchmarkTask,
    benchmark_names,
    resolve_benchmark,
)
from deixis.evaluation.examples import Example
from deixis.evaluation.predictions import PredictedReference, Prediction
from deixis.evaluation.predictor_interface import (
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
from deixis.evaluation.scorers import Score

__all__ = [
    "BENCHMARK_TASKS",
    "NUM_EXAMPLES",
    "SETS",
    "BatchPredictor",
    "Benchmark",
    "BenchmarkTask",
    "CenterBox",
    "EvaluationProtocol",
    "Example",
    "LargestInstance",
    "PredictedReference",
    "Prediction",
    "PredictorRecord",
    "Progress",
    "Report",
    "Result",
    "SamplePredictor",
    "Score",
    "benchmark_names",
    "evaluate",
    "hash_weights",
    "record_predictor",
    "resolve_benchmark",
    "score",
    "write_results_table",
]

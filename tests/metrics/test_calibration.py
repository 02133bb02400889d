import numpy as np
import pytest
from numpy.testing import assert_allclose

from deixis.errors import BenchmarkError
from deixis.metrics import Calibration, CalibrationScore


def scored(scores: list[float], right: list[bool], num_bins: int = 10) -> CalibrationScore:
    metric = Calibration(num_bins=num_bins)
    for score, outcome in zip(scores, right, strict=True):
        metric.update(score, outcome)
    assert len(metric) == len(scores)
    return metric.compute()


def random_answers(seed: int, count: int) -> tuple[list[float], list[bool]]:
    generator = np.random.default_rng(seed)
    # Rounded, so that some scores tie and some lie on the edges of bins.
    scores = generator.random(count).round(2)
    return scores.tolist(), (generator.random(count) < scores**2).tolist()


@pytest.mark.parametrize("num_bins", [1, 4, 10])
def test_calibration_error_equals_a_loop_over_bins(num_bins: int) -> None:
    scores, right = random_answers(0, 400)
    expected = 0.0
    for index in range(num_bins):
        low, high = index / num_bins, (index + 1) / num_bins
        inside = [
            (score, outcome)
            for score, outcome in zip(scores, right, strict=True)
            if low <= score < high or (index == num_bins - 1 and score == 1.0)
        ]
        if inside:
            confidence = sum(score for score, _ in inside) / len(inside)
            accuracy = sum(outcome for _, outcome in inside) / len(inside)
            expected += len(inside) / len(scores) * abs(confidence - accuracy)
    result = scored(scores, right, num_bins)
    assert_allclose(result.expected_calibration_error, expected)
    assert sum(entry.num_examples for entry in result.bins) == 400


def test_auroc_equals_a_comparison_of_every_pair() -> None:
    scores, right = random_answers(1, 150)
    good = [score for score, outcome in zip(scores, right, strict=True) if outcome]
    bad = [score for score, outcome in zip(scores, right, strict=True) if not outcome]
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in good for b in bad]
    assert scored(scores, right).auroc == pytest.approx(np.mean(wins))


def test_calibrated_scores_have_no_error() -> None:
    result = scored([1.0, 1.0, 0.0], [True, True, False])
    assert (result.expected_calibration_error, result.brier, result.auroc) == (0.0, 0.0, 1.0)


def test_brier_is_the_mean_squared_distance() -> None:
    assert_allclose(scored([0.8, 0.6], [True, False]).brier, (0.04 + 0.36) / 2)


@pytest.mark.parametrize("outcome", [True, False])
def test_auroc_is_undefined_when_all_answers_share_an_outcome(outcome: bool) -> None:  # noqa: FBT001
    assert scored([0.2, 0.9], [outcome, outcome]).auroc is None


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -0.1, 1.1])
def test_a_score_outside_of_0_to_1_is_refused(score: float) -> None:
    with pytest.raises(BenchmarkError, match=r"is not in \[0, 1\]"):
        Calibration().update(score, True)


def test_no_bins_and_no_examples_are_refused() -> None:
    with pytest.raises(BenchmarkError, match="at least one bin, got 0"):
        Calibration(num_bins=0)
    with pytest.raises(BenchmarkError, match="no examples"):
        Calibration().compute()

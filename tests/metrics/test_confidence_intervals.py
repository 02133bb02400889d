import numpy as np
import pytest

from deixis.errors import BenchmarkError
from deixis.metrics import confidence_interval


def test_equal_seeds_give_equal_intervals() -> None:
    values = np.arange(50.0)
    assert confidence_interval(values, seed=3) == confidence_interval(values, seed=3)
    assert confidence_interval(values, seed=3) != confidence_interval(values, seed=4)


def test_the_interval_of_an_accuracy_is_close_to_the_normal_approximation() -> None:
    values = (np.arange(400) < 300).astype(np.float64)
    interval = confidence_interval(values, resamples=4000)
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert interval.low == pytest.approx(0.75 - half, abs=0.006)
    assert interval.high == pytest.approx(0.75 + half, abs=0.006)


def test_the_interval_of_a_ratio_weighs_examples_by_their_denominator() -> None:
    interval = confidence_interval(np.full(20, 3.0), np.full(20, 4.0))
    assert (interval.low, interval.high) == (0.75, 0.75)


def test_resampling_in_blocks_does_not_change_the_statistic() -> None:
    values = np.ones(700_000)
    interval = confidence_interval(values, resamples=3)
    assert (interval.low, interval.high) == (1.0, 1.0)


def test_a_resampled_split_without_targets_counts_as_perfect() -> None:
    interval = confidence_interval(np.zeros(3), np.zeros(3))
    assert (interval.low, interval.high) == (1.0, 1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(BenchmarkError, match="needs finite values"):
        confidence_interval(np.array([1.0, bad]))
    with pytest.raises(BenchmarkError, match="needs finite values"):
        confidence_interval(np.ones(2), np.array([1.0, bad]))


def test_no_examples_are_refused() -> None:
    with pytest.raises(BenchmarkError, match="no examples"):
        confidence_interval(np.zeros(0))


@pytest.mark.parametrize(("level", "resamples"), [(0.0, 10), (1.0, 10), (0.9, 0)])
def test_a_level_or_number_out_of_range_is_refused(level: float, resamples: int) -> None:
    with pytest.raises(BenchmarkError, match="needs 0 < level < 1 and resamples >= 1"):
        confidence_interval(np.ones(2), level=level, resamples=resamples)

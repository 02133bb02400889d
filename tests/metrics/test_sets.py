from itertools import permutations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from deixis.errors import BenchmarkError
from deixis.geometry import Box
from deixis.metrics import SetAccuracy, count_matches

A, B, C = Box(0.0, 0.0, 10.0, 10.0), Box(20.0, 0.0, 30.0, 10.0), Box(40.0, 0.0, 50.0, 10.0)


def test_a_matching_is_as_large_as_the_best_of_all_permutations() -> None:
    generator = np.random.default_rng(0)
    for _ in range(100):
        hits = generator.random((4, 5)) < 0.35
        best = max(
            sum(hits[row, column] for row, column in enumerate(order))
            for order in permutations(range(5), 4)
        )
        assert count_matches(hits) == best
        assert count_matches(hits.T) == best


def test_a_greedy_choice_does_not_cost_a_match() -> None:
    metric = SetAccuracy(threshold=0.5)
    first, second = Box(0.0, 0.0, 10.0, 10.0), Box(0.0, 0.0, 10.0, 13.0)
    # Both predictions reach the first target; only the first reaches the second as well.
    metric.update([Box(0.0, 0.0, 10.0, 9.0), Box(0.0, 0.0, 10.0, 6.0)], [first, second])
    assert metric.compute().mean_f1 == 1.0


def test_missed_and_added_boxes_lower_f1_precision_and_recall() -> None:
    metric = SetAccuracy()
    assert metric.update([A, B], [A, B]) == 1.0
    assert_allclose(metric.update([A], [A, B]), 2 / 3)
    assert_allclose(metric.update([A, B, C], [A]), 0.5)
    score = metric.compute()
    assert_allclose(score.mean_f1, (1 + 2 / 3 + 0.5) / 3)
    assert_allclose(score.exact_accuracy, 1 / 3)
    assert score.precision == pytest.approx(4 / 6)
    assert score.recall == pytest.approx(4 / 5)


def test_one_target_is_not_found_twice() -> None:
    metric = SetAccuracy()
    assert_allclose(metric.update([A, A], [A]), 2 / 3)


def test_order_does_not_matter() -> None:
    metric = SetAccuracy()
    assert metric.update([C, A, B], [A, B, C]) == 1.0


def test_expressions_without_target_are_right_when_the_answer_is_empty() -> None:
    metric = SetAccuracy()
    assert metric.update([], []) == 1.0
    assert metric.update([A], []) == 0.0
    score = metric.compute()
    assert (score.exact_accuracy, score.precision, score.recall) == (0.5, 0.0, None)


def test_unparsed_answers_are_wrong_even_without_a_target() -> None:
    metric = SetAccuracy()
    assert metric.update(None, []) == 0.0
    assert metric.update(None, [A]) == 0.0
    score = metric.compute()
    assert (score.mean_f1, score.num_unparsed, score.precision) == (0.0, 2, None)


def test_no_examples_are_refused() -> None:
    with pytest.raises(BenchmarkError, match="no examples"):
        SetAccuracy().compute()

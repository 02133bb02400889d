import pytest

from deixis.errors import BenchmarkError
from deixis.metrics import AbsenceAccuracy


def test_only_an_explicit_denial_declines_an_absent_phrase() -> None:
    metric = AbsenceAccuracy()
    assert metric.update(0)
    assert not metric.update(2)
    assert not metric.update(None)
    assert not metric.update(1)
    score = metric.compute()
    assert (score.accuracy, score.false_positive_rate) == (0.25, 0.5)
    assert (score.num_unparsed, score.num_examples) == (1, 4)


def test_a_negative_number_of_instances_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="cannot point at -1 instances"):
        AbsenceAccuracy().update(-1)


def test_no_examples_are_refused() -> None:
    with pytest.raises(BenchmarkError, match="no examples"):
        AbsenceAccuracy().compute()

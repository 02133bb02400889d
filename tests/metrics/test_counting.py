import pytest

from deixis.errors import BenchmarkError
from deixis.metrics import CountAccuracy, parse_count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("3", 3),
        ("There are three red circles.", 3),
        ("Twenty!", 20),
        ("There are no stars.", 0),
        ("None", 0),
        ("12 or 13", 12),
        ("a few", None),
        ("", None),
        ("9" * 5000, None),
        ("\N{SUPERSCRIPT TWO}", None),
    ],
)
def test_the_first_number_of_an_answer_is_its_count(text: str, count: int | None) -> None:
    assert parse_count(text) == count


def test_counts_are_right_when_equal() -> None:
    metric = CountAccuracy()
    assert metric.update(3, 3)
    assert not metric.update(5, 3)
    assert not metric.update(None, 0)
    score = metric.compute()
    assert score.accuracy == pytest.approx(1 / 3)
    assert (score.mean_absolute_error, score.num_unparsed, score.num_examples) == (1.0, 1, 3)


def test_a_split_without_numbers_has_no_mean_error() -> None:
    metric = CountAccuracy()
    metric.update(None, 2)
    assert metric.compute().mean_absolute_error is None


@pytest.mark.parametrize(("predicted", "target"), [(-1, 2), (1, -2)])
def test_negative_counts_are_refused(predicted: int, target: int) -> None:
    with pytest.raises(BenchmarkError, match="a count is negative"):
        CountAccuracy().update(predicted, target)


def test_no_examples_are_refused() -> None:
    with pytest.raises(BenchmarkError, match="no examples"):
        CountAccuracy().compute()

import numpy as np
import pytest
from numpy.testing import assert_allclose
from pycocotools import mask as coco

from deixis.errors import BenchmarkError
from deixis.geometry import Box, overlap_of_boxes
from deixis.metrics import ComprehensionAccuracy, Inequality

TARGET = Box(0.0, 0.0, 10.0, 10.0)


def random_box(generator: np.random.Generator) -> Box:
    x, y = generator.uniform(0, 80, 2)
    width, height = generator.uniform(0.1, 60, 2)
    return Box.from_xywh(float(x), float(y), float(width), float(height))


def test_overlap_equals_pycocotools_on_random_boxes() -> None:
    generator = np.random.default_rng(0)
    for _ in range(300):
        first, second = random_box(generator), random_box(generator)
        expected = coco.iou(np.array([first.to_xywh()]), np.array([second.to_xywh()]), [0])[0, 0]
        assert_allclose(overlap_of_boxes(first, second), expected, atol=1e-12)


def test_the_truth_scores_one() -> None:
    metric = ComprehensionAccuracy()
    assert metric.update(TARGET, TARGET) == 1.0
    score = metric.compute()
    assert score.accuracy == score.accuracy_at_70 == score.accuracy_at_90 == score.mean_iou == 1.0
    assert (score.accuracy_interval.low, score.accuracy_interval.high) == (1.0, 1.0)


@pytest.mark.parametrize(("inequality", "accuracy"), [(">", 0.0), (">=", 1.0)])
def test_an_overlap_on_the_threshold_counts_by_the_inequality(
    inequality: Inequality, accuracy: float
) -> None:
    metric = ComprehensionAccuracy(inequality=inequality)
    assert metric.update(Box(0.0, 0.0, 10.0, 5.0), TARGET) == 0.5
    score = metric.compute()
    assert score.accuracy == accuracy
    assert score.inequality == inequality


def test_each_threshold_has_its_own_accuracy() -> None:
    metric = ComprehensionAccuracy()
    for height in (4.0, 6.0, 8.0, 9.5):
        metric.update(Box(0.0, 0.0, 10.0, height), TARGET)
    score = metric.compute()
    assert (score.accuracy, score.accuracy_at_70, score.accuracy_at_90) == (0.75, 0.5, 0.25)
    assert_allclose(score.mean_iou, (0.4 + 0.6 + 0.8 + 0.95) / 4)


def test_unparsed_and_declined_answers_are_wrong_and_counted_separately() -> None:
    metric = ComprehensionAccuracy()
    metric.update(TARGET, TARGET)
    metric.update(None, TARGET)
    metric.update(None, TARGET, declined=True)
    metric.update(None, TARGET, declined=True)
    score = metric.compute()
    assert (score.accuracy, score.num_examples) == (0.25, 4)
    assert (score.num_unparsed, score.num_declined) == (1, 2)


def test_a_declined_answer_with_a_box_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="a declined answer cannot have a box"):
        ComprehensionAccuracy().update(TARGET, TARGET, declined=True)


def test_no_examples_are_refused() -> None:
    with pytest.raises(BenchmarkError, match="no examples"):
        ComprehensionAccuracy().compute()

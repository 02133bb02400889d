import numpy as np
import pytest
from jaxtyping import Bool
from numpy import ndarray
from numpy.testing import assert_allclose
from pycocotools import mask as coco

from deixis.errors import BenchmarkError, GeometryError
from deixis.geometry import Box, ImageSize, Mask
from deixis.metrics import SegmentationAccuracy

SIZE = ImageSize(10, 10)
EMPTY = Mask(np.zeros((10, 10), dtype=bool))
LEFT = Mask.from_box(Box(0.0, 0.0, 5.0, 10.0), SIZE)
FULL = Mask.from_box(Box(0.0, 0.0, 10.0, 10.0), SIZE)


def random_masks(seed: int, count: int) -> Bool[ndarray, "count 2 height width"]:
    generator = np.random.default_rng(seed)
    return generator.random((count, 2, 23, 31)) < generator.uniform(0.1, 0.9, (count, 2, 1, 1))


def test_each_overlap_equals_pycocotools() -> None:
    metric = SegmentationAccuracy()
    for predicted, target in random_masks(0, 40):
        codes = [
            coco.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in (predicted, target)
        ]
        expected = coco.iou([codes[0]], [codes[1]], [0])[0, 0]
        assert_allclose(metric.update(Mask(predicted), Mask(target)), expected)


def test_cumulative_iou_equals_a_count_pixel_by_pixel() -> None:
    metric = SegmentationAccuracy()
    masks = random_masks(1, 12)
    intersection = union = 0
    for predicted, target in masks:
        metric.update(Mask(predicted), Mask(target))
        for row, column in np.ndindex(*predicted.shape):
            intersection += int(predicted[row, column] and target[row, column])
            union += int(predicted[row, column] or target[row, column])
    score = metric.compute()
    assert_allclose(score.cumulative_iou, intersection / union)
    assert_allclose(score.mean_iou, np.mean([(a & b).sum() / (a | b).sum() for a, b in masks]))
    assert score.cumulative_iou_interval.low <= score.cumulative_iou
    assert score.cumulative_iou_interval.high >= score.cumulative_iou


def test_an_unparsed_answer_leaves_its_whole_target_in_the_union() -> None:
    metric = SegmentationAccuracy()
    metric.update(LEFT, LEFT)
    assert metric.update(None, FULL) == 0.0
    score = metric.compute()
    assert_allclose(score.cumulative_iou, 50 / 150)
    assert (score.mean_iou, score.num_unparsed, score.num_declined) == (0.5, 1, 0)
    assert score.target_accuracy == 0.5


def test_an_empty_answer_to_an_existing_target_is_declined() -> None:
    metric = SegmentationAccuracy()
    metric.update(EMPTY, LEFT)
    score = metric.compute()
    assert (score.cumulative_iou, score.num_unparsed, score.num_declined) == (0.0, 0, 1)
    assert score.target_accuracy == 0.0
    assert score.no_target_accuracy is None


def test_expressions_without_target_count_as_in_grefcoco() -> None:
    metric = SegmentationAccuracy()
    assert metric.update(EMPTY, EMPTY) == 1.0
    assert metric.update(LEFT, EMPTY) == 0.0
    assert metric.update(None, EMPTY) == 0.0
    assert metric.update(LEFT, LEFT) == 1.0
    score = metric.compute()
    assert score.no_target_accuracy == pytest.approx(1 / 3)
    assert score.target_accuracy == 1.0
    assert score.mean_iou == 0.5
    assert_allclose(score.cumulative_iou, 50 / 100)
    assert score.num_unparsed == 1


def test_an_empty_answer_without_targets_is_perfect() -> None:
    metric = SegmentationAccuracy()
    metric.update(EMPTY, EMPTY)
    score = metric.compute()
    assert score.cumulative_iou == score.mean_iou == score.no_target_accuracy == 1.0
    assert score.precision_at_50 is None


def test_precisions_are_over_expressions_with_a_target() -> None:
    metric = SegmentationAccuracy()
    metric.update(EMPTY, EMPTY)
    metric.update(LEFT, FULL)
    metric.update(Mask.from_box(Box(0.0, 0.0, 8.0, 10.0), SIZE), FULL)
    metric.update(FULL, FULL)
    score = metric.compute()
    assert score.precision_at_50 == pytest.approx(2 / 3)
    assert score.precision_at_70 == pytest.approx(2 / 3)
    assert score.precision_at_90 == pytest.approx(1 / 3)


def test_masks_of_two_sizes_are_refused() -> None:
    with pytest.raises(GeometryError, match=r"a predicted mask is 10x10, its target 4x3"):
        SegmentationAccuracy().update(FULL, Mask(np.ones((3, 4), dtype=bool)))


def test_no_examples_are_refused() -> None:
    with pytest.raises(BenchmarkError, match="no examples"):
        SegmentationAccuracy().compute()

import math
from pathlib import Path
from typing import Any

import pytest
from data.sources.reading import write_json

from deixis.data.sources.base import BadRecord, RecordProblem
from deixis.data.sources.reading.coco_records import (
    COCO_CATEGORIES,
    Annotated,
    coco_parts,
    read_categories,
)
from deixis.data.sources.reading.coco_records import image_of as read_image
from deixis.errors import AnnotationError
from deixis.geometry import Box, ImageSize, Mask


@pytest.mark.shared_data
def test_numbers_of_categories_are_cocos(shared_data: Path) -> None:
    path = shared_data / "photos" / "annotations" / "instances_val.json"
    assert read_categories(path) == COCO_CATEGORIES
    assert len(COCO_CATEGORIES) == 80


@pytest.mark.parametrize(
    ("categories", "reason"),
    [
        ([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], "category 1 comes twice"),
        ([{"id": 1}], "name: missing"),
        ([{"id": "1", "name": "a"}], "id: expected a number"),
        ([{"id": math.nan, "name": "a"}], "id: expected a number"),
        (["a"], "category: expected an object"),
        ({}, "categories: expected a list"),
    ],
)
def test_damaged_categories_are_refused(tmp_path: Path, categories: Any, reason: str) -> None:
    path = write_json(tmp_path / "x.json", {"categories": categories})
    with pytest.raises(AnnotationError, match=reason):
        read_categories(path)


def test_records_without_an_image_are_problems(tmp_path: Path) -> None:
    content = {"images": [{"id": 1}, {}, 5], "annotations": [{"id": 1}, {"image_id": 2}]}
    found = list(coco_parts(write_json(tmp_path / "x.json", content), {"1"}))
    assert [one.code for one in found if isinstance(one, RecordProblem)] == ["bad_record"] * 4
    assert len(found) == 5
    with pytest.raises(BadRecord, match="unknown_image"):
        read_image([], tmp_path)


def test_a_missing_box_is_that_of_the_mask() -> None:
    annotated = Annotated(ImageSize(4, 6), {1: "dog"})
    square = {"category_id": 1, "segmentation": [[1, 1, 3, 1, 3, 3, 1, 3]]}
    assert annotated.add("1", square) == 0
    assert annotated.instances[0].box == Box(1, 1, 3, 3)
    assert annotated.instances[0].mask == Mask.from_polygons(
        [[1, 1, 3, 1, 3, 3, 1, 3]], ImageSize(4, 6)
    )
    with pytest.raises(BadRecord, match="duplicate_annotation"):
        annotated.add("1", square)
    with pytest.raises(BadRecord, match="mask_empty"):
        annotated.add("2", {**square, "segmentation": {"size": [4, 6], "counts": [24]}})
    with pytest.raises(BadRecord, match="annotation 7 is missing"):
        annotated.index(7)

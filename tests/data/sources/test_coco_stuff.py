"""COCO-Stuff: COCO's form, and no thing among its classes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.sources.reading import collect, notes, samples, write_json

from deixis.data.sources.coco_stuff import open_coco_stuff
from deixis.data.tasks import DEFAULT_RULES, TASKS
from deixis.errors import AnnotationError

POLYGON = [[2.0, 2.0, 30.0, 2.0, 30.0, 20.0, 2.0, 20.0]]


def _write(folder: Path, split: str = "val2017", *, last: int = 171) -> Path:
    def annotation(number: int, category: int, **changes: Any) -> dict[str, Any]:
        fields = {
            "id": number,
            "image_id": 7,
            "category_id": category,
            "bbox": [2, 2, 28, 18],
            "segmentation": POLYGON,
            "iscrowd": 0,
        }
        return fields | changes

    content = {
        "images": [{"id": 7, "file_name": "7.jpg", "width": 64, "height": 48}],
        "annotations": [
            annotation(1, 124, iscrowd=1),
            annotation(2, 171),
            annotation(3, 183),
            annotation(4, last),
        ],
        "categories": [
            {"id": 124, "name": "grass"},
            {"id": 171, "name": "wall-concrete"},
            {"id": 177, "name": "wall-other"},
            {"id": 183, "name": "other"},
        ],
    }
    return write_json(folder / "annotations" / f"stuff_{split}.json", content)


def test_all_annotations_are_stuff_and_other_is_left_out(tmp_path: Path) -> None:
    _write(tmp_path, last=999)
    (tmp_path / "val2017").mkdir()
    source = open_coco_stuff(tmp_path)
    assert (source.split, source.images) == ("val2017", tmp_path / "val2017")
    readings = collect(source)
    sample = readings["7"].sample
    assert sample is not None
    assert [(one.category, one.attributes, one.crowd) for one in sample.instances] == [
        ("grass", ("stuff",), False),
        ("wall concrete", ("stuff",), False),
    ]
    assert all(one.mask is not None for one in sample.instances)
    assert notes(readings) == {"stuff_other": 1}
    assert [problem.code for problem in readings["7"].problems] == ["unknown_category"]


def test_stuff_is_segmented_and_never_counted(tmp_path: Path) -> None:
    path = _write(tmp_path)
    (sample,) = samples(open_coco_stuff(path, images=tmp_path)).values()
    rng = np.random.default_rng(0)
    assert TASKS["semantic"].make(sample, rng, DEFAULT_RULES)
    assert not TASKS["count_words"].make(sample, rng, DEFAULT_RULES)


def test_a_missing_or_ambiguous_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"expected stuff_SPLIT\.json"):
        open_coco_stuff(tmp_path)
    _write(tmp_path, "train2017")
    _write(tmp_path, "val2017")
    with pytest.raises(AnnotationError, match="say which"):
        open_coco_stuff(tmp_path)
    assert open_coco_stuff(tmp_path, split="train2017").stuff.name == "stuff_train2017.json"

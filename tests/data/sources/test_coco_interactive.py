"""Prompts of COCO-Interactive."""

from pathlib import Path
from typing import Any

import numpy as np
from data.sources.reading import codes, collect, notes, samples, write_json

from deixis.data.sources.coco_interactive import open_coco_interactive
from deixis.geometry import Box, Mask, Point


def _coded(rows: slice, columns: slice) -> dict[str, Any]:
    array = np.zeros((48, 64), np.bool_)
    array[rows, columns] = True
    return dict(Mask(array).to_coco())


def _annotation(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": 9,
        "category_id": 17,
        "bbox": [10, 10 + number / 8, 20, 20],
        "segmentation": [[10, 10, 30, 10, 30, 30, 10, 30]],
        "iscrowd": 0,
        "area": 400,
        "point_visual_prompt_mask": _coded(slice(12, 13), slice(14, 15)),
        "scribble_visual_prompt_mask": _coded(slice(12, 13), slice(14, 20)),
        "box_visual_prompt_mask": _coded(slice(9, 31), slice(11, 33)),
        "mask_visual_prompt_mask": _coded(slice(11, 29), slice(11, 29)),
        **more,
    }


def _file(folder: Path, *annotations: object) -> Path:
    info = {"id": 9, "file_name": "9.jpg", "width": 64, "height": 48}
    record = {"image": "9.jpg", "image_info": info, "new_img_id": 0, "anns": list(annotations)}
    write_json(folder / "coco_interactive_val_psalm.json", [record])
    return folder


def test_prompts_are_regions_of_their_kind(tmp_path: Path) -> None:
    (sample,) = samples(open_coco_interactive(_file(tmp_path, _annotation(1)))).values()
    assert [one.category for one in sample.instances] == ["cat"]
    assert sample.exhaustive
    found = {one.kind: one.region for one in sample.questions}
    assert found["prompt_point"] == Point(14.5, 12.5)
    assert found["prompt_box"] == Box(11, 9, 33, 31)
    assert isinstance(found["prompt_scribble"], Mask)
    assert isinstance(found["prompt_mask"], Mask)
    assert {one.instance for one in sample.questions} == {0}


def test_points_of_several_pieces_stay_a_mask(tmp_path: Path) -> None:
    two = _coded(slice(12, 20, 7), slice(14, 15))
    folder = _file(tmp_path, _annotation(1, point_visual_prompt_mask=two))
    (sample,) = samples(open_coco_interactive(folder)).values()
    assert isinstance(sample.questions[0].region, Mask)


def test_hostile_prompts_are_problems(tmp_path: Path) -> None:
    folder = _file(
        tmp_path,
        _annotation(1, point_visual_prompt_mask={"size": [48, 64], "counts": [1, 2]}),
        _annotation(2, box_visual_prompt_mask={"size": [64, 48], "counts": [3072]}),
        _annotation(3, scribble_visual_prompt_mask=_coded(slice(0, 0), slice(0, 0))),
        _annotation(4, category_id=12),
        _annotation(5, bbox=[10, 10, 0, 20]),
        _annotation(3),
        _annotation(6, mask_visual_prompt_mask=7),
        "annotation",
    )
    readings = collect(open_coco_interactive(folder))
    assert codes(readings) == {
        "mask_damaged": 3,
        "unknown_category": 1,
        "box_degenerate": 1,
        "duplicate_annotation": 1,
        "bad_record": 1,
    }
    assert notes(readings) == {"prompt_empty": 1}
    sample = readings["9"].sample
    assert sample is not None
    assert len(sample.instances) == 4
    assert len(sample.questions) == 12

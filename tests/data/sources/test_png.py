"""Panoptic narratives, and relations between panoptic segments."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.sources.pictures import levels, picture
from data.sources.reading import codes, collect, samples, write_json

from deixis.data.sources.openpsg import open_openpsg
from deixis.data.sources.png import open_png
from deixis.errors import AnnotationError
from deixis.geometry import Box
from deixis.structures import Relation

_CATEGORIES = [
    {"id": 1, "name": "person", "isthing": 1},
    {"id": 199, "name": "wall-other-merged", "isthing": 0},
]


def _segments() -> np.ndarray:
    colours = np.zeros((48, 64, 3), np.uint8)
    colours[:, :, 1] = 1  # segment 256
    colours[10:20, 10:30] = (5, 0, 0)
    return colours


def _world(folder: Path, *narratives: object) -> Path:
    annotations = folder / "annotations"
    write_json(annotations / "png_coco_val2017.json", list(narratives))
    info = [
        {"id": 5, "category_id": 1, "bbox": [1, 1, 2, 2], "iscrowd": 0, "area": 200},
        {"id": 256, "category_id": 199, "bbox": [0, 0, 64, 48], "iscrowd": 0, "area": 1},
    ]
    panoptic = {
        "images": [{"id": 42, "file_name": "000000000042.jpg", "width": 64, "height": 48}],
        "annotations": [{"image_id": 42, "file_name": "000000000042.png", "segments_info": info}],
        "categories": _CATEGORIES,
    }
    write_json(annotations / "panoptic_val2017.json", panoptic)
    levels(annotations / "panoptic_segmentation/val2017/000000000042.png", _segments())
    picture(folder / "images" / "val2017" / "000000000042.jpg")
    return folder


def _narrative(*pairs: tuple[str, list[object]], **more: Any) -> dict[str, Any]:
    return {
        "image_id": "000000000042",
        "annotator_id": "3",
        "caption": "In this picture a man, a man and a wall.",
        "segments": [
            {"utterance": text, "segment_ids": ids, "noun": bool(ids), "plural": False}
            for text, ids in pairs
        ],
        **more,
    }


def test_utterances_follow_one_another_through_the_caption(tmp_path: Path) -> None:
    folder = _world(
        tmp_path,
        _narrative(
            ("in this picture ", []),
            ("a man", []),
            (",", []),
            ("a man", ["5"]),
            ("and", []),
            ("a wall", ["256", "5", "5"]),
        ),
    )
    (sample,) = samples(open_png(folder)).values()
    (caption,) = sample.captions
    man, wall = caption.phrases
    assert (man.text, man.start) == ("a man", 23)
    assert man.boxes == (Box(10, 10, 30, 20),)
    assert man.masks[0].area == 200
    assert len(wall.masks) == 2
    assert [(one.category, one.attributes) for one in sample.instances] == [
        ("person", ()),
        ("wall", ("stuff",)),
    ]


def test_hostile_narratives_are_problems(tmp_path: Path) -> None:
    folder = _world(
        tmp_path,
        _narrative(("a woman", ["5"]), ("a man", ["7"]), ("a wall", ["256"])),
        _narrative(("a man", ["5"]), image_id="43"),
        _narrative(("a man", ["5"]), image_id=None),
        _narrative(("a man", ["5"]), caption=7),
        _narrative(image_id=42, segments=None),
        "narrative",
    )
    readings = collect(open_png(folder))
    assert codes(readings) == {
        "span_damaged": 1,
        "unknown_annotation": 1,
        "unknown_image": 1,
        "bad_number": 1,
        "bad_record": 3,
    }
    sample = readings["42"].sample
    assert sample is not None
    assert [[phrase.text for phrase in one.phrases] for one in sample.captions] == [["a wall"]]


def test_a_picture_of_segments_that_is_damaged_takes_the_image_with_it(tmp_path: Path) -> None:
    folder = _world(tmp_path, _narrative(("a man", ["5"])))
    path = folder / "annotations/panoptic_segmentation/val2017/000000000042.png"
    levels(path, _segments()[:40])
    assert codes(collect(open_png(folder))) == {"mask_damaged": 1}
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)
    assert codes(collect(open_png(folder))) == {"mask_damaged": 1}


def test_a_folder_without_narratives_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"png_coco_val2017\.json"):
        open_png(tmp_path)


@pytest.mark.shared_data
def test_narratives_point_into_true_panoptic_files(shared_data: Path, tmp_path: Path) -> None:
    photos = shared_data / "photos"
    panoptic = photos / "annotations" / "panoptic_val.json"
    content = json.loads(panoptic.read_text())
    annotation = content["annotations"][0]
    numbers = [str(info["id"]) for info in annotation["segments_info"]]
    narrative = {
        "image_id": f"{annotation['image_id']:012d}",
        "caption": "This is all of it.",
        "segments": [{"utterance": "all of it", "segment_ids": numbers}],
    }
    path = write_json(tmp_path / "png_coco_val.json", [narrative])
    source = open_png(
        path,
        panoptic=panoptic,
        segments=photos / "panoptic" / "val",
        images=photos / "images" / "val",
        split="val",
    )
    found = samples(source)
    sample = found[str(annotation["image_id"])]
    (phrase,) = sample.captions[0].phrases
    assert len(phrase.masks) == len(numbers) == len(sample.instances)
    assert sum(mask.area for mask in phrase.masks) > sample.size.area * 0.8
    assert len(found) == len(content["images"])


def _psg(folder: Path, *records: object) -> Path:
    content = {
        "data": list(records),
        "thing_classes": ["person"],
        "stuff_classes": ["wall-other-merged"],
        "predicate_classes": ["over", "in front of"],
        "test_image_ids": ["7"],
    }
    write_json(folder / "psg.json", content)
    levels(folder / "panoptic_val2017/42.png", _segments())
    picture(folder / "val2017" / "42.jpg")
    return folder


def _record(image: object, *relations: object, **more: Any) -> dict[str, Any]:
    return {
        "file_name": "val2017/42.jpg",
        "height": 48,
        "width": 64,
        "image_id": image,
        "pan_seg_file_name": "panoptic_val2017/42.png",
        "segments_info": [
            {"id": 5, "category_id": 0, "iscrowd": 0, "isthing": 1, "area": 200},
            {"id": 256, "category_id": 1, "iscrowd": 0, "isthing": 0, "area": 9},
        ],
        "annotations": [{"bbox": [10, 10, 30, 20]}, {"bbox": [0, 0, 64, 48]}],
        "relations": list(relations),
        **more,
    }


def test_relations_link_segments(tmp_path: Path) -> None:
    _psg(tmp_path, _record("6", [0, 1, 1], [0, 1, 1], [1, 0, 0]), _record("7"))
    readings = collect(open_openpsg(tmp_path))
    sample = readings["6"].sample
    assert sample is not None
    assert sample.relations == (Relation(0, "in front of", 1), Relation(1, "over", 0))
    assert [one.category for one in sample.instances] == ["person", "wall"]
    assert readings["6"].notes == (("relation_again", 1),)
    assert {key: one.sample.split for key, one in readings.items() if one.sample} == {
        "6": "train",
        "7": "test",
    }
    assert list(samples(open_openpsg(tmp_path, split="test"))) == ["7"]


def test_hostile_relations_are_problems(tmp_path: Path) -> None:
    info = [{"id": 5, "category_id": 0}, {"id": 9, "category_id": 0}, {"id": 256, "category_id": 8}]
    _psg(
        tmp_path,
        _record("1", [0, 5, 1], [0, 1], [0, 1, 9], [0, 1, "on"], 7, [True, 1, 1]),
        _record("2", [0, 1, 0], segments_info=info),
        _record("3", file_name="../42.jpg"),
        _record("4", pan_seg_file_name="panoptic_val2017/43.png"),
        _record("5", relations=None),
        _record("6"),
        _record("6"),
        "record",
    )
    readings = collect(open_openpsg(tmp_path))
    assert codes(readings) == {
        "unknown_annotation": 2,
        "bad_record": 4,
        "unknown_category": 2,
        "bad_number": 2,
        "mask_empty": 1,
        "path_escape": 1,
        "mask_damaged": 1,
        "duplicate_image": 1,
    }
    with pytest.raises(AnnotationError, match="splits train and test"):
        open_openpsg(tmp_path, split="val")

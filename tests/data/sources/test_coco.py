import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deixis.data.scenes import draw_scene, scene_sample
from deixis.data.scenes.export import write_scenes
from deixis.data.sources import Part, Reading, RecordProblem
from deixis.data.sources.coco import Coco, open_coco
from deixis.errors import AnnotationError


def collect(source: Coco) -> dict[str, Reading]:
    groups: dict[str, list[Part]] = {}
    for part in source.parts():
        assert isinstance(part, Part), part
        groups.setdefault(part.key, []).append(part)
    return {
        key: source.sample(key, sorted(parts, key=lambda one: (one.kind, one.order)))
        for key, parts in groups.items()
    }


def coco_file(folder: Path, **changes: Any) -> Path:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 80}],
        "annotations": [
            {"id": 5, "image_id": 1, "category_id": 3, "bbox": [10, 20, 30, 40], "iscrowd": 0}
        ],
        "categories": [{"id": 3, "name": "traffic_light"}],
    } | changes
    path = folder / "instances_train.json"
    path.write_text(json.dumps(content))
    return path


def annotation(**changes: Any) -> dict[str, Any]:
    return {"id": 6, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]} | changes


def only(source: Coco) -> Reading:
    (reading,) = collect(source).values()
    return reading


def test_drawn_scenes_read_back_unchanged(tmp_path: Path) -> None:
    write_scenes(tmp_path, split="val", count=6, format="coco")
    found = collect(open_coco(tmp_path))
    assert len(found) == 6
    people = 0
    for number, reading in enumerate(found.values()):
        assert reading.sample is not None
        assert reading.problems == ()
        truth = scene_sample(draw_scene(0, number, level="standard", split="val"))
        assert len(reading.sample.instances) == len(truth.instances)
        for instance, true in zip(reading.sample.instances, truth.instances, strict=True):
            assert (instance.category, instance.mask) == (true.category, true.mask)
            assert (instance.box.x1, instance.box.y2) == (true.box.x1, true.box.y2)
            if true.keypoints is not None and true.keypoints.num_labeled:
                people += 1
                assert instance.keypoints is not None
                assert np.array_equal(instance.keypoints.visibility, true.keypoints.visibility)
                positions = instance.keypoints.positions, true.keypoints.positions
                assert np.allclose(*positions, atol=0.006)  # written with two decimals
        captions = {caption.text for caption in reading.sample.captions}
        assert captions == {caption.text for caption in truth.captions}
        assert isinstance(reading.sample.image, Path)
        assert reading.sample.image.is_file()
    assert people


@pytest.mark.shared_data
@pytest.mark.parametrize("split", ["train", "val"])
def test_true_files_are_read_without_a_problem(shared_data: Path, split: str) -> None:
    found = collect(open_coco(shared_data / "photos", split=split))
    samples = [reading.sample for reading in found.values() if reading.sample is not None]
    assert len(samples) == len(found)
    assert not any(reading.problems for reading in found.values())
    document = json.loads((shared_data / f"photos/annotations/instances_{split}.json").read_text())
    assert sum(len(sample.instances) for sample in samples) == len(document["annotations"])
    assert any(instance.crowd for sample in samples for instance in sample.instances)
    assert any(instance.keypoints for sample in samples for instance in sample.instances)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"bbox": [1, 2, "3", 4]}, "bad_number"),
        ({"bbox": [1, 2, True, 4]}, "bad_number"),
        ({"bbox": [1, 2, None, 4]}, "bad_number"),
        ({"bbox": [1, 2, float("nan"), 4]}, "bad_number"),
        ({"bbox": [1, 2, float("inf"), 4]}, "bad_number"),
        ({"bbox": [1, 2, 3]}, "bad_record"),
        ({"bbox": {"x": 1}}, "bad_record"),
        ({"bbox": [1, 2, 0, 4]}, "box_degenerate"),
        ({"bbox": [1, 2, -3, 4]}, "box_degenerate"),
        ({"bbox": [90, 2, 30, 4]}, "box_outside"),
        ({"bbox": [500, 500, 3, 4]}, "box_outside"),
        ({"bbox": [0.1, 0.2, 0.3, 0.4]}, "box_layout"),
        ({"category_id": 9}, "unknown_category"),
        ({"category_id": "3"}, "bad_number"),
        ({"segmentation": [[1, 2, 3, 4]]}, "mask_damaged"),
        ({"segmentation": [[1, 2, 3, 4, 5]]}, "mask_damaged"),
        ({"segmentation": [[1, 2, 3, 4, float("nan"), 5]]}, "mask_damaged"),
        ({"segmentation": [[1, 2, 3, 4, 1e999, 5]]}, "mask_damaged"),
        ({"segmentation": {"size": [80, 100], "counts": [9000]}}, "mask_damaged"),
        ({"segmentation": {"size": [3, 3], "counts": [9]}}, "mask_damaged"),
        ({"segmentation": {"size": [80, 100], "counts": "\u00e9"}}, "mask_damaged"),
        ({"segmentation": "all of it"}, "mask_damaged"),
        ({"bbox": None}, "bad_record"),
        ({"id": 5}, "duplicate_annotation"),
    ],
)
def test_a_bad_annotation_is_named_and_the_others_stay(
    tmp_path: Path, changes: dict[str, Any], code: str
) -> None:
    first = annotation(id=5, bbox=[10, 20, 30, 40])
    path = coco_file(tmp_path, annotations=[first, annotation(**changes)])
    reading = only(open_coco(path))
    assert [problem.code for problem in reading.problems] == [code]
    assert "annotations[1]" in reading.problems[0].place
    assert reading.sample is not None
    assert [instance.category for instance in reading.sample.instances] == ["traffic light"]
    assert not reading.sample.exhaustive


@pytest.mark.parametrize(
    ("images", "code"),
    [
        ([{"id": 1, "file_name": "../a.jpg", "width": 100, "height": 80}], "path_escape"),
        ([{"id": 1, "file_name": "/etc/passwd", "width": 100, "height": 80}], "path_escape"),
        ([{"id": 1, "file_name": "C:\\a", "width": 100, "height": 80}], "path_escape"),
        ([{"id": 1, "file_name": "a\nb", "width": 100, "height": 80}], "path_escape"),
        ([{"id": 1, "file_name": "a" * 4096, "width": 100, "height": 80}], "path_escape"),
        ([{"id": 1, "file_name": "a.jpg", "width": 0, "height": 80}], "bad_number"),
        ([{"id": 1, "file_name": "a.jpg", "height": 80}], "bad_record"),
        ([{"id": 1, "file_name": 7, "width": 100, "height": 80}], "bad_record"),
        ([{"id": 1, "file_name": "a.jpg", "width": 100, "height": 80}] * 2, "duplicate_image"),
        ([], "unknown_image"),
    ],
)
def test_an_image_that_cannot_be_used_takes_its_annotations_along(
    tmp_path: Path, images: list[Any], code: str
) -> None:
    reading = only(open_coco(coco_file(tmp_path, images=images)))
    assert reading.sample is None
    assert [problem.code for problem in reading.problems] == [code]


def test_a_box_that_leaves_by_a_pixel_is_clipped_and_counted(tmp_path: Path) -> None:
    path = coco_file(tmp_path, annotations=[annotation(bbox=[-0.8, 2, 101.5, 4])])
    reading = only(open_coco(path))
    assert reading.notes == (("box_clipped", 1),)
    assert reading.sample is not None
    assert reading.sample.instances[0].box.x1 == 0
    assert reading.sample.instances[0].box.x2 == 100


def test_a_missing_box_is_that_of_the_mask(tmp_path: Path) -> None:
    polygon = [[10, 10, 30, 10, 30, 20, 10, 20]]
    path = coco_file(tmp_path, annotations=[annotation(bbox=None, segmentation=polygon)])
    reading = only(open_coco(path))
    assert reading.sample is not None
    assert reading.sample.instances[0].box.to_xywh() == (10, 10, 20, 10)


def test_a_record_without_an_image_id_is_a_problem_of_the_file(tmp_path: Path) -> None:
    path = coco_file(tmp_path, annotations=[{"id": 1}, 3])
    problems = [part for part in open_coco(path).parts() if isinstance(part, RecordProblem)]
    assert [problem.code for problem in problems] == ["bad_record", "bad_record"]
    assert "annotations[0]" in problems[0].place


def test_a_folder_with_several_splits_wants_one_named(tmp_path: Path) -> None:
    write_scenes(tmp_path / "a", split="val", count=1, format="coco")
    (tmp_path / "a/annotations/instances_train.json").write_text("{}")
    with pytest.raises(AnnotationError, match="say which"):
        open_coco(tmp_path / "a")
    with pytest.raises(AnnotationError, match="not 'test'"):
        open_coco(tmp_path / "a", split="test")
    with pytest.raises(AnnotationError, match="instances_train"):
        open_coco(tmp_path)

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.sources.reading import codes, collect, samples, write_json
from PIL import Image

from deixis.data.scenes import Scene, draw_scene, scene_sample
from deixis.data.sources.panoptic import open_panoptic, plain_stuff_names
from deixis.errors import AnnotationError
from deixis.geometry import Box, ImageSize, Mask

CATEGORIES = [
    {"id": 1, "name": "person", "isthing": 1},
    {"id": 2, "name": "wall-other-merged", "isthing": 0},
    {"id": 3, "name": "wall-wood", "isthing": 0},
]
NUMBERS = np.array([[0, 1, 1, 70_000], [0, 1, 256, 70_000], [9, 9, 9, 9]])
SEGMENTS: list[dict[str, Any]] = [
    {"id": 1, "category_id": 1, "iscrowd": 0, "bbox": [1, 0, 2, 2], "area": 3},
    {"id": 256, "category_id": 1, "iscrowd": 1},
    {"id": 70_000, "category_id": 2, "iscrowd": 0},
    {"id": 9, "category_id": 3},
]


def _save(path: Path, numbers: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=-1)
    Image.fromarray(colours.astype(np.uint8)).save(path)


def _write(
    root: Path,
    *,
    segments: Sequence[Any] = SEGMENTS,
    numbers: np.ndarray = NUMBERS,
    annotations: Sequence[Any] | None = None,
    images: Sequence[Any] | None = None,
) -> Path:
    one = {"image_id": 7, "file_name": "7.png", "segments_info": list(segments)}
    image = {"id": 7, "file_name": "7.jpg", "width": 4, "height": 3}
    content = {
        "images": [image] if images is None else list(images),
        "annotations": [one] if annotations is None else list(annotations),
        "categories": CATEGORIES,
    }
    write_json(root / "annotations" / "panoptic_val.json", content)
    _save(root / "annotations" / "panoptic_val" / "7.png", numbers)
    return root


@pytest.mark.shared_data
@pytest.mark.parametrize(("split", "images", "segments"), [("train", 27, 290), ("val", 26, 258)])
def test_true_segments_have_the_published_areas_and_boxes(
    shared_data: Path, split: str, images: int, segments: int
) -> None:
    photos = shared_data / "photos"
    found = samples(open_panoptic(photos, split=split))
    content = json.loads((photos / "annotations" / f"panoptic_{split}.json").read_text())
    things = {one["id"]: one["isthing"] for one in content["categories"]}
    assert len(found) == images
    assert sum(len(sample.instances) for sample in found.values()) == segments
    for annotation in content["annotations"]:
        sample = found[str(annotation["image_id"])]
        assert sample.exhaustive
        assert isinstance(sample.image, Path)
        assert sample.image.is_file()
        for instance, published in zip(sample.instances, annotation["segments_info"], strict=True):
            assert instance.mask is not None
            assert instance.mask.area == published["area"]
            assert list(instance.box.to_xywh()) == published["bbox"]
            assert instance.attributes == (() if things[published["category_id"]] else ("stuff",))
            assert instance.crowd == bool(published["iscrowd"])
    words = {one.category for sample in found.values() for one in sample.instances}
    assert {"person", "wall", "sky", "tree"} <= words
    assert not any("merged" in word or "-" in word for word in words)


def test_segments_are_instances_with_stuff_marked(tmp_path: Path) -> None:
    (sample,) = samples(open_panoptic(_write(tmp_path))).values()
    assert sample.size == ImageSize(3, 4)
    assert sample.image == tmp_path / "7.jpg"
    assert [(i.category, i.attributes, i.crowd, i.box) for i in sample.instances] == [
        ("person", (), False, Box(1, 0, 3, 2)),
        ("person", (), True, Box(2, 1, 3, 2)),
        ("wall", ("stuff",), False, Box(3, 0, 4, 2)),
        ("wall wood", ("stuff",), False, Box(0, 2, 4, 3)),
    ]
    for instance, segment in zip(sample.instances, SEGMENTS, strict=True):
        assert instance.mask == Mask(segment["id"] == NUMBERS)
    assert sample.exhaustive


def _panoptic_of(scene: Scene) -> tuple[np.ndarray, list[dict[str, Any]]]:
    numbers = np.zeros(tuple(scene.size), np.int64)
    for index in range(len(scene.things)):
        numbers[scene.mask(index)] = (index + 1) * 70_001
    present = sorted(set(np.unique(numbers).tolist()) - {0})
    return numbers, [{"id": number, "category_id": 1} for number in present]


def test_masks_of_drawn_scenes_read_back_exactly(tmp_path: Path) -> None:
    for index in range(3):
        scene = draw_scene(13, index, level="hard", split="val")
        numbers, segments = _panoptic_of(scene)
        image = {"id": 7, "file_name": "7.jpg", "width": scene.size.width}
        image["height"] = scene.size.height
        root = _write(tmp_path, segments=segments, numbers=numbers, images=[image])
        (sample,) = samples(open_panoptic(root)).values()
        drawn = scene_sample(scene).instances
        for instance, segment in zip(sample.instances, segments, strict=True):
            thing = drawn[segment["id"] // 70_001 - 1]
            # things drawn over one another share no pixel
            assert instance.mask == thing.mask
            assert instance.box == thing.box


def test_names_that_would_become_equal_are_kept(tmp_path: Path) -> None:
    assert plain_stuff_names(["water-other", "water", "sky-other-merged", "door-stuff"]) == [
        *("water-other", "water", "sky", "door")
    ]
    source = open_panoptic(_write(tmp_path), plain_names=False)
    (sample,) = samples(source).values()
    assert sample.instances[2].category == "wall-other-merged"


@pytest.mark.parametrize(
    ("segment", "code"),
    [
        ({"id": 404, "category_id": 1}, "mask_empty"),
        ({"id": 0, "category_id": 1}, "mask_empty"),
        ({"id": -1, "category_id": 1}, "mask_empty"),
        ({"id": 1, "category_id": 1}, "duplicate_annotation"),
        ({"category_id": 1}, "bad_record"),
        ({"id": "9", "category_id": 1}, "bad_number"),
        ({"id": 9.5, "category_id": 1}, "bad_number"),
        (None, "bad_record"),
    ],
)
def test_a_segment_that_cannot_be_used_is_left_out(tmp_path: Path, segment: Any, code: str) -> None:
    readings = collect(open_panoptic(_write(tmp_path, segments=[*SEGMENTS, segment])))
    assert codes(readings) == {code: 1}
    assert readings["7"].problems[0].place.endswith("segment 4")
    sample = readings["7"].sample
    assert sample is not None
    assert (len(sample.instances), sample.exhaustive) == (4, False)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"category_id": 404}, "unknown_category"),
        ({"category_id": None}, "bad_number"),
        ({"iscrowd": "yes"}, "bad_number"),
    ],
)
def test_a_segment_of_no_category_is_left_out(
    tmp_path: Path, changed: dict[str, Any], code: str
) -> None:
    segments = [{**SEGMENTS[0], **changed}, *SEGMENTS[1:]]
    readings = collect(open_panoptic(_write(tmp_path, segments=segments)))
    assert codes(readings) == {code: 1}


def test_pixels_that_no_record_means_are_a_problem(tmp_path: Path) -> None:
    readings = collect(open_panoptic(_write(tmp_path, segments=SEGMENTS[1:])))
    assert codes(readings) == {"unknown_annotation": 1}
    assert readings["7"].problems[0].detail == "pixels of segment 1"
    assert readings["7"].sample is not None
    assert not readings["7"].sample.exhaustive


IMAGE = {"id": 7, "file_name": "7.jpg", "width": 4, "height": 3}
ONE = {"image_id": 7, "file_name": "7.png", "segments_info": SEGMENTS}


@pytest.mark.parametrize(
    ("images", "annotations", "code"),
    [
        ([], [ONE], "unknown_image"),
        ([IMAGE, IMAGE], [ONE], "duplicate_image"),
        ([IMAGE], [], "unknown_annotation"),
        ([IMAGE], [ONE, ONE], "duplicate_annotation"),
        ([{**IMAGE, "width": 5}], [ONE], "mask_damaged"),
        ([{**IMAGE, "file_name": "../7.jpg"}], [ONE], "path_escape"),
        ([IMAGE], [{**ONE, "file_name": "../../7.png"}], "path_escape"),
        ([IMAGE], [{**ONE, "file_name": "404.png"}], "mask_damaged"),
        ([IMAGE], [{**ONE, "segments_info": {}}], "bad_record"),
        ([IMAGE], [{"image_id": 7}], "bad_record"),
    ],
)
def test_an_image_that_cannot_be_used_is_one_problem(
    tmp_path: Path, images: list[Any], annotations: list[Any], code: str
) -> None:
    readings = collect(open_panoptic(_write(tmp_path, images=images, annotations=annotations)))
    assert codes(readings) == {code: 1}
    assert readings["7"].sample is None


def test_records_of_no_image_are_problems(tmp_path: Path) -> None:
    root = _write(tmp_path, annotations=[ONE, {"file_name": "x"}, 5], images=[IMAGE, {}])
    assert codes(collect(open_panoptic(root))) == {"bad_record": 3}


def test_a_damaged_picture_is_a_problem(tmp_path: Path) -> None:
    root = _write(tmp_path)
    picture = root / "annotations" / "panoptic_val" / "7.png"
    picture.write_bytes(picture.read_bytes()[:-20])
    assert codes(collect(open_panoptic(root))) == {"mask_damaged": 1}
    Image.new("L", (4, 3)).save(picture)
    assert codes(collect(open_panoptic(root))) == {"mask_damaged": 1}


def test_files_are_found_or_named(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="expected files such as panoptic_val2017"):
        open_panoptic(tmp_path)
    root = _write(tmp_path)
    file = root / "annotations" / "panoptic_val.json"
    assert open_panoptic(file).split == "val"
    assert open_panoptic(root, split="val").files[1].endswith("panoptic_val")
    with pytest.raises(AnnotationError, match="say which"):
        open_panoptic(root, split="train")
    moved = file.rename(root / "annotations" / "panoptic_train.json")
    with pytest.raises(AnnotationError, match="expected a folder of PNG files"):
        open_panoptic(moved)
    assert samples(open_panoptic(moved, segments=root / "annotations" / "panoptic_val"))
    write_json(moved, {"images": [], "annotations": [], "categories": [{"id": 1, "name": "x"}]})
    with pytest.raises(AnnotationError, match="isthing: missing"):
        open_panoptic(moved, segments=root)

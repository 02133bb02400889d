import json
import math
from pathlib import Path
from typing import Any

import pytest
from data.sources.reading import codes, collect, samples, write_json, write_lines

from deixis.data.sources.google_refexp import open_google_refexp
from deixis.errors import AnnotationError
from deixis.geometry import Box
from deixis.structures import Expression

NAME = "COCO_train2014_000000000009.jpg"
IMAGE = {"file_name": NAME, "width": 40, "height": 20}


def _line(**changed: Any) -> dict[str, Any]:
    made = {"image_id": 9, "annotation_id": 100, "raw": "the man", "category": "person"}
    return {name: value for name, value in {**made, **changed}.items() if value is not ...}


@pytest.fixture
def instances(tmp_path: Path) -> Path:
    annotations = [
        {"id": 100 + n, "image_id": 9, "category_id": 1, "bbox": [n, 2, 10, 5]} for n in range(2)
    ]
    content = {
        "images": [{"id": 9, **IMAGE}, {"id": 10, **IMAGE}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }
    return write_json(tmp_path / "instances_train2014.json", content)


def _toolkit(*, aligned: bool) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = [
        {
            "annotation_id": 100,
            "image_id": 9,
            "refexp_ids": [1, 2],
            "region_candidates": [{"bounding_box": [0, 0, 5, 5]}] * 3,
        },
        {"annotation_id": 101, "image_id": 9, "refexp_ids": [3], "region_candidates": []},
    ]
    refexps = [
        {"refexp_id": n, "raw": text, "tokens": text.split(), "parse": {"referent": {}}}
        for n, text in enumerate(("the man", "a person", "her"), start=1)
    ]
    if not aligned:
        return {"annotations": annotations, "refexps": refexps}
    for left, one in enumerate(annotations):
        one |= {"category_id": 1, "bbox": [left, 2, 10, 5], "iscrowd": 0}
        one["segmentation"] = [[left, 2, left + 10, 2, left + 10, 7, left, 7]]
    return {
        "images": {"9": {**IMAGE, "image_id": 9, "region_candidates": []}},
        "annotations": {str(one["annotation_id"]): one for one in annotations},
        "refexps": {str(one["refexp_id"]): one for one in refexps},
    }


EXPECTED = (
    Expression("the man", (0,), "long"),
    Expression("a person", (0,), "long"),
    Expression("her", (1,), "long"),
)


@pytest.mark.shared_data
def test_original_lines_are_joined_if_their_image_exists(shared_data: Path) -> None:
    """Of 5,000 lines, those about the photos that lie here with their instances."""
    photos = shared_data / "photos"
    lines = shared_data / "formats" / "google_refexp" / "refexp_val5000.jsonl"
    readings = collect(
        open_google_refexp(
            lines,
            instances=photos / "annotations" / "instances_train.json",
            images=photos / "images" / "train",
        )
    )
    assert len(readings) == 4650
    (found,) = (one.sample for one in readings.values() if one.sample is not None)
    assert codes(readings) == {"unknown_image": 4649}
    assert [(one.text, one.instances) for one in found.expressions] == [("birds in water", (1,))]
    assert found.instances[1].category == "bird"
    # as the subset's own line has the annotation
    own = json.loads((photos / "questions" / "google_refexp.jsonl").read_text().splitlines()[0])
    x, y, width, height = own["bbox"]
    assert found.instances[1].box == Box(x, y, x + width, y + height)
    assert isinstance(found.image, Path)
    assert found.image.is_file()


def test_the_release_is_joined_to_coco(tmp_path: Path, instances: Path) -> None:
    path = write_json(tmp_path / "google_refexp_val_201511.json", _toolkit(aligned=False))
    (sample,) = samples(open_google_refexp(path, instances=instances)).values()
    assert sample.expressions == EXPECTED
    assert [one.box for one in sample.instances] == [Box(0, 2, 10, 7), Box(1, 2, 11, 7)]
    assert (sample.split, sample.exhaustive) == ("val", True)


def test_the_aligned_form_needs_no_other_file(tmp_path: Path) -> None:
    write_json(tmp_path / "google_refexp_train_201511_coco_aligned.json", _toolkit(aligned=True))
    source = open_google_refexp(tmp_path)
    (sample,) = samples(source).values()
    assert sample.expressions == EXPECTED
    assert [one.category for one in sample.instances] == ["person", "person"]
    assert sample.instances[0].mask is not None
    # the things that nobody described are not in the file
    assert (sample.split, sample.exhaustive) == ("train", False)
    assert sample.image == tmp_path / "train2014" / NAME


def test_the_aligned_form_can_be_joined_too(tmp_path: Path, instances: Path) -> None:
    path = write_json(tmp_path / "x_coco_aligned.json", _toolkit(aligned=True))
    (sample,) = samples(open_google_refexp(path, instances=instances)).values()
    assert (len(sample.instances), sample.exhaustive) == (2, True)


def test_a_line_may_bring_the_annotation_that_coco_lacks(tmp_path: Path, instances: Path) -> None:
    own = _line(annotation_id=500, bbox=[3, 3, 6, 6], category="dog", raw="it")
    lines = write_lines(tmp_path / "x.jsonl", [_line(), own, {**own, "raw": "the dog"}])
    (sample,) = samples(open_google_refexp(lines, instances=instances)).values()
    assert [one.category for one in sample.instances] == ["person", "person", "dog"]
    assert {(one.text, one.instances) for one in sample.expressions} == {
        *(("the man", (0,)), ("it", (2,)), ("the dog", (2,)))
    }


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"annotation_id": 404}, "unknown_annotation"),
        ({"annotation_id": 404, "bbox": None}, "unknown_annotation"),
        ({"annotation_id": 404, "bbox": [1, 1, 0, 0]}, "box_degenerate"),
        ({"annotation_id": 404, "bbox": [1, 1, math.nan, 3]}, "bad_number"),
        ({"annotation_id": ...}, "bad_record"),
        ({"annotation_id": -1.5}, "bad_number"),
        ({"image_id": ...}, "bad_record"),
        ({"image_id": 404}, "unknown_image"),
        ({"raw": ...}, "bad_record"),
        ({"raw": None}, "bad_record"),
        ({"raw": "  "}, "bad_text"),
        ({"raw": "\ud800"}, "bad_encoding"),
    ],
)
def test_a_line_that_cannot_be_used_is_a_problem(
    tmp_path: Path, instances: Path, changed: dict[str, Any], code: str
) -> None:
    lines = write_lines(tmp_path / "x.jsonl", [_line(), _line(**changed)])
    readings = collect(open_google_refexp(lines, instances=instances))
    assert codes(readings) == {code: 1}
    sample = readings["9"].sample
    assert sample is not None
    assert [one.text for one in sample.expressions] == ["the man"]


def test_a_line_that_is_no_json_is_a_problem(tmp_path: Path, instances: Path) -> None:
    lines = tmp_path / "x.jsonl"
    lines.write_text(f"{json.dumps(_line())}\n{{'image_id': 9}}\n[]\n{'[' * 100_000}\n")
    readings = collect(open_google_refexp(lines, instances=instances))
    assert codes(readings) == {"bad_json": 2, "bad_record": 1}


@pytest.mark.parametrize("aligned", [True, False])
def test_damage_in_the_toolkits_forms_is_a_problem(
    tmp_path: Path, instances: Path, *, aligned: bool
) -> None:
    content = _toolkit(aligned=aligned)
    bad = [{"refexp_id": 7, "raw": "no one"}, {"raw": "no number"}, "text", {"refexp_id": 2}]
    members = list(content["refexps"].values()) if aligned else content["refexps"]
    content["refexps"] = [*[one for one in members if one["refexp_id"] != 2], *bad]
    path = write_json(tmp_path / f"x{'_aligned' * aligned}.json", content)
    readings = collect(open_google_refexp(path, instances=None if aligned else instances))
    assert codes(readings) == {"unknown_annotation": 1, "bad_record": 3}
    assert readings["9"].sample is not None
    assert len(readings["9"].sample.expressions) == 2


def test_missing_files_are_named(tmp_path: Path, instances: Path) -> None:
    lines = write_lines(tmp_path / "x.jsonl", [])
    with pytest.raises(AnnotationError, match="expected instances=PATH"):
        open_google_refexp(lines)
    with pytest.raises(AnnotationError, match=r"expected google_refexp_SPLIT_201511\.json"):
        open_google_refexp(tmp_path)
    for split in ("train", "val"):
        write_json(tmp_path / f"google_refexp_{split}_201511.json", _toolkit(aligned=False))
    with pytest.raises(AnnotationError, match="say which"):
        open_google_refexp(tmp_path)
    source = open_google_refexp(tmp_path, split="val", instances=instances)
    assert [Path(name).name for name in source.files] == [
        "google_refexp_val_201511.json",
        "instances_train2014.json",
    ]

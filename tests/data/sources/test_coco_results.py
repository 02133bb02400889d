import json
from pathlib import Path
from typing import Any

import pytest
from data.export.exported import export
from data.sources.pictures import picture
from data.sources.reading import codes, collect, notes, samples, write_json

from deixis.data.sources import open_source
from deixis.data.sources.coco_results import CocoResults, open_coco_results
from deixis.data.sources.jsonl import open_jsonl
from deixis.errors import AnnotationError, RecipeError
from deixis.geometry import Box


def _result(score: Any = 0.9, **changed: Any) -> dict[str, Any]:
    made = {"image_id": 7, "category_id": 18, "bbox": [1, 2, 10, 5], "score": score}
    return {name: value for name, value in {**made, **changed}.items() if value is not ...}


def _open(root: Path, *results: Any, **options: Any) -> CocoResults:
    picture(root / "images" / "a.png")
    instances = write_json(
        root / "annotations" / "instances_val.json",
        {
            "images": [{"id": 7, "file_name": "a.png", "width": 64, "height": 48}],
            "annotations": [{"id": 1, "image_id": 7, "category_id": 18, "bbox": [0, 0, 9, 9]}],
            "categories": [{"id": 18, "name": "dog"}],
        },
    )
    return open_coco_results(
        write_json(root / "results.json", list(results)), instances=instances, **options
    )


MASK = {"size": [48, 64], "counts": [48, 10, 48 * 64 - 58]}


def test_detections_keep_their_scores_and_are_not_exhaustive(tmp_path: Path) -> None:
    source = _open(tmp_path, _result(0.25), _result(0.75, bbox=..., segmentation=MASK))
    sample = samples(source)["7"]
    assert [(one.category, one.score, one.box) for one in sample.instances] == [
        ("dog", 0.75, Box(1, 0, 2, 10)),
        ("dog", 0.25, Box(1, 2, 11, 7)),
    ]
    assert (sample.exhaustive, sample.absent_categories) == (False, ())
    assert sample.image == tmp_path / "images" / "a.png"


def test_a_threshold_leaves_out_lower_scores(tmp_path: Path) -> None:
    _open(tmp_path, _result(0.5), _result(0.499), _result(0.1, keypoints=[1, 2, 1]))
    spec = (
        f"coco_results:{tmp_path}/results.json,instances={tmp_path}/annotations/instances_val.json"
    )
    readings = collect(open_source(f"{spec},threshold=0.5,split=val").source)
    assert notes(readings) == {"below_threshold": 2}
    sample = readings["7"].sample
    assert sample is not None
    assert ([one.score for one in sample.instances], sample.split) == ([0.5], "val")
    assert not sample.exhaustive
    assert notes(collect(open_source(spec).source)) == {"keypoints_of_results": 1}
    for text in ("x", "nan", "1e5", ""):
        with pytest.raises(RecipeError, match="expected"):
            open_source(f"{spec},threshold={text}")


def test_the_order_of_the_file_makes_no_difference(tmp_path: Path) -> None:
    results = [_result(0.5, bbox=[1, 1, number, 9]) for number in range(1, 9)]
    one = samples(_open(tmp_path / "one", *results))["7"].instances
    assert one == samples(_open(tmp_path / "two", *results[::-1]))["7"].instances


def test_scores_are_kept_in_json_lines(tmp_path: Path) -> None:
    done = export(tmp_path / "out", "jsonl", _open(tmp_path / "in", _result(0.25)))
    assert done.report.not_carried == {}
    (line,) = (done.folder / "samples.jsonl").read_text().splitlines()
    assert json.loads(line)["objects"][0]["score"] == 0.25
    again = open_jsonl(done.folder / "samples.jsonl", images=tmp_path / "in" / "images")
    assert samples(again)["7"].instances[0].score == 0.25


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (_result(...), "bad_record"),
        (_result("0.5"), "bad_number"),
        (_result(float("nan")), "bad_number"),
        (_result(category_id=99), "unknown_category"),
        (_result(bbox=[1, 2, 0, 5]), "box_degenerate"),
        (_result(bbox=[1, 2, 900, 5]), "box_outside"),
        (_result(bbox=...), "bad_record"),
        (_result(segmentation={"size": [4, 4], "counts": [16]}), "mask_damaged"),
    ],
)
def test_a_detection_that_cannot_be_used_is_left_out(
    tmp_path: Path, result: Any, code: str
) -> None:
    readings = collect(_open(tmp_path, result, _result()))
    assert codes(readings) == {code: 1}
    assert readings["7"].sample is not None
    assert len(readings["7"].sample.instances) == 1


def test_detections_of_no_image_are_problems(tmp_path: Path) -> None:
    source = _open(tmp_path, _result(image_id=8), _result(image_id=...), 7, _result())
    assert codes(collect(source)) == {"unknown_image": 1, "bad_record": 2}


def test_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="expected a JSON file of results"):
        open_coco_results(tmp_path / "none.json")
    path = write_json(tmp_path / "results.json", [])
    with pytest.raises(AnnotationError, match=r"say which images it is about, as in coco_results:"):
        open_coco_results(path)
    with pytest.raises(AnnotationError, match="does not exist"):
        open_coco_results(path, instances=tmp_path / "none.json")

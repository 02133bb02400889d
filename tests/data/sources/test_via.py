import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from data.sources.pictures import picture
from data.sources.reading import codes, collect, notes, samples, write_json

from deixis.data.sources import open_source
from deixis.data.sources.base import NO_IMAGE
from deixis.data.sources.via import Via, open_via
from deixis.errors import AnnotationError
from deixis.geometry import Box
from deixis.structures import Sample

RECT = {"name": "rect", "x": 10, "y": 20, "width": 30, "height": 15}
CIRCLE = {"name": "circle", "cx": 30, "cy": 20, "r": 5}
ELLIPSE = {"name": "ellipse", "cx": 30, "cy": 20, "rx": 10, "ry": 4, "theta": math.pi / 2}
POLYGON = {"name": "polygon", "all_points_x": [10, 20, 20], "all_points_y": [10, 10, 30]}
BOXES = {
    "rect": Box(10, 20, 40, 35),
    "circle": Box(25, 15, 35, 25),
    "ellipse": Box(26, 10, 34, 30),
    "polygon": Box(10, 10, 20, 30),
}
SHAPES = (RECT, CIRCLE, ELLIPSE, POLYGON)


def _region(shape: Any, attributes: Any = None) -> dict[str, Any]:
    words = {"class": "red_cup"} if attributes is None else attributes
    return {"shape_attributes": shape, "region_attributes": words}


def _picture(*regions: Any, name: str = "a.png") -> dict[str, Any]:
    return {"filename": name, "size": 123, "regions": list(regions), "file_attributes": {}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    picture(tmp_path / "a.png")
    return tmp_path


def _annotations(root: Path, *pictures: Any, **options: Any) -> Via:
    members = {f"p{number}": one for number, one in enumerate(pictures)}
    return open_via(write_json(root / "via.json", members), **options)


def _check(sample: Sample, kinds: tuple[str, ...] = tuple(BOXES)) -> None:
    assert [one.category for one in sample.instances] == ["red cup"] * len(kinds)
    for one, kind in zip(sample.instances, kinds, strict=True):
        assert one.box.as_array() == pytest.approx(BOXES[kind].as_array())
        assert (one.mask is None) == (kind == "rect")
    assert sample.exhaustive


def test_annotations_of_version_two_and_one(root: Path) -> None:
    picture_two = _picture(*map(_region, SHAPES))
    sample = samples(_annotations(root, picture_two))["a.png"]
    _check(sample)
    assert sample.image == root / "a.png"
    numbered = {str(number): one for number, one in enumerate(picture_two["regions"])}
    _check(samples(_annotations(root, {**picture_two, "regions": numbered}))["a.png"])


def test_a_project_of_version_two(root: Path) -> None:
    project = {
        "_via_settings": {"core": {}},
        "_via_img_metadata": {"a.png123": _picture(*map(_region, SHAPES))},
        "_via_attributes": {"region": {"class": {"type": "text"}}, "file": {}},
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": ["a.png123"],
    }
    write_json(root / "project.json", project)
    source = open_source(f"via:{root}/project.json,split=train").source
    sample = samples(source)["a.png"]
    _check(sample)
    assert sample.split == "train"


@pytest.mark.parametrize("title", ["filename", "#filename"])
def test_a_table_of_versions_one_and_two(root: Path, title: str) -> None:
    picture(root / "b.png")
    columns = [title, "file_size", "file_attributes", "region_count", "region_id"]
    with (root / "via.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "region_shape_attributes", "region_attributes"])
        for number, shape in enumerate(SHAPES):
            words = json.dumps({"class": "red_cup"})
            writer.writerow(["a.png", 123, "{}", 4, number, json.dumps(shape), words])
        writer.writerow(["b.png", 123, "{}", 0, 0, "{}", "{}"])
        writer.writerow(["c.png", 1])
    readings = collect(open_via(root / "via.csv"))
    assert codes(readings) == {"bad_record": 1}
    assert readings["a.png"].sample is not None
    _check(readings["a.png"].sample)
    assert readings["b.png"].sample is not None
    assert (readings["b.png"].sample.instances, readings["b.png"].sample.exhaustive) == ((), True)


def _project(*shapes: list[Any], attributes: Any = None, **more: Any) -> dict[str, Any]:
    words = {"1": "0"} if attributes is None else attributes
    metadata = {
        f"1_{number}": {"vid": "1", "flg": 0, "z": [], "xy": shape, "av": words}
        for number, shape in enumerate(shapes)
    }
    return {
        "project": {"pid": "x", "vid_list": ["1", "2"]},
        "config": {},
        "attribute": {"1": {"aname": "class", "type": 4, "options": {"0": "red_cup", "1": "dog"}}},
        "file": {
            "1": {"fid": "1", "fname": "a.png", "type": 2, "loc": 1, "src": ""},
            "2": {"fid": "2", "fname": "b.mp4", "type": 4, "loc": 1, "src": ""},
        },
        "metadata": {**metadata, "2_x": {"vid": "2", "flg": 0, "z": [1, 2], "xy": [], "av": {}}},
        "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": ["2"]}},
        **more,
    }


def test_a_project_of_version_three(root: Path) -> None:
    shapes: list[list[Any]] = [
        [2, 10, 20, 30, 15],
        [3, 30, 20, 5],
        [7, 10, 10, 20, 10, 20, 30],
        [8, 10, 25, 40, 25, 20, 20, 20, 35],
        [9, 25, 20, 30, 15, 35, 20],
        [],
    ]
    # two things on one box are one too many
    source = open_via(write_json(root / "via3.json", _project(*shapes[:3])))
    _check(samples(source)["a.png"], ("rect", "circle", "polygon"))
    assert list(source.parts()).count(NO_IMAGE) == 2
    more = samples(open_via(write_json(root / "via3.json", _project(*shapes[3:]))))["a.png"]
    _check(more, ("rect", "circle"))


@pytest.mark.parametrize(
    ("shape", "attributes", "code"),
    [
        ([2, 10, 20, 30], None, "bad_record"),
        ([99, 10], None, "bad_record"),
        (["rect"], None, "bad_number"),
        ([9, 1, 1, 2, 2, 3, 3], None, "box_degenerate"),
        ([7, 1, 1, 2, 2], None, "mask_damaged"),
        ([2, 10, 20, 30, 15], {"9": "x"}, "bad_record"),
        ([2, 10, 20, 30, 15], {}, "bad_text"),
        (7, None, "bad_record"),
    ],
)
def test_what_cannot_be_used_of_version_three_is_a_problem_of_its_picture(
    root: Path, shape: Any, attributes: Any, code: str
) -> None:
    project = _project(shape, attributes=attributes)
    readings = collect(open_via(write_json(root / "via3.json", project)))
    assert codes(readings) == {code: 1}
    assert readings["a.png"].sample is not None
    assert not readings["a.png"].sample.exhaustive


def test_views_that_are_no_picture_are_problems(root: Path) -> None:
    views = {"1": {"fid_list": ["1", "2"]}, "2": {"fid_list": ["9"]}, "3": 7}
    metadata = {"m": {"flg": 0}}
    project = _project(view=views, metadata=metadata)
    assert codes(collect(open_via(write_json(root / "via3.json", project)))) == {"bad_record": 4}


@pytest.mark.parametrize("kind", ["point", "polyline", "line"])
def test_other_shapes_are_counted_and_the_image_is_not_exhaustive(root: Path, kind: str) -> None:
    readings = collect(_annotations(root, _picture(_region({"name": kind}), _region(RECT))))
    assert (codes(readings), notes(readings)) == ({}, {"shapes_of_other_types": 1})
    assert readings["a.png"].sample is not None
    assert not readings["a.png"].sample.exhaustive


@pytest.mark.parametrize(
    ("attributes", "options", "category"),
    [
        ({"species": "red_cup"}, {}, "red cup"),
        ({"note": "x", "label": "dog", "name": "cat"}, {}, "dog"),
        ({"note": "x", "label": "dog"}, {"label": "note"}, "x"),
        ({"type": {"dog": True, "cat": False}}, {}, "dog"),
        ({"type": 3}, {}, "3"),
        ({}, {"category": "cell"}, "cell"),
        ({"a": "x", "b": "y"}, {"category": "cell"}, "cell"),
        ({"label": ""}, {"category": "cell"}, "cell"),
    ],
)
def test_the_class_is_one_of_the_attributes(
    root: Path, attributes: Any, options: Any, category: str
) -> None:
    source = _annotations(root, _picture(_region(RECT, attributes)), **options)
    assert [one.category for one in samples(source)["a.png"].instances] == [category]


@pytest.mark.parametrize(
    ("region", "code"),
    [
        (7, "bad_record"),
        (_region({"name": "star"}), "bad_record"),
        (_region({**RECT, "width": 0}), "box_degenerate"),
        (_region({**RECT, "x": 99}), "box_outside"),
        (_region({**RECT, "x": "1"}), "bad_number"),
        (_region({"name": "rect"}), "bad_record"),
        (_region({**CIRCLE, "r": -1}), "box_degenerate"),
        (_region({**POLYGON, "all_points_x": [1, 2]}), "mask_damaged"),
        (_region({**POLYGON, "all_points_x": [1, 2, None]}), "bad_number"),
        (_region(RECT, {}), "bad_text"),
        (_region(RECT, {"a": "x", "b": "y"}), "bad_text"),
        (_region(RECT, {"class": {"a": True, "b": True}}), "bad_record"),
        (_region(RECT, {"class": [1]}), "bad_record"),
        (_region(RECT, 7), "bad_record"),
    ],
)
def test_a_region_that_cannot_be_used_is_left_out(root: Path, region: Any, code: str) -> None:
    readings = collect(_annotations(root, _picture(region, _region(CIRCLE))))
    assert codes(readings) == {code: 1}
    sample = readings["a.png"].sample
    assert sample is not None
    assert (len(sample.instances), sample.exhaustive) == (1, False)


def test_a_problem_of_the_class_says_what_helps(root: Path) -> None:
    readings = collect(_annotations(root, _picture(_region(RECT, {"a": "x", "b": "y"}))))
    assert (
        "label=NAME says which is the class, category=NAME" in readings["a.png"].problems[0].detail
    )
    fixed = _annotations(root, _picture(_region(RECT, {"a": "x", "b": "y"})), label="b")
    assert samples(fixed)["a.png"].instances[0].category == "y"


def test_pictures_that_cannot_be_used_are_problems(root: Path) -> None:
    names = ("a.png", "a.png", "gone.png", "../a.png", "")
    source = _annotations(root, *(_picture(name=name) for name in names), {"filename": None})
    assert codes(collect(source)) == {
        "duplicate_image": 1,
        "image_missing": 1,
        "path_escape": 1,
        "bad_text": 1,
        "bad_record": 1,
    }


@pytest.mark.parametrize("name", ["https://x.org/d/a.png?w=1", "d\\a.png"])
def test_names_may_be_addresses_or_have_backslashes(tmp_path: Path, name: str) -> None:
    place = tmp_path / ("a.png" if "://" in name else "d/a.png")
    picture(place)
    (sample,) = samples(_annotations(tmp_path, _picture(name=name))).values()
    assert sample.image == place


@pytest.mark.parametrize("content", [{}, {"images": []}, {"a": {"regions": []}}])
def test_files_that_are_not_vias_are_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(AnnotationError, match="expected a project of VIA or its annotations"):
        open_via(write_json(tmp_path / "via.json", content))
    with pytest.raises(AnnotationError, match="expected a file of VIA, in JSON or CSV"):
        open_via(tmp_path / "none.json")
    source = open_via(write_json(tmp_path / "via.json", {"file": 1, "view": {}, "metadata": {}}))
    with pytest.raises(AnnotationError, match="file: expected an object"):
        list(source.parts())

from pathlib import Path
from typing import Any

import pytest
from data.sources.pictures import picture
from data.sources.reading import codes, collect, samples, write_json, write_lines

from deixis.data.sources import open_source
from deixis.data.sources.createml import CreateMl, open_createml
from deixis.errors import AnnotationError, RecipeError
from deixis.geometry import Box
from deixis.structures import Instance


def _one(label: Any = "red_cup", **changed: Any) -> dict[str, Any]:
    place = {"x": 20.0, "y": 15.5, "width": 10, "height": 9, **changed}
    return {"label": label, "coordinates": place}


def _open(root: Path, *records: Any, **options: Any) -> CreateMl:
    picture(root / "a.png")
    return open_createml(write_json(root / "_annotations.createml.json", list(records)), **options)


@pytest.mark.parametrize(
    ("names", "image"),
    [
        (("image", "annotations"), "a.png"),
        (("imagefilename", "annotation"), "a.png"),
        (("image", "annotations"), "https://x.org/d/a.png?w=1"),
    ],
)
def test_coordinates_are_the_middle_of_a_box(
    tmp_path: Path, names: tuple[str, str], image: str
) -> None:
    record = {names[0]: image, names[1]: [_one()], "verified": False}
    sample = samples(_open(tmp_path, record))["a.png"]
    assert sample.instances == (Instance("red cup", Box(15, 11, 25, 20)),)
    assert (sample.image, sample.exhaustive) == (tmp_path / "a.png", True)


def test_options_declare_the_layout_of_numbers(tmp_path: Path) -> None:
    record = {"image": "a.png", "annotations": [_one(x=0.25, y=0.5, width=0.25, height=0.5)]}
    _open(tmp_path, record)
    spec = f"createml:{tmp_path},anchor=top_left,units=normalized,split=val"
    sample = samples(open_source(spec).source)["a.png"]
    assert (sample.instances[0].box, sample.split) == (Box(16, 24, 32, 48), "val")
    with pytest.raises(RecipeError, match=r"expected anchor of .* and units of "):
        open_createml(tmp_path, units="percent")


def test_a_picture_without_boxes_has_only_absent_classes(tmp_path: Path) -> None:
    sample = samples(_open(tmp_path, {"image": "a.png", "annotations": []}))["a.png"]
    assert (sample.instances, sample.exhaustive) == ((), True)


def test_lines_are_read_too(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    path = write_lines(tmp_path / "a.json", [{"image": "a.png", "annotations": [_one()]}])
    assert len(samples(open_createml(path))["a.png"].instances) == 1


@pytest.mark.parametrize(
    ("one", "code"),
    [
        (7, "bad_record"),
        (_one(""), "bad_text"),
        (_one(width=0), "box_degenerate"),
        (_one(x=99), "box_outside"),
        (_one(x=None), "bad_number"),
        ({"label": "a"}, "bad_record"),
        (_one(x=0.25, y=0.5, width=0.25, height=0.5), "box_layout"),
    ],
)
def test_a_box_that_cannot_be_used_is_left_out(tmp_path: Path, one: Any, code: str) -> None:
    readings = collect(_open(tmp_path, {"image": "a.png", "annotations": [one, _one()]}))
    assert codes(readings) == {code: 1}
    sample = readings["a.png"].sample
    assert sample is not None
    assert (len(sample.instances), sample.exhaustive) == (1, False)


def test_records_that_cannot_be_used_are_problems(tmp_path: Path) -> None:
    right = {"image": "a.png", "annotations": []}
    wrong: tuple[Any, ...] = (
        {"image": "../a.png", "annotations": []},
        {"annotations": []},
        7,
        {"image": "b.png"},
    )
    readings = collect(_open(tmp_path, right, right, *wrong))
    assert codes(readings) == {
        "bad_record": 2,
        "duplicate_image": 1,
        "path_escape": 1,
        "image_missing": 1,
    }
    picture(tmp_path / "b.png")
    assert codes(collect(_open(tmp_path, {"image": "b.png"}))) == {"bad_record": 1}
    source = _open(tmp_path, {"image": "b.png", "annotations": [_one(x=900)]}, units="normalized")
    assert codes(collect(source)) == {"box_layout": 1}


def test_a_folder_has_one_file(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"expected one JSON file, found \[\]"):
        open_createml(tmp_path)
    with pytest.raises(AnnotationError, match="does not exist, expected a JSON file or its folder"):
        open_createml(tmp_path / "none")

import json
from pathlib import Path
from typing import Any

import pytest
from data.sources.pictures import picture
from data.sources.reading import codes, collect, notes, samples

from deixis.data.sources import open_source
from deixis.data.sources.base import PassedOver
from deixis.data.sources.open_images import open_open_images
from deixis.errors import AnnotationError
from deixis.geometry import Box
from deixis.structures import Instance, Sample

TITLE = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,"
    "IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
)
CLASSES = {
    "/m/1": "Person",
    "/m/2": "Man",
    "/m/3": "Traffic light",
    "/m/4": "TV set",
    "/m/5": "Dog",
}
TREE = {
    "LabelName": "/m/0bl9f",
    "Subcategory": [
        {
            "LabelName": "/m/1",
            "Subcategory": [{"LabelName": "/m/2"}],
            "Part": [{"LabelName": "/m/5"}],
        },
        {"LabelName": "/m/3"},
        {"LabelName": "/m/4"},
    ],
}


def _row(label: str, *edges: float, flags: str = "0,0,0,0,0", image: str = "a1") -> str:
    x1, y1, x2, y2 = edges or (0.25, 0.5, 0.75, 1.0)
    return f"{image},xclick,{label},1,{x1},{x2},{y1},{y2},{flags}"


def _label(label: str, confidence: Any, image: str = "a1") -> str:
    return f"{image},verification,{label},{confidence}"


def _write(
    root: Path,
    *rows: str,
    labels: tuple[str, ...] | None = (),
    tree: Any = TREE,
    title: str = TITLE,
) -> Path:
    picture(root / "images" / "a1.jpg", 64, 48)
    (root / "train-annotations-bbox.csv").write_text("\n".join([title, *rows]) + "\n")
    named = ["LabelName,DisplayName", *(f"{one},{name}" for one, name in CLASSES.items())]
    (root / "oidv7-class-descriptions-boxable.csv").write_text("\r\n".join(named))
    if labels is not None:
        text = "\n".join(["ImageID,Source,LabelName,Confidence", *labels])
        (root / "train-annotations-human-imagelabels-boxable.csv").write_text(text)
    if tree is not None:
        (root / "bbox_labels_600_hierarchy.json").write_text(json.dumps(tree))
    return root


def _read(root: Path, *rows: str, **more: Any) -> Sample:
    return samples(open_open_images(_write(root, *rows, **more)))["a1"]


def test_fractions_become_pixels_and_flags_words(tmp_path: Path) -> None:
    sample = _read(
        tmp_path, _row("/m/3", flags="1,1,0,0,0"), _row("/m/5", 0, 0, 0.1, 0.2, flags="-1,0,1,1,1")
    )
    light, dogs = sample.instances
    assert light == Instance(
        "traffic light", Box(16, 24, 48, 48), attributes=("truncated", "occluded")
    )
    assert dogs == Instance("dog", Box(0, 0, 6.4, 9.6), crowd=True)
    assert (sample.image, sample.split) == (tmp_path / "images" / "a1.jpg", "train")
    readings = collect(open_source(f"open_images:{tmp_path}").source)
    assert notes(readings) == {"depictions": 1, "seen_from_the_inside": 1}


def test_only_verified_classes_are_exhaustive_or_absent(tmp_path: Path) -> None:
    labels = (_label("/m/3", 1), _label("/m/5", 0), _label("/m/4", "0.0"), _label("/m/99", 1))
    readings = collect(open_open_images(_write(tmp_path, _row("/m/3"), labels=labels)))
    sample = readings["a1"].sample
    assert sample is not None
    assert sample.covers("traffic light")
    assert sample.left_out.others
    assert sample.absent_categories == ("TV set", "dog")
    assert notes(readings) == {"verified_labels": 3, "labels_of_other_classes": 1}


@pytest.mark.parametrize(
    ("rows", "labels", "more", "covered"),
    [
        ((_row("/m/3"),), (), {}, set()),
        ((_row("/m/3"),), (_label("/m/3", 0),), {}, set()),
        ((_row("/m/3"),), (_label("/m/3", 1), _label("/m/3", 0)), {}, set()),
        ((_row("/m/3"), _row("/m/5")), (_label("/m/3", 1),), {}, {"traffic light"}),
        ((_row("/m/3"),), (_label("/m/3", 1),), {"tree": None}, set()),
        ((_row("/m/3"),), None, {}, set()),
        # a man is a person: nobody counts the people
        (
            (_row("/m/1"), _row("/m/2", 0, 0, 1, 1)),
            (_label("/m/1", 1), _label("/m/2", 1)),
            {},
            {"man"},
        ),
        # the same box given twice is one thing
        ((_row("/m/3"), _row("/m/3")), (_label("/m/3", 1),), {}, {"traffic light"}),
    ],
)
def test_only_verified_classes_that_are_above_no_other_are_covered(
    tmp_path: Path, rows: Any, labels: Any, more: Any, covered: set[str]
) -> None:
    sample = _read(tmp_path, *rows, labels=labels, **more)
    names = {one.category for one in sample.instances}
    assert {name for name in names if sample.covers(name)} == covered
    assert not sample.exhaustive


def test_a_class_above_one_that_is_there_is_not_absent(tmp_path: Path) -> None:
    labels = (_label("/m/2", 1), _label("/m/1", 0), _label("/m/5", 0), _label("/m/5", 1))
    sample = _read(tmp_path, _row("/m/2"), labels=labels)
    assert (sample.covers("man"), sample.absent_categories) == (True, ())


def test_labels_of_images_without_boxes_are_passed_over(tmp_path: Path) -> None:
    root = _write(tmp_path, _row("/m/3"), labels=(_label("/m/3", 1, "other"),))
    assert PassedOver("image_without_boxes") in list(open_open_images(root).parts())


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (_row("/m/99"), "unknown_category"),
        (_row(""), "bad_text"),
        (_row("/m/3", 0.5, 0.5, 0.5, 0.7), "box_degenerate"),
        (_row("/m/3", 16, 24, 48, 48), "box_layout"),
        (_row("/m/3").replace("0.75", "x"), "bad_number"),
        (_row("/m/3").replace("0.75", "nan"), "bad_number"),
        (_row("/m/3").replace("0.75", ""), "bad_text"),
        (_row("/m/3", flags="0,0,yes,0,0"), "bad_number"),
    ],
)
def test_a_box_that_cannot_be_used_is_left_out(tmp_path: Path, row: str, code: str) -> None:
    labels = (_label("/m/5", 1), _label("/m/4", 0))
    readings = collect(open_open_images(_write(tmp_path, row, _row("/m/5"), labels=labels)))
    assert codes(readings) == {code: 1}
    sample = readings["a1"].sample
    assert sample is not None
    assert [one.category for one in sample.instances] == ["dog"]
    assert (sample.left_out.unknown, sample.absent_categories) == (True, ())


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (_row("/m/3", 0.2, 0.2, 1.0099, 0.6), {}),
        (_row("/m/3", 0.2, 0.2, 1.0101, 0.6), {"box_layout": 1}),
        (_row("/m/3", -0.0099, 0.2, 0.6, 0.6), {}),
        (_row("/m/3", -0.0101, 0.2, 0.6, 0.6), {"box_layout": 1}),
    ],
)
def test_a_fraction_may_leave_its_side_by_a_hundredth_and_no_more(
    tmp_path: Path, row: str, expected: dict[str, int]
) -> None:
    assert codes(collect(open_open_images(_write(tmp_path, row)))) == expected


def test_rows_and_labels_that_cannot_be_used_are_problems(tmp_path: Path) -> None:
    root = _write(
        tmp_path,
        *(_row("/m/3"), _row("/m/3", image="../a1"), _row("/m/3", image=""), "a1,b", '"x'),
        _row("/m/3", image="gone"),
        labels=(_label("/m/5", 0.7), _label("/m/5", "x")),
    )
    (root / "train-annotations-bbox.csv").write_bytes(
        (root / "train-annotations-bbox.csv").read_bytes() + b"\xff,,,,,,,,,,,,\n"
    )
    readings = collect(open_open_images(root))
    assert codes(readings) == {
        "bad_encoding": 1,
        "bad_number": 2,
        "bad_record": 2,
        "bad_text": 1,
        "image_missing": 1,
        "path_escape": 1,
    }


def test_one_of_several_splits_has_to_be_selected(tmp_path: Path) -> None:
    _write(tmp_path, _row("/m/3"))
    (tmp_path / "oidv6-validation-annotations-bbox.csv").write_text(TITLE + "\n")
    with pytest.raises(AnnotationError, match=r"boxes of \['train', 'validation'\]; say which"):
        open_open_images(tmp_path)
    assert open_open_images(tmp_path, split="validation").labels is None
    alone = open_open_images(tmp_path / "train-annotations-bbox.csv")
    assert (alone.split, len(samples(alone))) == ("train", 1)


def test_invalid_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"tables of boxes of \[\]"):
        open_open_images(tmp_path)
    _write(tmp_path, title="ImageID,LabelName")
    with pytest.raises(AnnotationError, match=r"expected columns .*, got "):
        list(open_open_images(tmp_path).parts())
    (tmp_path / "train-annotations-bbox.csv").write_text("")
    with pytest.raises(AnnotationError, match="got nothing"):
        list(open_open_images(tmp_path).parts())
    deep: Any = {"LabelName": "/m/x"}
    for number in range(40):
        deep = {"LabelName": f"/m/{number}", "Subcategory": [deep]}
    for tree, message in (
        (deep, "nested more than 32"),
        ([], "no hierarchy"),
        ({}, "no hierarchy"),
    ):
        (tmp_path / "bbox_labels_600_hierarchy.json").write_text(json.dumps(tree))
        with pytest.raises(AnnotationError, match=message):
            open_open_images(tmp_path)
    (tmp_path / "oidv7-class-descriptions-boxable.csv").write_text("/m/1,A,B\n")
    with pytest.raises(AnnotationError, match="row 1: 3 cells, expected 2"):
        open_open_images(tmp_path)
    (tmp_path / "oidv7-class-descriptions-boxable.csv").write_text("\n")
    with pytest.raises(AnnotationError, match="expected labels with names, got nothing"):
        open_open_images(tmp_path)
    (tmp_path / "oidv7-class-descriptions-boxable.csv").unlink()
    with pytest.raises(AnnotationError, match=r"expected class-descriptions-boxable\.csv"):
        open_open_images(tmp_path)

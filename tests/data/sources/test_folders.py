import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.sources.reading import codes, collect, notes, samples, write_json
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deixis.data.sources.folders import (
    SegmentClass,
    open_ade20k,
    open_cityscapes,
    read_classes,
)
from deixis.errors import AnnotationError
from deixis.geometry import Box, ImageSize, Mask

TABLE = "Idx\tRatio\tTrain\tVal\tStuff\tName\n1\t0.1\t9\t9\t1\twall\n2\t0.1\t9\t9\t0\tbuilding, edifice\n"
INDICES = np.array([[0, 1, 1], [0, 2, 255]], np.uint8)


def _ade(
    root: Path, *, split: str = "validation", classes: str = TABLE, **pictures: np.ndarray
) -> Path:
    for folder in ("images", "annotations"):
        (root / folder / split).mkdir(parents=True, exist_ok=True)
    for name, indices in pictures.items():
        Image.fromarray(indices).save(root / "annotations" / split / f"{name}.png")
        height, width = indices.shape[:2]
        Image.new("RGB", (width, height)).save(root / "images" / split / f"{name}.jpg")
    (root / "objectInfo150.txt").write_text(classes)
    return root


def test_each_class_is_one_instance(tmp_path: Path) -> None:
    (sample,) = samples(open_ade20k(_ade(tmp_path, ADE_val_1=INDICES), split="val")).values()
    assert [(i.category, i.attributes, i.crowd, i.box) for i in sample.instances] == [
        ("wall", ("stuff",), False, Box(1, 0, 3, 1)),
        # the buildings that there are, one or more
        ("building", (), True, Box(1, 1, 2, 2)),
    ]
    assert [one.mask for one in sample.instances] == [Mask(INDICES == 1), Mask(INDICES == 2)]
    assert sample.image == tmp_path / "images" / "validation" / "ADE_val_1.jpg"
    assert (sample.size, sample.split, sample.exhaustive) == (ImageSize(2, 3), "val", True)


def test_palettes_and_other_lists_of_classes_are_read(tmp_path: Path) -> None:
    root = _ade(tmp_path, split="", classes="", a=INDICES)
    image = Image.fromarray(INDICES).convert("P")
    image.putpalette(bytes(range(256)) * 3)
    image.save(root / "annotations" / "a.png")
    (root / "classes.txt").write_text("wall;partition\r\n\r\nbuilding\r\n")
    source = open_ade20k(root, classes=root / "classes.txt")
    (sample,) = samples(source).values()
    assert [(one.category, one.crowd) for one in sample.instances] == [
        ("wall", True),
        ("building", True),
    ]
    assert Path(source.files[0]).name == "classes.txt"


def test_lists_of_classes_are_tables_or_lines(tmp_path: Path) -> None:
    path = tmp_path / "list"
    for text, expected in (
        (TABLE, {1: SegmentClass("wall", True), 2: SegmentClass("building", False)}),
        ("Idx,Ratio,Stuff,Name\n3,0.1,1,sky\n", {3: SegmentClass("sky", True)}),
        ("Idx\tRatio\tName\n3\t0.1\tsky    \n", {3: SegmentClass("sky", None)}),
        ("wall\nsky, heaven\n", {1: SegmentClass("wall"), 2: SegmentClass("sky")}),
    ):
        path.write_text(text)
        assert read_classes(path) == expected
    for text, reason in (
        ("", "got nothing"),
        ("Idx\tRatio\n1\t2\n", "column Name"),
        ("Idx\tName\nx\twall\n", "a number and a name"),
        ("Idx\tName\n1\t \n", "a number and a name"),
        ("Idx\tName\n\uff11\twall\n", "a number and a name"),
    ):
        path.write_text(text)
        with pytest.raises(AnnotationError, match=reason):
            read_classes(path)
    with pytest.raises(AnnotationError, match="does not exist"):
        read_classes(tmp_path / "none")


def test_an_index_without_a_class_is_a_problem(tmp_path: Path) -> None:
    readings = collect(open_ade20k(_ade(tmp_path, a=INDICES + 2, b=INDICES), split="val"))
    assert codes(readings) == {"unknown_category": 2}
    sample = readings["a"].sample
    assert sample is not None
    assert [one.category for one in sample.instances] == ["wall", "building"]
    assert not sample.exhaustive


def test_damaged_and_missing_index_pictures_are_problems(tmp_path: Path) -> None:
    root = _ade(tmp_path, a=INDICES, b=INDICES, c=INDICES)
    folder = root / "annotations" / "validation"
    Image.new("RGB", (3, 2)).save(folder / "a.png")
    (folder / "b.png").unlink()
    (root / "images" / "validation" / "c.jpg").unlink()
    (folder / os.fsdecode(b"\xff.png")).write_bytes(b"")
    readings = collect(open_ade20k(root, split="val"))
    assert codes(readings) == {
        "mask_damaged": 1,
        "unknown_annotation": 1,
        "image_missing": 1,
        "bad_encoding": 1,
    }


def test_folders_of_index_pictures_are_found_or_named(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="does not exist"):
        open_ade20k(tmp_path)
    root = _ade(tmp_path, a=INDICES)
    with pytest.raises(AnnotationError, match=r"has splits \['validation'\]; say which"):
        open_ade20k(root)
    with pytest.raises(AnnotationError, match="training: does not exist"):
        open_ade20k(root, split="train")
    (root / "objectInfo150.txt").unlink()
    with pytest.raises(AnnotationError, match=r"objectInfo150\.txt: does not exist"):
        open_ade20k(root, split="val")


def _polygon(label: Any, *points: tuple[Any, Any], **more: Any) -> dict[str, Any]:
    return {"label": label, "polygon": [list(point) for point in points], **more}


def _rectangle(label: Any, x1: int, y1: int, x2: int, y2: int, **more: Any) -> dict[str, Any]:
    """As the scripts fill polygons: the last row and column included."""
    return _polygon(label, (x1, y1), (x2, y1), (x2, y2), (x1, y2), **more)


def _city(root: Path, *objects: Any, size: tuple[Any, Any] = (20, 10)) -> Path:
    name = "aachen/aachen_000000_000019"
    content = {"imgWidth": size[0], "imgHeight": size[1], "objects": list(objects)}
    write_json(root / "gtFine" / "train" / f"{name}_gtFine_polygons.json", content)
    return root


def test_later_polygons_hide_earlier_ones(tmp_path: Path) -> None:
    root = _city(
        tmp_path,
        _rectangle("road", 0, 0, 19, 9),
        _rectangle("car", 2, 2, 9, 6),
        _rectangle("car", 8, 2, 12, 6),
        _rectangle("persongroup", 0, 8, 3, 9),
        _rectangle("polegroup", 15, 0, 15, 9),
        _rectangle("ego vehicle", 0, 9, 19, 9),
        _rectangle("dog", 18, 0, 19, 1, deleted=1),
    )
    (sample,) = samples(open_cityscapes(root, split="train")).values()
    assert [(i.category, i.attributes, i.crowd, i.box) for i in sample.instances] == [
        ("road", ("stuff",), False, Box(0, 0, 20, 9)),
        ("car", (), False, Box(2, 2, 8, 7)),
        ("car", (), False, Box(8, 2, 13, 7)),
        ("person", (), True, Box(0, 8, 4, 9)),
        ("pole", ("stuff",), False, Box(15, 0, 16, 9)),
    ]
    masks = [one.mask.array for one in sample.instances if one.mask is not None]
    assert np.sum(masks, axis=0).max() == 1
    # all but what the car that took the picture hides
    assert np.sum(masks) == 20 * 9
    picture = "aachen/aachen_000000_000019_leftImg8bit.png"
    assert sample.image == tmp_path / "leftImg8bit" / "train" / picture
    assert (sample.size, sample.exhaustive) == (ImageSize(10, 20), True)
    assert sample.id == "cityscapes/aachen/aachen_000000_000019"


def test_a_hidden_polygon_is_counted_and_one_outside_is_cut(tmp_path: Path) -> None:
    root = _city(tmp_path, _rectangle("car", 2, 2, 5, 5), _rectangle("bus", -3, -3, 25, 14))
    readings = collect(open_cityscapes(root, split="train"))
    assert notes(readings) == {"hidden_polygon": 1}
    (reading,) = readings.values()
    assert reading.sample is not None
    (bus,) = reading.sample.instances
    assert bus.box == Box(0, 0, 20, 10)


COORDINATES = st.tuples(st.integers(-5, 45), st.integers(-5, 25))


@given(
    polygons=st.lists(
        st.tuples(
            st.sampled_from(["car", "road", "static", "cargroup"]),
            st.lists(COORDINATES, min_size=3, max_size=6),
        ),
        max_size=6,
    )
)
def test_every_pixel_belongs_to_one_instance_at_most(
    tmp_path_factory: pytest.TempPathFactory,
    polygons: list[tuple[str, list[tuple[int, int]]]],
) -> None:
    root = _city(
        tmp_path_factory.mktemp("city"),
        *[_polygon(label, *points) for label, points in polygons],
        size=(40, 20),
    )
    (sample,) = samples(open_cityscapes(root, split="train")).values()
    covered = np.zeros((20, 40), np.int64)
    for instance in sample.instances:
        assert instance.mask is not None
        assert instance.mask.to_box() == instance.box
        covered += instance.mask.array
    assert covered.max(initial=0) <= 1


@pytest.mark.parametrize(
    ("thing", "code"),
    [
        ("car", "bad_record"),
        ({"label": "car"}, "bad_record"),
        (_rectangle("", 1, 1, 2, 2), "bad_text"),
        (_rectangle(None, 1, 1, 2, 2), "bad_record"),
        (_polygon("car", (1, 1)), "mask_damaged"),
        (_polygon("car", (1, math.nan), (2, 2), (3, 1)), "bad_number"),
        (_polygon("car", (1, math.inf), (2, 2), (3, 1)), "bad_number"),
        (_polygon("car", (1, "2"), (2, 2), (3, 1)), "bad_number"),
        (_polygon("car", (1e9, 1), (2, 2), (3, 1)), "mask_damaged"),
        (_polygon("car", *[(1, 1)] * 10_001), "mask_damaged"),
        ({"label": "car", "polygon": [[1, 2, 3]] * 3}, "mask_damaged"),
        ({"label": "car", "polygon": [1, 2, 3]}, "bad_record"),
        (_rectangle("car", 1, 1, 2, 2, deleted="no"), "bad_number"),
    ],
)
def test_a_polygon_that_cannot_be_used_is_left_out(tmp_path: Path, thing: Any, code: str) -> None:
    root = _city(tmp_path, _rectangle("road", 0, 0, 19, 9), thing)
    readings = collect(open_cityscapes(root, split="train"))
    assert codes(readings) == {code: 1}
    (reading,) = readings.values()
    assert reading.problems[0].place.endswith("object 1")
    assert reading.sample is not None
    assert (len(reading.sample.instances), reading.sample.exhaustive) == (1, False)


@pytest.mark.parametrize(
    ("size", "code"),
    [
        ((0, 10), "bad_number"),
        ((-1, 10), "bad_number"),
        ((None, 10), "bad_number"),
        ((10_000, 10_000), "bad_number"),
        ((2**24, 2**24), "bad_number"),
    ],
)
def test_a_size_that_no_picture_has_is_a_problem(
    tmp_path: Path, size: tuple[Any, Any], code: str
) -> None:
    readings = collect(open_cityscapes(_city(tmp_path, size=size), split="train"))
    assert codes(readings) == {code: 1}


def test_damaged_polygon_files_are_problems(tmp_path: Path) -> None:
    root = _city(tmp_path)
    folder = root / "gtFine" / "train" / "aachen"
    (folder / "cut_gtFine_polygons.json").write_text('{"imgWidth": 5')
    (folder / "deep_gtFine_polygons.json").write_text("[" * 100_000)
    (folder / "folder_gtFine_polygons.json").mkdir()
    (folder / os.fsdecode(b"\xff_gtFine_polygons.json")).write_text("{}")
    write_json(
        folder / "many_gtFine_polygons.json",
        {"imgWidth": 5, "imgHeight": 5, "objects": [1] * 10_001},
    )
    readings = collect(open_cityscapes(root, split="train"))
    assert codes(readings) == {
        "bad_json": 2,
        "unknown_annotation": 1,
        "bad_encoding": 1,
        "bad_number": 1,
    }


def test_folders_of_cityscapes_are_found_or_named(tmp_path: Path) -> None:
    root = _city(tmp_path)
    with pytest.raises(AnnotationError, match=r"has splits \['train'\]; say which"):
        open_cityscapes(root)
    with pytest.raises(AnnotationError, match="gtCoarse: expected a folder for each split"):
        open_cityscapes(root, split="train", annotations="gtCoarse")
    source = open_cityscapes(root, split="train")
    assert [Path(name).name for name in source.files] == ["aachen"]

from pathlib import Path

import pytest
from data.sources.pictures import picture
from data.sources.reading import codes, collect, notes, samples

from deixis.data.sources import open_source
from deixis.data.sources.dota import open_dota
from deixis.errors import AnnotationError
from deixis.geometry import Box, OrientedBox
from deixis.structures import Instance

ROW = "20.0 10.0 30.0 20.0 20.0 30.0 10.0 20.0 large-vehicle 0\n"
HEADER = "imagesource:GoogleEarth\ngsd:0.146343590398\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    picture(tmp_path / "images" / "P0003.png")
    (tmp_path / "labelTxt").mkdir()
    return tmp_path


def _write(root: Path, text: str, name: str = "P0003") -> None:
    (root / "labelTxt" / f"{name}.txt").write_bytes(text.encode())


def test_rows_are_turned_boxes_and_keep_their_corners(root: Path) -> None:
    _write(root, HEADER + ROW + "1 1 9 1 9 9 1 9 ship 1\r\n1,1,5,1,5,5,1,5,ship\n\n")
    sample = samples(open_dota(root))["P0003"]
    first, second, third = sample.instances
    corners = ((20, 10), (30, 20), (20, 30), (10, 20))
    assert first == Instance("large vehicle", Box(10, 10, 30, 30), oriented=OrientedBox(corners))
    assert second.attributes == ("difficult",)
    assert third.box == Box(1, 1, 5, 5)
    assert sample.exhaustive
    assert sample.image == root / "images" / "P0003.png"


def test_corners_outside_the_picture_are_kept_and_the_box_is_cut(root: Path) -> None:
    _write(root, "\ufeff" + HEADER + ROW.replace("20.0 10.0", "20.0 -30.0", 1))
    readings = collect(open_dota(root))
    assert notes(readings) == {"box_clipped": 1}
    sample = readings["P0003"].sample
    assert sample is not None
    corners = ((20, -30), (30, 20), (20, 30), (10, 20))
    assert sample.instances == (
        Instance("large vehicle", Box(10, 0, 30, 30), oriented=OrientedBox(corners)),
    )


def test_a_picture_without_rows_has_no_instances(root: Path) -> None:
    _write(root, HEADER)
    sample = samples(open_dota(root))["P0003"]
    assert (sample.instances, sample.exhaustive) == ((), True)


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ("1 1 9 1 9 9 1 ship 0\n", "bad_number"),
        ("1 1 9 1 ship 0\n", "bad_record"),
        ("1 1 9 1 9 9 1 9 a ship 0 0\n", "bad_record"),
        ("1 1 9 1 9 9 1 x ship 0\n", "bad_number"),
        ("1 1 9 1 9 9 1 nan ship 0\n", "bad_number"),
        ("1 1 9 1 9 9 1 9 ship maybe\n", "bad_number"),
        ("1 1 2 2 3 3 4 4 ship 0\n", "box_degenerate"),
        ("901 1 909 1 909 9 901 9 ship 0\n", "box_outside"),
        ("gsd:0.1\n", "bad_record"),
    ],
)
def test_a_row_that_cannot_be_used_is_left_out(root: Path, row: str, code: str) -> None:
    _write(root, HEADER + row + ROW)
    readings = collect(open_dota(root))
    assert codes(readings) == {code: 1}
    assert readings["P0003"].problems[0].place == "P0003.txt: line 3"
    sample = readings["P0003"].sample
    assert sample is not None
    assert [one.category for one in sample.instances] == ["large vehicle"]
    assert not sample.exhaustive


def test_files_that_cannot_be_used_are_problems(root: Path) -> None:
    _write(root, ROW)
    _write(root, ROW, "P0004")
    (root / "labelTxt" / "P0005.txt").mkdir()
    readings = collect(open_dota(root))
    assert codes(readings) == {"image_missing": 1, "unknown_annotation": 1}
    assert readings["P0003"].sample is not None


def test_splits_have_separate_folders(tmp_path: Path) -> None:
    picture(tmp_path / "val" / "images" / "a.jpg")
    (tmp_path / "val" / "labelTxt-v1.5").mkdir()
    (tmp_path / "val" / "labelTxt-v1.5" / "a.txt").write_text(ROW)
    sample = samples(open_source(f"dota:{tmp_path},split=val").source)["a"]
    assert (sample.image, sample.split) == (tmp_path / "val" / "images" / "a.jpg", "val")
    with pytest.raises(AnnotationError, match=r"has splits \['val'\]; say which, as in dota:PATH"):
        open_dota(tmp_path)
    source = open_dota(
        tmp_path, labels=tmp_path / "val" / "labelTxt-v1.5", images=tmp_path / "val" / "images"
    )
    assert list(samples(source)) == ["a"]


def test_invalid_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="does not exist, expected a folder with labelTxt"):
        open_dota(tmp_path / "none")
    with pytest.raises(AnnotationError, match="expected text files, found none"):
        open_dota(tmp_path)
    with pytest.raises(AnnotationError, match="does not exist, expected a folder of text files"):
        open_dota(tmp_path, labels=tmp_path / "none")

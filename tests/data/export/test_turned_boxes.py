"""Oriented boxes are written and read back unchanged."""

import json
from pathlib import Path

import numpy as np
import pytest
from data.export.exported import export
from data.sources.pictures import picture
from data.sources.reading import codes, collect, samples, write_lines

from deixis.data.build.upright import checked_sample
from deixis.data.export.outlines import smallest_rectangle
from deixis.data.sources.dota import open_dota
from deixis.data.sources.jsonl import JsonLines, open_jsonl
from deixis.data.sources.yolo import open_yolo
from deixis.errors import RecipeError
from deixis.geometry import Box, CodedMask, ImageSize, Mask, OrientedBox
from deixis.structures import Instance

ROWS = (
    "0 0.25 0.25 0.5 0.5 0.25 0.75 0.125 0.5",
    "1 0.780811 0.743961 0.782371 0.74686 0.777691 0.752174 0.776131 0.749758",
    # outside the picture
    "0 0.9 0.25 1.2 0.5 0.9 0.75 0.7 0.5",
)


def _yolo(root: Path, *rows: str, more: str = "task: obb\n") -> Path:
    picture(root / "images" / "train" / "a.png", 640, 480)
    (root / "labels" / "train").mkdir(parents=True)
    (root / "labels" / "train" / "a.txt").write_text("".join(f"{row}\n" for row in rows))
    (root / "data.yaml").write_text(f"{more}train: images/train\nnames: [plane, ship]\n")
    return root


def _numbers(path: Path) -> list[list[float]]:
    return [[float(word) for word in row.split()] for row in path.read_text().splitlines()]


@pytest.mark.parametrize("rows", ["auto", "obb"])
def test_rows_of_corners_read_back_unchanged(tmp_path: Path, rows: str) -> None:
    source = open_yolo(_yolo(tmp_path / "in", *ROWS))
    done = export(tmp_path / "out", "yolo", source, rows=rows)
    assert "task: obb" in (done.folder / "data.yaml").read_text()
    written = _numbers(done.folder / "labels" / "train" / "images_train_a.txt")
    read = _numbers(tmp_path / "in" / "labels" / "train" / "a.txt")
    assert np.allclose(written, read, atol=1e-8)
    assert set(done.report.not_carried) <= {"images that are not exhaustive"}
    again = samples(open_yolo(done.folder))["images/train/images_train_a.png"]
    assert again.instances == samples(source)["images/train/a.png"].instances
    assert [one.mask for one in again.instances] == [None] * 3


def test_the_option_declares_rows_that_the_file_does_not(tmp_path: Path) -> None:
    root = _yolo(tmp_path, ROWS[0], more="")
    (one,) = samples(open_yolo(root, rows="obb"))["images/train/a.png"].instances
    corners = ((160, 120), (320, 240), (160, 360), (80, 240))
    assert one == Instance("plane", Box(80, 120, 320, 360), oriented=OrientedBox(corners))
    (other,) = samples(open_yolo(root))["images/train/a.png"].instances
    assert other.oriented is None
    assert other.mask is not None
    with pytest.raises(RecipeError, match="rows 'turned': expected auto or obb"):
        open_yolo(root, rows="turned")


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ("0 0.5 0.5 0.1 0.1", "bad_record"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4 0.4", "box_degenerate"),
        ("0 100 100 200 100 200 200 100 200", "box_layout"),
        ("7 0.25 0.25 0.5 0.5 0.25 0.75 0.125 0.5", "unknown_category"),
    ],
)
def test_invalid_rows_of_turned_boxes_are_problems(tmp_path: Path, row: str, code: str) -> None:
    readings = collect(open_yolo(_yolo(tmp_path, row, ROWS[0])))
    assert codes(readings) == {code: 1}


def test_dota_reads_back_unchanged(tmp_path: Path) -> None:
    rows = (
        "20.5 10 30 20 20 30 10 20 large-vehicle 0",
        "50 -8 66 8 50 20 34 8 small-vehicle 1",
    )
    picture(tmp_path / "in" / "images" / "a.png")
    (tmp_path / "in" / "labelTxt").mkdir()
    (tmp_path / "in" / "labelTxt" / "a.txt").write_text("\n".join(rows))
    source = open_dota(tmp_path / "in")
    done = export(tmp_path / "out", "dota", source)
    text = (done.folder / "all" / "labelTxt" / "a.txt").read_text()
    assert text.splitlines() == ["imagesource:null", "gsd:null", *rows]
    assert (done.folder / "classes.txt").read_text() == "large-vehicle\nsmall-vehicle\n"
    assert done.report.not_carried == {}
    again = open_dota(done.folder, split="all")
    assert samples(again)["a"].instances == samples(source)["a"].instances


def _lines(root: Path, **more: object) -> JsonLines:
    picture(root / "a.png")
    corners = [20, 10, 30, 20, 20, 30, 10, 20]
    return open_jsonl(
        write_lines(
            root / "a.jsonl",
            [{"image": "a.png", "objects": [{"category": "ship", "oriented": corners, **more}]}],
        )
    )


def test_json_lines_keep_turned_boxes(tmp_path: Path) -> None:
    source = _lines(tmp_path / "in")
    done = export(tmp_path / "out", "jsonl", source)
    (line,) = (done.folder / "samples.jsonl").read_text().splitlines()
    (thing,) = json.loads(line)["objects"]
    assert thing["oriented"] == [20, 10, 30, 20, 20, 30, 10, 20]
    assert thing["box"] == [10, 10, 30, 30]
    (one,) = samples(open_jsonl(done.folder / "samples.jsonl", images=tmp_path / "in"))[
        "a.png"
    ].instances
    assert one == samples(source)["a.png"].instances[0]
    assert codes(collect(_lines(tmp_path / "bad", oriented=[1, 2]))) == {"box_degenerate": 1}


def test_corners_of_a_rotated_picture_are_rotated(tmp_path: Path) -> None:
    source = _lines(tmp_path)
    picture(tmp_path / "a.png", orientation=6)
    sample = samples(source)["a.png"]
    turned = checked_sample(sample, root=tmp_path, orientation="auto", notes={})
    assert turned.instances[0].oriented is not None
    assert turned.instances[0].oriented.to_box() == turned.instances[0].box


def test_masks_and_boxes_become_turned_rectangles_and_are_counted(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    things = [
        {"category": "a", "mask": [[20, 10, 30, 20, 20, 30, 10, 20]]},
        {"category": "b", "box": [1, 2, 3, 4]},
    ]
    source = open_jsonl(write_lines(tmp_path / "a.jsonl", [{"image": "a.png", "objects": things}]))
    done = export(tmp_path / "out", "dota", source)
    rows = (done.folder / "all" / "labelTxt" / "a.txt").read_text().splitlines()[2:]
    corners = {tuple(map(float, pair)) for pair in np.array(rows[0].split()[:8]).reshape(4, 2)}
    assert corners == {(20, 10), (30, 20), (20, 30), (10, 20)}
    assert rows[1] == "1 2 3 2 3 4 1 4 b 0"
    assert done.report.not_carried["masks, written as turned rectangles"] == 1
    assert done.report.not_carried["boxes that are not turned, written as four corners"] == 1


def test_the_smallest_rectangle_holds_every_pixel() -> None:
    size = ImageSize(20, 20)
    array = np.eye(20, dtype=np.bool_)
    found = smallest_rectangle(Mask(array))
    assert found is not None
    one = OrientedBox.from_flat(found)
    assert one.area < 20 * 3
    assert one.to_box().x1 <= 0.5
    assert smallest_rectangle(Mask(np.zeros((4, 4), np.bool_))) is None
    line = CodedMask([[1, 1, 5, 5, 9, 9]], size)
    assert smallest_rectangle(line) is None

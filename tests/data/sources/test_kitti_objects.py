from pathlib import Path

import pytest
from data.sources.pictures import picture
from data.sources.reading import codes, collect, notes, samples

from deixis.data.sources import open_source
from deixis.data.sources.kitti_objects import open_kitti_objects
from deixis.errors import AnnotationError
from deixis.geometry import Box, ImageSize
from deixis.structures import Instance

CAR = "Car 0.00 0 -1.58 587.01 173.33 614.12 200.12 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59"
SITTING = "Person_sitting 0.50 2 1.5 1.0 2.0 30.5 40.5 1 1 1 1 1 1 1"
DONT_CARE = "DontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10"
MISC = CAR.replace("Car", "Misc")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    picture(tmp_path / "training" / "image_2" / "000000.png", 1242, 375)
    (tmp_path / "training" / "label_2").mkdir()
    return tmp_path


def _write(root: Path, *rows: str, name: str = "000000") -> None:
    (root / "training" / "label_2" / f"{name}.txt").write_text("".join(f"{r}\n" for r in rows))


def test_rows_are_boxes_with_marks(root: Path) -> None:
    _write(root, CAR, "", SITTING)
    sample = samples(open_kitti_objects(root))["000000"]
    assert sample.instances == (
        Instance("car", Box(587.01, 173.33, 614.12, 200.12)),
        Instance("sitting person", Box(1, 2, 30.5, 40.5), attributes=("truncated", "occluded")),
    )
    assert (sample.size, sample.exhaustive) == (ImageSize(375, 1242), True)
    assert sample.absent_categories == ("van", "truck", "pedestrian", "cyclist", "tram")
    assert sample.image == root / "training" / "image_2" / "000000.png"


@pytest.mark.parametrize(
    ("row", "note"), [(DONT_CARE, "dont_care_regions"), (MISC, "things_of_no_class")]
)
def test_rows_without_a_class_make_the_image_not_exhaustive(
    root: Path, row: str, note: str
) -> None:
    _write(root, CAR, row)
    readings = collect(open_kitti_objects(root))
    assert (codes(readings), notes(readings)) == ({}, {note: 1})
    sample = readings["000000"].sample
    assert sample is not None
    assert (len(sample.instances), sample.exhaustive, sample.absent_categories) == (1, False, ())


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (CAR.replace("Car", "Ship"), "unknown_category"),
        (f"{CAR} 0.9", "bad_record"),
        (f"{DONT_CARE} 0.9", "bad_record"),
        ("Car 0 0", "bad_record"),
        (CAR.replace("587.01", "x"), "bad_number"),
        (CAR.replace("587.01", "nan"), "bad_number"),
        (CAR.replace("587.01", "700"), "box_degenerate"),
        (CAR.replace("614.12", "9999"), "box_outside"),
        (CAR.replace("0.00", "7.0"), "bad_number"),
        (CAR.replace("0.00 0", "0.00 9"), "bad_number"),
    ],
)
def test_a_row_that_cannot_be_used_is_left_out(root: Path, row: str, code: str) -> None:
    _write(root, row, SITTING)
    readings = collect(open_kitti_objects(root))
    assert codes(readings) == {code: 1}
    assert readings["000000"].problems[0].place == "000000.txt: line 1"
    assert readings["000000"].sample is not None
    assert not readings["000000"].sample.exhaustive


def test_splits_are_lists(root: Path) -> None:
    _write(root, CAR)
    _write(root, CAR, name="000001")
    (root / "ImageSets").mkdir()
    (root / "ImageSets" / "val.txt").write_text("000000\n../000000\n000009\n")
    readings = collect(open_source(f"kitti_objects:{root},split=val").source)
    assert codes(readings) == {"path_escape": 1, "unknown_annotation": 1}
    assert readings["000000"].sample is not None
    assert readings["000000"].sample.split == "val"
    assert codes(collect(open_kitti_objects(root))) == {"image_missing": 1}
    with pytest.raises(AnnotationError, match="expected the list of a split"):
        open_kitti_objects(root, split="train")


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="expected a folder of text files"):
        open_kitti_objects(tmp_path)

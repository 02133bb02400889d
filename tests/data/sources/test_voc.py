from pathlib import Path
from typing import Any

import pytest
from data.sources.reading import codes, collect, notes, samples
from hypothesis import given
from hypothesis import strategies as st

from deixis.data.sources.voc import open_voc
from deixis.errors import AnnotationError
from deixis.geometry import Box, ImageSize
from deixis.structures import MARKERS

OBJECT = (
    "<object><name>{name}</name>{more}<bndbox><xmin>{0}</xmin><ymin>{1}</ymin>"
    "<xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>"
)


def _object(*box: object, name: str = "dog", more: str = "") -> str:
    return OBJECT.format(*box, name=name, more=more)


def _xml(*objects: str, size: tuple[object, object] = (20, 10), file: str = "a.jpg") -> str:
    head = f"<filename>{file}</filename>" if file else ""
    head += f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return f"<annotation>{head}{''.join(objects)}</annotation>"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def _write(root: Path, **files: str) -> None:
    for name, text in files.items():
        (root / "Annotations" / f"{name}.xml").write_text(text)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("split", "images", "boxes"), [("train", 205, 2805), ("val", 87, 1138), ("test", 72, 945)]
)
def test_true_files_are_read_without_a_problem(
    shared_data: Path, split: str, images: int, boxes: int
) -> None:
    found = samples(open_voc(shared_data / "bccd" / "BCCD", split=split))
    assert len(found) == images
    assert sum(len(sample.instances) for sample in found.values()) == boxes
    assert {one.category for s in found.values() for one in s.instances} == {
        *("RBC", "WBC", "Platelets")
    }
    assert all(
        sample.exhaustive and sample.size == ImageSize(480, 640) for sample in found.values()
    )
    assert all(isinstance(s.image, Path) and s.image.is_file() for s in found.values())


@pytest.mark.shared_data
def test_true_boxes_are_those_of_the_file(shared_data: Path) -> None:
    sample = samples(open_voc(shared_data / "bccd" / "BCCD", split="val"))["BloodImage_00000"]
    # 260 177 491 376, counted from 1 with the last pixel included
    assert sample.instances[0].box == Box(259, 176, 491, 376)
    assert sample.instances[5].attributes == ("truncated",)
    raw = open_voc(shared_data / "bccd" / "BCCD", split="val", inclusive=False)
    assert samples_of(raw)["BloodImage_00000"] == Box(260, 177, 491, 376)


def samples_of(source: Any) -> dict[str, Box]:
    return {key: one.sample.instances[0].box for key, one in collect(source).items() if one.sample}


@given(
    x=st.integers(1, 20), y=st.integers(1, 10), width=st.integers(0, 9), height=st.integers(0, 9)
)
def test_inclusive_boxes_hold_their_last_pixel(
    tmp_path_factory: pytest.TempPathFactory, x: int, y: int, width: int, height: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "voc"
    folder.mkdir(exist_ok=True)
    right, below = min(x + width, 20), min(y + height, 10)
    (folder / "a.xml").write_text(_xml(_object(x, y, right, below)))
    if (x, y, right, below) == (1, 1, 1, 1):
        return
    (instance,) = samples(open_voc(folder))["a"].instances
    assert instance.box == Box(x - 1, y - 1, right, below)
    assert instance.box.area == (right - x + 1) * (below - y + 1)


def test_flags_become_markers_and_parts_are_passed_over(root: Path) -> None:
    flags = "<truncated>1</truncated><difficult>1</difficult><occluded>0</occluded>"
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    _write(root, a=_xml(_object(1, 1, 9, 9, more=flags), _object("2.5", 1, 9, 9, more=part)))
    first, second = samples(open_voc(root))["a"].instances
    assert first.attributes == ("difficult", "truncated")
    assert set(first.attributes) <= set(MARKERS)
    assert second.box == Box(1.5, 0, 9, 9)
    assert second.category == "dog"


def test_a_coordinate_of_zero_is_clipped_and_counted(root: Path) -> None:
    _write(root, a=_xml(_object(0, 0, 20, 10)))
    readings = collect(open_voc(root))
    assert codes(readings) == {}
    assert notes(readings) == {"box_clipped": 1}
    assert readings["a"].sample is not None
    assert readings["a"].sample.instances[0].box == Box(0, 0, 20, 10)


def test_a_missing_file_name_is_that_of_the_annotation_file(root: Path) -> None:
    _write(root, b=_xml(file=""))
    assert samples(open_voc(root))["b"].image == root / "JPEGImages" / "b.jpg"


def test_splits_are_lists_and_one_has_to_be_named(root: Path) -> None:
    _write(root, a=_xml(), b=_xml())
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\r\n\nb\n")
    (root / "ImageSets" / "Main" / "val.txt").write_text("b")
    (root / "ImageSets" / "Main" / "dog_val.txt").write_text("b -1\n")
    assert list(samples(open_voc(root, split="train"))) == ["a", "b"]
    source = open_voc(root, split="val")
    assert list(samples(source)) == ["b"]
    assert samples(source)["b"].split == "val"
    assert [Path(name).name for name in source.files] == ["val.txt", "Annotations"]
    for split in ("", "test"):
        with pytest.raises(AnnotationError, match=r"has splits \['train', 'val'\]; say which"):
            open_voc(root, split=split)


def test_hostile_lists_are_problems(root: Path) -> None:
    _write(root, a=_xml())
    listing = root / "ImageSets" / "Main" / "train.txt"
    listing.write_bytes(b"a\na\n../../secret\n/etc/passwd\nmissing\n\xff\nA\x00B\n")
    readings = collect(open_voc(root, split="train"))
    assert codes(readings) == {
        "duplicate_image": 1,
        "path_escape": 2,
        "unknown_annotation": 1,
        "bad_encoding": 1,
        "bad_text": 1,
    }
    assert all(reading.sample is None for reading in readings.values())
    listing.write_text("a -1\n")
    with pytest.raises(AnnotationError, match="line 1: expected one name per line, got a list"):
        collect(open_voc(root, split="train"))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "bad_xml"),
        ("<annotation>", "bad_xml"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotation/>', "bad_xml"),
        ("<annotation/>", "bad_record"),
        (_xml(size=("0", "10")), "bad_number"),
        (_xml(size=("-5", "10")), "bad_number"),
        (_xml(size=("9.5", "10")), "bad_number"),
        (_xml(size=("99999999", "99999999")), "bad_number"),
        (_xml(size=("x", "10")), "bad_number"),
        (_xml(file="../a.jpg"), "path_escape"),
        (_xml(file="/etc/passwd"), "path_escape"),
        (_xml(file=" "), "bad_text"),
        (_xml() + "x", "bad_xml"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_problem(root: Path, text: str, code: str) -> None:
    _write(root, a=text, good=_xml(_object(1, 1, 5, 5)))
    readings = collect(open_voc(root))
    assert codes(readings) == {code: 1}
    assert readings["a"].sample is None
    assert readings["good"].sample is not None


@pytest.mark.parametrize(
    ("thing", "code"),
    [
        (_object(5, 5, 4, 9), "box_degenerate"),
        (_object(5, 5, 3, 9), "box_degenerate"),
        (_object(5, 5, 99, 9), "box_outside"),
        (_object(-9, 5, 9, 9), "box_outside"),
        (_object("nan", 5, 9, 9), "bad_number"),
        (_object("1e999", 5, 9, 9), "bad_number"),
        (_object("", 5, 9, 9), "bad_text"),
        (_object(1, 1, 9, 9, name=""), "bad_text"),
        ("<object><name>dog</name></object>", "bad_record"),
        ("<object><name>dog</name><bndbox><xmin>1</xmin></bndbox></object>", "bad_record"),
        (_object(1, 1, 9, 9, more="<difficult>maybe</difficult>"), "bad_number"),
        (_object(1, 1, 9, 9, more="<name>cat</name>"), "bad_record"),
    ],
)
def test_an_object_that_cannot_be_used_is_left_out(root: Path, thing: str, code: str) -> None:
    _write(root, a=_xml(_object(1, 1, 5, 5), thing, _object(2, 2, 5, 5)))
    readings = collect(open_voc(root))
    assert codes(readings) == {code: 1}
    assert readings["a"].problems[0].place == "a.xml: object 1"
    sample = readings["a"].sample
    assert sample is not None
    assert [one.box for one in sample.instances] == [Box(0, 0, 5, 5), Box(1, 1, 5, 5)]
    assert not sample.exhaustive


def test_invalid_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="does not exist"):
        open_voc(tmp_path / "none")
    (tmp_path / "VOC2007").mkdir()
    with pytest.raises(
        AnnotationError, match=r"expected a folder Annotations, found \['VOC2007'\]"
    ):
        open_voc(tmp_path)

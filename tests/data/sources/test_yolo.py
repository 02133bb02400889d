from pathlib import Path

import numpy as np
import pytest
from data.sources.pictures import picture
from data.sources.reading import codes, collect, notes, samples
from hypothesis import given
from hypothesis import strategies as st

from deixis.data.sources.yolo import open_yolo
from deixis.errors import AnnotationError
from deixis.geometry import COCO_KEYPOINTS, Box, ImageSize, Mask

NAMES = "names:\n  0: dog\n  1: traffic_light\n"


def _dataset(
    root: Path,
    rows: str | bytes | None = "",
    config: str = NAMES,
    size: tuple[int, int] = (64, 48),
) -> Path:
    root.mkdir(exist_ok=True)
    (root / "data.yaml").write_text(f"train: images/train\nval: images/train\n{config}")
    picture(root / "images" / "train" / "a.png", *size)
    (root / "labels" / "train").mkdir(parents=True)
    if rows is not None:
        data = rows.encode() if isinstance(rows, str) else rows
        (root / "labels" / "train" / "a.txt").write_bytes(data)
    return root


def test_boxes_are_fractions_of_the_sides(tmp_path: Path) -> None:
    source = open_yolo(_dataset(tmp_path, "1 0.5 0.5 0.25 0.5\n\n0 0.0625 0.5 0.125 1\n"))
    assert (source.split, source.files[0]) == ("train", str(tmp_path / "data.yaml"))
    sample = samples(source)["images/train/a.png"]
    assert [one.category for one in sample.instances] == ["traffic light", "dog"]
    assert [one.box for one in sample.instances] == [Box(24, 12, 40, 36), Box(0, 0, 8, 48)]
    assert (sample.size, sample.exhaustive, sample.split) == (ImageSize(48, 64), True, "train")
    assert sample.image == tmp_path / "images" / "train" / "a.png"


@given(
    x1=st.integers(0, 63_000),
    y1=st.integers(0, 47_000),
    width=st.integers(1, 64_000),
    height=st.integers(1, 48_000),
    digits=st.sampled_from([6, 12]),
)
def test_fractions_become_pixels_as_good_as_their_digits(
    tmp_path_factory: pytest.TempPathFactory,
    x1: int,
    y1: int,
    width: int,
    height: int,
    digits: int,
) -> None:
    # in thousandths of a pixel
    x2, y2 = min(x1 + width, 64_000), min(y1 + height, 48_000)
    true = np.array((x1, y1, x2, y2)) / 1000
    shares = [(true[0] + true[2]) / 128, (true[1] + true[3]) / 96]
    shares += [(true[2] - true[0]) / 64, (true[3] - true[1]) / 48]
    folder = tmp_path_factory.getbasetemp() / "yolo"
    if not folder.exists():
        _dataset(folder)
    row = " ".join(f"{share:.{digits}f}" for share in shares)
    (folder / "labels" / "train" / "a.txt").write_text(f"0 {row}\n")
    reading = collect(open_yolo(folder))["images/train/a.png"]
    assert reading.sample is not None
    if digits == 12:
        (instance,) = reading.sample.instances
        assert instance.box == Box(*true.tolist())
    elif reading.sample.instances:
        found = reading.sample.instances[0].box.as_array()
        assert np.abs(found - true).max() <= 1.5 * 64 * 0.5e-6 + 1e-6
    else:
        assert codes({"": reading}) == {"box_degenerate": 1}


def test_polygons_are_masks_with_the_box_around_them(tmp_path: Path) -> None:
    row = "0 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75"
    (instance,) = samples(open_yolo(_dataset(tmp_path, row)))["images/train/a.png"].instances
    assert instance.box == Box(16, 12, 48, 36)
    assert instance.mask == Mask.from_box(Box(16, 12, 48, 36), ImageSize(48, 64))


def test_rows_of_keypoints_have_all_columns(tmp_path: Path) -> None:
    seen = " ".join(["0.5 0.25 2", "0.25 0.5 1", *["0 0 0"] * 15])
    unseen = " ".join(["0 0 0"] * 17)
    rows = f"0 0.5 0.5 1 1 {seen}\n1 0.5 0.5 1 1 {unseen}\n0 0.5 0.5 1 1\n0 0.5 0.5 1 1 {seen} 1\n"
    source = open_yolo(_dataset(tmp_path, rows, f"kpt_shape: [17, 3]\n{NAMES}"))
    readings = collect(source)
    assert codes(readings) == {"keypoints_damaged": 2}
    sample = readings["images/train/a.png"].sample
    assert sample is not None
    first, second = sample.instances
    assert first.keypoints is not None
    assert first.keypoints.names == COCO_KEYPOINTS
    assert first.keypoints.positions[:2].tolist() == [[32, 12], [16, 24]]
    assert first.keypoints.visibility[:3].tolist() == [2, 1, 0]
    assert second.keypoints is None


def test_keypoints_of_two_numbers_are_visible(tmp_path: Path) -> None:
    config = f"kpt_shape: [2, 2]\nkpt_names:\n  0: [head, tail]\n  1: [head, tail]\n{NAMES}"
    source = open_yolo(_dataset(tmp_path, "0 0.5 0.5 1 1 0.5 0.5 0 0", config))
    (instance,) = samples(source)["images/train/a.png"].instances
    assert instance.keypoints is not None
    assert instance.keypoints.names == ("head", "tail")
    assert instance.keypoints.visibility.tolist() == [2, 0]


def test_a_picture_without_rows_has_no_instances(tmp_path: Path) -> None:
    sample = samples(open_yolo(_dataset(tmp_path, None)))["images/train/a.png"]
    assert sample.instances == ()
    assert sample.exhaustive


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ("7 0.5 0.5 0.5 0.5", "unknown_category"),
        ("-1 0.5 0.5 0.5 0.5", "unknown_category"),
        ("0.5 0.5 0.5 0.5 0.5", "unknown_category"),
        ("dog 0.5 0.5 0.5 0.5", "bad_number"),
        ("0 0.5 0.5 0.5", "bad_record"),
        ("0 0.5 0.5 0.5 0.5 0.9", "bad_record"),
        ("0", "bad_record"),
        ("0 0.5 0.5 0.5 0.5 0.5 0.5 0.5", "bad_record"),
        ("0 nan 0.5 0.5 0.5", "bad_number"),
        ("0 1e999 0.5 0.5 0.5", "bad_number"),
        ("0 0x1p3 0.5 0.5 0.5", "bad_number"),
        ("0 1_0 0.5 0.5 0.5", "bad_number"),
        ("0 \u0660.5 0.5 0.5 0.5", "bad_number"),
        (f"0 0.{'5' * 99} 0.5 0.5 0.5", "bad_number"),
        ("0 320 240 64 48", "box_layout"),
        ("0 0.5 0.5 0 0.5", "box_degenerate"),
        ("0 0.5 0.5 -0.5 0.5", "box_layout"),
        ("0 0.9 0.5 0.5 0.5", "box_outside"),
        ("0 12 10 30 10 30 40", "box_layout"),
        ("0 0.5 0.5 0.5 0.5 0.5 0.5", "box_degenerate"),
        (b"\xff\xfe 0.5 0.5 0.5 0.5", "bad_number"),
    ],
)
def test_a_row_that_cannot_be_used_is_left_out(tmp_path: Path, row: str | bytes, code: str) -> None:
    good, other = b"0 0.5 0.5 0.25 0.5\n", b"1 0.5 0.5 0.25 0.5"
    data = row.encode() if isinstance(row, str) else row
    readings = collect(open_yolo(_dataset(tmp_path, good + data + b"\n" + other)))
    assert codes(readings) == {code: 1}
    reading = readings["images/train/a.png"]
    assert reading.problems[0].place == "a.txt: line 2"
    assert reading.sample is not None
    assert [one.box for one in reading.sample.instances] == [Box(24, 12, 40, 36)] * 2


def test_a_box_that_is_rounded_over_the_edge_is_clipped_and_counted(tmp_path: Path) -> None:
    readings = collect(open_yolo(_dataset(tmp_path, "0 0.5 0.5 1.001 1")))
    assert notes(readings) == {"box_clipped": 1}
    sample = readings["images/train/a.png"].sample
    assert sample is not None
    assert sample.instances[0].box == Box(0, 0, 64, 48)


_KEYPOINT = "kpt_shape: [1, 3]\n" + NAMES
_OBB = "task: obb\n" + NAMES


@pytest.mark.parametrize(
    ("row", "config", "code"),
    [
        ("0 0.5 0.5 {} 0.5", NAMES, "box_layout"),
        ("0 0.5 0.5 0.5 {}", NAMES, "box_layout"),
        ("0 0.2 0.2 {} 0.2 0.8 0.8", NAMES, "box_layout"),
        ("0 0.5 0.5 1 1 0.5 {} 2", _KEYPOINT, "keypoints_damaged"),
        ("0 0.5 0.5 {0} 0.5 {0} 0.6 0.5 0.6", _OBB, None),
    ],
)
def test_a_fraction_may_leave_its_side_by_a_hundredth_and_no_more(
    tmp_path: Path, row: str, config: str, code: str | None
) -> None:
    within = codes(collect(open_yolo(_dataset(tmp_path / "a", row.format(1.0099), config))))
    beyond = codes(collect(open_yolo(_dataset(tmp_path / "b", row.format(1.0101), config))))
    assert "box_layout" not in within
    assert "keypoints_damaged" not in within
    assert beyond == ({} if code is None else {code: 1})


@pytest.mark.parametrize(("x", "codes_"), [(-0.0099, {}), (-0.0101, {"box_layout": 1})])
def test_a_fraction_below_zero_is_held_to_the_same_hundredth(
    tmp_path: Path, x: float, codes_: dict[str, int]
) -> None:
    readings = collect(open_yolo(_dataset(tmp_path, f"0 {x} 0.2 0.8 0.2 0.8 0.8")))
    assert codes(readings) == codes_


@pytest.mark.parametrize(
    ("size", "over", "codes_"),
    [
        # a pixel in a small picture, five thousandths of the side in a large one
        ((64, 48), 0.98, {}),
        ((64, 48), 1.02, {"box_outside": 1}),
        ((1000, 48), 4.98, {}),
        ((1000, 48), 5.02, {"box_outside": 1}),
    ],
)
def test_a_box_may_leave_its_picture_by_a_pixel_or_five_thousandths(
    tmp_path: Path, size: tuple[int, int], over: float, codes_: dict[str, int]
) -> None:
    width = size[0]
    for folder, centre in (("right", width - 8 + over), ("left", 8 - over)):
        row = f"0 {centre / width:.9f} 0.5 {16 / width:.9f} 0.5"
        readings = collect(open_yolo(_dataset(tmp_path / folder, row, size=size)))
        assert codes(readings) == codes_
        assert notes(readings) == ({} if codes_ else {"box_clipped": 1})


def test_a_box_within_the_first_pixel_is_valid(tmp_path: Path) -> None:
    row = f"0 {0.5 / 64} {0.5 / 48:.12f} {1 / 64} {1 / 48:.12f}"
    (instance,) = samples(open_yolo(_dataset(tmp_path, row)))["images/train/a.png"].instances
    assert instance.box == Box(0, 0, 1, 1)


def test_rows_without_a_picture_and_pictures_that_are_none_are_problems(tmp_path: Path) -> None:
    root = _dataset(tmp_path)
    (root / "labels" / "train" / "gone.txt").write_text("0 0.5 0.5 1 1\n")
    (root / "images" / "train" / "empty.png").touch()
    (root / "images" / "train" / "text.png").write_text("no picture")
    (root / "labels" / "train" / "b.txt").mkdir()
    picture(root / "images" / "train" / "b.png")
    (root / "images" / "train" / "notes.txt").write_text("passed over")
    assert codes(collect(open_yolo(root))) == {
        "unknown_image": 1,
        "image_empty": 1,
        "image_unreadable": 1,
        "unknown_annotation": 1,
    }


def test_lists_name_pictures_of_the_folder_only(tmp_path: Path) -> None:
    root = _dataset(tmp_path, "0 0.5 0.5 1 1\n", "test: test.txt\n" + NAMES)
    names = ["./images/train/a.png", "../../secret.png", "/etc/passwd", "images/train/a.png"]
    (root / "test.txt").write_text("".join(f"{name}\n" for name in names))
    readings = collect(open_yolo(root, split="test"))
    assert codes(readings) == {"path_escape": 2, "duplicate_image": 1}
    (root / "test.txt").write_text("images/train/a.png\n")
    (sample,) = samples(open_yolo(root, split="test")).values()
    assert sample.split == "test"
    assert len(sample.instances) == 1


@pytest.mark.parametrize("value", ["../images/train", "images/train", "./images/train"])
def test_folders_are_found_in_the_data_set(tmp_path: Path, value: str) -> None:
    root = _dataset(tmp_path, "0 0.5 0.5 1 1")
    (root / "data.yaml").write_text(f"path: /data/coco8\ntrain: {value}\nnames: [dog]\n")
    assert len(samples(open_yolo(root / "data.yaml"))) == 1


@pytest.mark.parametrize(
    "value", ["/etc", "../../etc", "images/nowhere", "C:/images", "[images/train, images/gone]"]
)
def test_folders_outside_are_refused(tmp_path: Path, value: str) -> None:
    root = _dataset(tmp_path)
    (root / "data.yaml").write_text(f"train: {value}\n{NAMES}")
    with pytest.raises(AnnotationError, match=r"has splits \[\] in its folder"):
        open_yolo(root)


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "other" / "a.png")
    root = _dataset(tmp_path / "mine")
    (root / "linked").symlink_to(tmp_path / "other")
    (root / "data.yaml").write_text(f"train: linked\n{NAMES}")
    with pytest.raises(AnnotationError, match="has splits"):
        open_yolo(root)


def test_one_of_several_splits_has_to_be_named(tmp_path: Path) -> None:
    root = _dataset(tmp_path)
    picture(root / "images" / "val" / "b.png")
    (root / "data.yaml").write_text(f"train: images/train\nval: images/val\n{NAMES}")
    with pytest.raises(AnnotationError, match=r"has splits \['train', 'val'\].*say which"):
        open_yolo(root)
    assert list(samples(open_yolo(root, split="val"))) == ["images/val/b.png"]
    with pytest.raises(AnnotationError, match="say which"):
        open_yolo(root, split="test")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("", "names: expected a list"),
        ("names: []\n", "names: expected at least one"),
        ("names: 5\n", "names: expected a list"),
        ("names:\n  a: b\n", "names: expected a number, got 'a'"),
        ("names:\n  99999999: b\n", "names: expected a number"),
        ("names:\n  0: a\n  00: b\n", "each number once"),
        ("names: ['']\n", "expected a text"),
        ("kpt_shape: 17\n" + NAMES, "kpt_shape: expected"),
        ("kpt_shape: [17, 4]\n" + NAMES, "kpt_shape: expected"),
        ("kpt_shape: [0, 3]\n" + NAMES, "expected 1 to 1000 keypoints"),
        ("kpt_shape: [2, 3]\nkpt_names:\n  0: [a, b]\n  1: [b, a]\n" + NAMES, "the same names"),
        ("kpt_shape: [2, 3]\nkpt_names:\n  0: [a]\n" + NAMES, "expected 2 different names"),
        ("names: [[a]]\n", "names: 0: expected a text"),
        ("names: {cat}\n", "names: expected a number, got 'cat'"),
        ("names: {0: {1: x}}\n", "names: 0: expected a text"),
        ("kpt_shape: [[2], 3]\n" + NAMES, "kpt_shape: expected a text"),
        ("kpt_shape: [2, [3]]\n" + NAMES, "kpt_shape: expected"),
        ("kpt_shape: [1, 3]\nkpt_names:\n  0: [[a]]\n" + NAMES, "kpt_names: expected a text"),
        ("train: x\n" + NAMES, "'train': comes twice"),
    ],
)
def test_an_incomplete_configuration_is_refused(tmp_path: Path, config: str, words: str) -> None:
    with pytest.raises(AnnotationError, match=words):
        open_yolo(_dataset(tmp_path, "", config))


ULTRALYTICS = """\
# Sets are folders: images/train, lists: train.txt, or several: [images/a, images/b]
path: pose8  # root
train: images/train  # 4 images (relative to 'path')
val:
  - images/train
test:

# Keypoints
kpt_shape: [2, 3] # number of keypoints, number of dims (2 for x,y or 3 for x,y,visible)
flip_idx: [1, 0]

names: &names
  0: "person"
  1: 'no'
  2: 10_top  # a comment
kpt_names:
  0: &joints
    - nose
    - left_eye
  1: *joints
  2: *joints

download: |
  from pathlib import Path

  # Labels
  dir = Path(yaml["path"])
"""

ROBOFLOW = """\
train: ../train/images
val: ../valid/images
test: ../test/images

nc: 2
names: ['cat, black', "dog: \\"big\\""]

roboflow:
  workspace: a-b
  project: c
  version: 1
  license: CC BY 4.0
  url: https://universe.roboflow.com/a-b/c/dataset/1
"""


def test_the_files_of_ultralytics_are_read(tmp_path: Path) -> None:
    row = "1 0.5 0.5 1 1 0.25 0.25 2 0.75 0.25 2\n"
    root = _dataset(tmp_path, row)
    (root / "data.yaml").write_text(ULTRALYTICS)
    (sample,) = samples(open_yolo(root)).values()
    (instance,) = sample.instances
    assert instance.category == "no"
    assert instance.keypoints is not None
    assert instance.keypoints.names == ("nose", "left_eye")


def test_the_files_of_roboflow_are_read(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "images" / "a.jpg")
    (tmp_path / "train" / "labels").mkdir()
    (tmp_path / "train" / "labels" / "a.txt").write_text("0 0.5 0.5 1 1\n1 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text(ROBOFLOW)
    (sample,) = samples(open_yolo(tmp_path, split="train")).values()
    assert [one.category for one in sample.instances] == ["cat, black", 'dog: "big"']


def test_a_missing_or_strange_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"expected data\.yaml, or one of"):
        open_yolo(tmp_path)
    (tmp_path / "data.yaml").write_bytes(b"\x00\xff\xfe")
    with pytest.raises(AnnotationError, match="YAML: unacceptable character"):
        open_yolo(tmp_path)

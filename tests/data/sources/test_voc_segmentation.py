from pathlib import Path

import numpy as np
import pytest
from data.sources.pictures import picture
from data.sources.reading import codes, collect, notes, samples
from PIL import Image

from deixis.data.sources import open_source
from deixis.data.sources.base import Reading
from deixis.data.sources.voc_segmentation import VOC_CLASSES, open_voc_segmentation
from deixis.errors import AnnotationError
from deixis.geometry import Box

DOG, PERSON = 12, 15


def _segments(path: Path, values: np.ndarray) -> None:
    """A picture of numbers with a palette, as VOC's are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values.astype(np.uint8), mode="P")
    image.putpalette([value for number in range(256) for value in (number, 0, 255 - number)])
    image.save(path)


def _scene() -> tuple[np.ndarray, np.ndarray]:
    """A dog and two people that touch, each with a border of void."""
    classes, objects = np.zeros((40, 60), np.uint8), np.zeros((40, 60), np.uint8)
    for number, name, left in ((1, DOG, 2), (2, PERSON, 22), (3, PERSON, 40)):
        classes[5:25, left : left + 16] = objects[5:25, left : left + 16] = 255
        classes[7:23, left + 2 : left + 14] = name
        objects[7:23, left + 2 : left + 14] = number
    return classes, objects


def _xml(*things: tuple[str, str]) -> str:
    made = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x}</xmin>"
        f"<ymin>6</ymin><xmax>{x + 15}</xmax><ymax>25</ymax></bndbox></object>"
        for (name, difficult), x in zip(things, (3, 23, 41, 3), strict=False)
    )
    return f"<annotation><size><width>60</width><height>40</height></size>{made}</annotation>"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    picture(tmp_path / "JPEGImages" / "a.jpg", 60, 40)
    classes, objects = _scene()
    _segments(tmp_path / "SegmentationClass" / "a.png", classes)
    _segments(tmp_path / "SegmentationObject" / "a.png", objects)
    return tmp_path


def _readings(root: Path) -> dict[str, Reading]:
    return collect(open_voc_segmentation(root))


def test_objects_have_their_pixels_and_the_class_below_them(root: Path) -> None:
    readings = _readings(root)
    assert (codes(readings), notes(readings)) == ({}, {"box_around_mask": 3})
    sample = readings["a"].sample
    assert sample is not None
    assert [(one.category, one.box) for one in sample.instances] == [
        ("dog", Box(4, 7, 16, 23)),
        ("person", Box(24, 7, 36, 23)),
        ("person", Box(42, 7, 54, 23)),
    ]
    assert [one.mask.area for one in sample.instances if one.mask is not None] == [192] * 3
    assert sample.exhaustive
    assert sample.absent_categories == tuple(
        name for name in VOC_CLASSES if name not in {"dog", "person"}
    )
    assert sample.image == root / "JPEGImages" / "a.jpg"


def test_boxes_and_flags_are_those_of_the_file_beside_it(root: Path) -> None:
    (root / "Annotations").mkdir()
    things = (("dog", "0"), ("person", "1"), ("person", "0"), ("diningtable", "0"))
    (root / "Annotations" / "a.xml").write_text(_xml(*things))
    sample = samples(open_voc_segmentation(root))["a"]
    assert [(one.category, one.box) for one in sample.instances] == [
        ("dog", Box(2, 5, 18, 25)),
        ("person", Box(22, 5, 38, 25)),
        ("person", Box(40, 5, 56, 25)),
        ("dining table", Box(2, 5, 18, 25)),
    ]
    assert [one.attributes for one in sample.instances] == [(), ("difficult",), (), ()]
    assert [one.mask is None for one in sample.instances] == [False, False, False, True]


def test_a_file_without_objects_gives_no_boxes(root: Path) -> None:
    (root / "Annotations").mkdir()
    (root / "Annotations" / "a.xml").write_text(_xml(("cat", "0"), ("person", "0")))
    readings = _readings(root)
    assert notes(readings) == {"box_around_mask": 2}
    assert readings["a"].sample is not None
    assert readings["a"].sample.instances[0].box == Box(4, 7, 16, 23)


def test_without_pictures_of_objects_a_class_is_a_crowd(root: Path) -> None:
    (root / "SegmentationObject" / "a.png").unlink()
    (root / "SegmentationObject").rmdir()
    sample = samples(open_voc_segmentation(root))["a"]
    assert [(one.category, one.box, one.crowd) for one in sample.instances] == [
        ("dog", Box(4, 7, 16, 23), True),
        ("person", Box(24, 7, 54, 23), True),
    ]


def test_void_far_from_objects_makes_the_image_not_exhaustive(root: Path) -> None:
    classes, _ = _scene()
    classes[36:, 50:] = 255
    _segments(root / "SegmentationClass" / "a.png", classes)
    readings = _readings(root)
    assert notes(readings)["void_region"] == 1
    sample = readings["a"].sample
    assert sample is not None
    assert (sample.exhaustive, sample.absent_categories) == (False, ())
    _segments(root / "SegmentationClass" / "a.png", np.full((40, 60), 255))
    _segments(root / "SegmentationObject" / "a.png", np.full((40, 60), 255))
    nothing = _readings(root)["a"].sample
    assert nothing is not None
    assert (nothing.instances, nothing.exhaustive) == ((), False)


def test_custom_classes_are_in_a_list_of_labels(root: Path) -> None:
    names = ["# label:color_rgb:parts:actions", "background:0,0,0::"]
    names += [f"class_{number}:1,1,{number}::" for number in range(1, 16)]
    (root / "labelmap.txt").write_text("\n".join(names))
    sample = samples(open_voc_segmentation(root))["a"]
    assert [one.category for one in sample.instances] == ["class 12", "class 15", "class 15"]
    assert sample.absent_categories == ()
    (root / "labelmap.txt").write_text("dog:0,0,0::\n")
    with pytest.raises(AnnotationError, match="expected background and 1 to 254 more classes"):
        open_voc_segmentation(root)


def test_splits_are_lists(root: Path) -> None:
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\n")
    (lists / "val.txt").write_text("../a\nb\na\na\n")
    source = open_source(f"voc_segmentation:{root},split=train").source
    assert samples(source)["a"].split == "train"
    readings = collect(open_voc_segmentation(root, split="val"))
    assert codes(readings) == {"path_escape": 1, "mask_damaged": 1, "duplicate_image": 1}
    with pytest.raises(AnnotationError, match=r"has splits \['train', 'val'\]; say which"):
        open_voc_segmentation(root)


def test_pictures_that_do_not_fit_are_problems(root: Path) -> None:
    classes, objects = _scene()
    _segments(root / "SegmentationObject" / "a.png", objects[:, :30])
    assert codes(_readings(root)) == {"size_mismatch": 1}
    objects[7:23, 24:30] = 1
    _segments(root / "SegmentationObject" / "a.png", objects)
    readings = _readings(root)
    assert codes(readings) == {"mask_damaged": 1}
    assert readings["a"].sample is not None
    assert not readings["a"].sample.exhaustive
    classes[classes == DOG] = 99
    _segments(root / "SegmentationClass" / "a.png", classes)
    _segments(root / "SegmentationObject" / "a.png", _scene()[1])
    assert codes(_readings(root)) == {"unknown_category": 1, "mask_damaged": 1}
    Image.new("RGB", (60, 40)).save(root / "SegmentationClass" / "a.png")
    assert codes(_readings(root)) == {"mask_damaged": 1}
    (root / "Annotations").mkdir()
    _segments(root / "SegmentationClass" / "a.png", _scene()[0])
    (root / "Annotations" / "a.xml").write_text("<annotation>")
    assert codes(_readings(root)) == {"bad_xml": 1}


def test_folders_without_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="expected a folder of pictures of classes"):
        open_voc_segmentation(tmp_path)

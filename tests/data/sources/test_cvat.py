from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.sources.pictures import picture
from data.sources.reading import codes, collect, notes, samples

from deixis.data.sources import open_source
from deixis.data.sources.base import Reading
from deixis.data.sources.cvat import open_cvat
from deixis.errors import AnnotationError
from deixis.geometry import Box, ImageSize, OrientedBox
from deixis.structures import Instance, Sample

LABELS = """<labels>
<label><name>car</name><color>#ff0000</color><type>any</type><attributes>
<attribute><name>color</name><mutable>False</mutable><input_type>select</input_type><values>red</values></attribute>
<attribute><name>parked</name><mutable>True</mutable><input_type>checkbox</input_type></attribute>
<attribute><name>plate</name><mutable>False</mutable><input_type>text</input_type></attribute>
</attributes></label>
<label><name>traffic_light</name><type>rectangle</type><attributes></attributes></label>
<label><name>person</name><type>skeleton</type><attributes></attributes></label>
<label><name>nose</name><type>points</type><attributes></attributes><parent>person</parent></label>
<label><name>night</name><type>tag</type><attributes></attributes></label>
</labels>"""
BOX = '<box label="car" source="manual" occluded="0" xtl="10.00" ytl="20.00" xbr="30.00" ybr="40.00" z_order="0"/>'


def _file(body: str, *, size: str = "", labels: str = LABELS) -> str:
    meta = f"<meta><task><id>7</id><name>t</name>{labels}{size}</task><dumped>x</dumped></meta>"
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{meta}{body}</annotations>'


def _image(*shapes: str, name: str = "a.png", more: str = "") -> str:
    return (
        f'<image id="0" name="{name}" width="64" height="48" {more}>\n{"".join(shapes)}\n</image>'
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    picture(tmp_path / "images" / "a.png")
    return tmp_path


def _readings(root: Path, body: str, **more: Any) -> dict[str, Reading]:
    (root / "annotations.xml").write_text(_file(body, **more))
    return collect(open_cvat(root))


def _read(root: Path, *shapes: str) -> Sample:
    (root / "annotations.xml").write_text(_file(_image(*shapes)))
    return samples(open_cvat(root))["a.png"]


def test_boxes_have_classes_attributes_and_absent_classes(root: Path) -> None:
    attributes = (
        '<attribute name="color">red</attribute><attribute name="parked">true</attribute>'
        '<attribute name="plate">AB 12</attribute>'
    )
    shape = BOX.replace('occluded="0"', 'occluded="1"').replace("/>", f">{attributes}</box>")
    readings = _readings(root, _image(shape))
    sample = readings["a.png"].sample
    assert sample is not None
    words = ("occluded", "red", "parked")
    assert sample.instances == (Instance("car", Box(10, 20, 30, 40), attributes=words),)
    # no image has any of the others: nobody may have looked
    assert sample.absent_categories == ()
    assert (sample.size, sample.exhaustive) == (ImageSize(48, 64), True)
    assert sample.image == root / "images" / "a.png"
    assert notes(readings) == {"attributes_of_other_types": 1}


def test_an_image_without_shapes_lacks_all_labels(root: Path) -> None:
    lights = BOX.replace("car", "traffic_light")
    readings = _readings(root, _image() + _image(BOX, lights, name="b.png"))
    sample = readings["a.png"].sample
    assert sample is not None
    assert (sample.instances, sample.exhaustive) == ((), True)
    assert sample.absent_categories == ("car", "traffic light")


def test_duplicate_boxes_are_one_instance(root: Path) -> None:
    readings = _readings(root, _image(BOX, BOX))
    assert notes(readings) == {"box_twice": 1}
    sample = readings["a.png"].sample
    assert sample is not None
    assert (len(sample.instances), sample.exhaustive) == (1, True)


def test_turned_boxes_keep_their_corners(root: Path) -> None:
    (one,) = _read(root, BOX.replace("z_order", 'rotation="90.00" z_order')).instances
    assert one.oriented == OrientedBox(((30, 20), (30, 40), (10, 40), (10, 20)))
    assert one.box == Box(10, 20, 30, 40)
    (same,) = _read(root, BOX.replace("z_order", 'rotation="360.00" z_order')).instances
    assert same == Instance("car", Box(10, 20, 30, 40))
    (tilted,) = _read(root, BOX.replace("z_order", 'rotation="45" z_order')).instances
    assert tilted.box.x1 == pytest.approx(20 - 10 * 2**0.5)
    assert tilted.box.y2 == pytest.approx(30 + 10 * 2**0.5)


def test_polygons_ellipses_and_masks_have_pixels(root: Path) -> None:
    sample = _read(
        root,
        '<polygon label="car" occluded="0" points="10.00,10.00;20.00,10.00;20.00,30.00" z_order="0"/>',
        '<ellipse label="car" occluded="0" cx="30" cy="20" rx="10" ry="4" rotation="90" z_order="0"/>',
        '<mask label="car" occluded="0" rle="1, 2, 1, 3, 2" left="4" top="6" width="3" height="3" z_order="0"/>',
    )
    polygon, ellipse, mask = sample.instances
    assert polygon.box == Box(10, 10, 20, 30)
    assert ellipse.box.x1 == pytest.approx(26)
    assert ellipse.box.y1 == pytest.approx(10)
    assert ellipse.mask is not None
    assert ellipse.mask.area == pytest.approx(np.pi * 40, rel=0.05)
    assert mask.mask is not None
    expected = [[False, True, True], [False, True, True], [True, False, False]]
    assert mask.mask.array[6:9, 4:7].tolist() == expected
    assert mask.box == Box(4, 6, 7, 9)


SKELETON = (
    '<skeleton label="person" source="manual" z_order="0" {}>'
    '<points label="nose" source="manual" outside="0" occluded="0" points="20.00,12.00"/>'
    '<points label="left_eye" source="manual" outside="0" occluded="1" points="24.00,10.00"/>'
    '<points label="right_eye" source="manual" outside="1" occluded="0" points="1.00,1.00"/>'
    "</skeleton>"
)


def test_skeletons_are_keypoints_of_the_box_of_their_group(root: Path) -> None:
    box = BOX.replace("z_order", 'group_id="2" z_order').replace('"car"', '"person"')
    (one,) = _read(root, SKELETON.format('group_id="2"'), box).instances
    assert one.box == Box(10, 20, 30, 40)
    assert one.keypoints is not None
    assert one.keypoints.visibility[:3].tolist() == [2, 1, 0]
    readings = _readings(root, _image(SKELETON.format("")))
    sample = readings["a.png"].sample
    assert sample is not None
    assert sample.instances[0].box == Box(20, 10, 24, 12)
    assert notes(readings) == {"box_around_keypoints": 1}


@pytest.mark.parametrize(
    "shape",
    [
        '<polyline label="car" occluded="0" points="1,1;5,5" z_order="0"/>',
        '<points label="car" occluded="0" points="1,1" z_order="0"/>',
        '<cuboid label="car" occluded="0" xtl1="1" z_order="0"/>',
        '<tag label="night" source="manual"/>',
    ],
)
def test_other_shapes_are_counted_and_the_image_is_not_exhaustive(root: Path, shape: str) -> None:
    readings = _readings(root, _image(shape, BOX))
    assert (codes(readings), notes(readings)) == ({}, {"shapes_of_other_types": 1})
    sample = readings["a.png"].sample
    assert sample is not None
    assert (sample.exhaustive, sample.absent_categories) == (False, ())


def test_subsets_are_splits_with_separate_folders(root: Path) -> None:
    inner = picture(root / "images" / "Train" / "b.png")
    body = _image(more='subset="Train"') + _image(name="b.png", more='subset="Train" task_id="3"')
    (root / "annotations.xml").write_text(_file(body))
    found = samples(open_source(f"cvat:{root}").source)
    assert {key: (one.image, one.split) for key, one in found.items()} == {
        "Train/a.png": (root / "images" / "a.png", "Train"),
        "Train/b.png": (inner, "Train"),
    }


SIZE = "<original_size><width>64</width><height>48</height></original_size>"


def _track(label: str, *frames: tuple[int, int], kind: str = "box") -> str:
    corners = 'xtl="10" ytl="20" xbr="30" ybr="40"'
    shapes = "".join(
        f'<{kind} frame="{frame}" keyframe="1" outside="{outside}" occluded="0" {corners} z_order="0"/>'
        for frame, outside in frames
    )
    return f'<track id="0" label="{label}" source="manual">{shapes}</track>'


def test_a_video_gives_a_sample_for_each_frame(root: Path) -> None:
    for number in range(3):
        picture(root / "images" / f"frame_{number:06d}.jpg")
    body = _track("car", (0, 0), (1, 0), (2, 1)) + _track("traffic_light", (1, 0), (2, 0))
    (root / "annotations.xml").write_text(_file(body, size=SIZE))
    found = samples(open_cvat(root, split="val"))
    assert {key: [one.category for one in s.instances] for key, s in found.items()} == {
        "0": ["car"],
        "1": ["car", "traffic light"],
        "2": ["traffic light"],
    }
    assert all(one.exhaustive and one.split == "val" for one in found.values())
    assert found["2"].image == root / "images" / "frame_000002.jpg"
    assert found["2"].absent_categories == ("car",)
    named = samples(open_cvat(root, frames="f{}"))
    assert named["2"].image == root / "images" / "f2.png"


def test_frames_between_key_frames_are_not_exhaustive(root: Path) -> None:
    body = _track("car", (0, 0), (3, 0), (4, 1)) + _track("person", *((n, 0) for n in range(5)))
    readings = _readings(root, body, size=SIZE)
    assert notes(readings) == {"frame_between_key_frames": 2}
    complete = {key: one.sample.exhaustive for key, one in readings.items() if one.sample}
    assert complete == {"0": True, "1": False, "2": False, "3": True, "4": True}


def test_a_track_without_an_end_is_missing_after_its_last_frame(root: Path) -> None:
    readings = _readings(root, _track("car", (0, 0)) + _track("person", (0, 0), (7, 1)), size=SIZE)
    seven = readings["7"].sample
    assert seven is not None
    assert (seven.exhaustive, seven.absent_categories) == (False, ())
    assert readings["0"].sample is not None
    assert readings["0"].sample.exhaustive


def test_a_track_that_cannot_be_used_leaves_no_frame_exhaustive(root: Path) -> None:
    readings = _readings(root, _track("", (5, 0)) + _track("car", (0, 0), (1, 1)), size=SIZE)
    assert codes(readings) == {"bad_text": 1}
    assert readings["0"].sample is not None
    assert not readings["0"].sample.exhaustive


def test_skeletons_of_tracks_that_are_outside_are_not_there(root: Path) -> None:
    inside = '<points label="nose" outside="{}" occluded="0" keyframe="1" points="{}"/>'
    shapes = "".join(
        f'<skeleton frame="{frame}" keyframe="1" z_order="0">'
        + inside.format(out, "20,12")
        + inside.format(out, "24,16").replace("nose", "left_eye")
        + "</skeleton>"
        for frame, out in ((0, 0), (1, 1))
    )
    body = f'<track id="0" label="person">{shapes}</track>' + _track("car", (0, 0), (1, 0))
    found = _readings(root, body, size=SIZE)
    counts = {key: len(one.sample.instances) for key, one in found.items() if one.sample}
    assert (counts, codes(found)) == ({"0": 2, "1": 1}, {})


@pytest.mark.parametrize(
    ("shape", "code"),
    [
        ("<star/>", "bad_record"),
        (BOX.replace('"car"', '"ship"'), "unknown_category"),
        (BOX.replace('"car"', '""'), "bad_text"),
        (BOX.replace('xtl="10.00"', ""), "bad_record"),
        (BOX.replace("10.00", "ten"), "bad_number"),
        (BOX.replace("10.00", "nan"), "bad_number"),
        (BOX.replace("10.00", "30.00"), "box_degenerate"),
        (BOX.replace("10.00", "-9"), "box_outside"),
        (BOX.replace("z_order", 'rotation="30" z_order').replace("10.00", "30"), "box_degenerate"),
        (
            BOX.replace("z_order", 'rotation="x" z_order'),
            "bad_number",
        ),
        ('<polygon label="car" points="1,1;5,5"/>', "mask_damaged"),
        ('<polygon label="car" points="1,1;5"/>', "mask_damaged"),
        ('<polygon label="car" points="1,1;5,5;900,1"/>', "box_outside"),
        ('<polygon label="car" points="1,1;9,1;5,1"/>', "box_degenerate"),
        ('<ellipse label="car" cx="9" cy="9" rx="0" ry="3"/>', "box_degenerate"),
        ('<mask label="car" rle="1,2" left="0" top="0" width="3" height="3"/>', "mask_damaged"),
        ('<mask label="car" rle="9" left="0" top="0" width="3" height="3"/>', "mask_empty"),
        ('<mask label="car" rle="-1,10" left="0" top="0" width="3" height="3"/>', "mask_damaged"),
        ('<mask label="car" rle="0,9" left="70" top="0" width="3" height="3"/>', "mask_damaged"),
        ('<mask label="car" rle="0,9" left="0.5" top="0" width="3" height="3"/>', "mask_damaged"),
        ('<mask label="car" rle="0,9" left="0" top="0" width="99999" height="9"/>', "mask_damaged"),
        ('<skeleton label="person"/>', "keypoints_damaged"),
        (SKELETON.format("").replace("left_eye", "nose"), "keypoints_damaged"),
        (SKELETON.format("").replace("24.00,10.00", "900,1"), "keypoints_damaged"),
        (
            SKELETON.format("").replace(
                'label="left_eye" source="manual" outside="0"', 'label="left_eye" outside="1"'
            ),
            "box_degenerate",
        ),
    ],
)
def test_a_shape_that_cannot_be_used_is_left_out(root: Path, shape: str, code: str) -> None:
    readings = _readings(root, _image(shape, BOX))
    assert codes(readings) == {code: 1}
    sample = readings["a.png"].sample
    assert sample is not None
    assert [one.box for one in sample.instances] == [Box(10, 20, 30, 40)]
    assert (sample.exhaustive, sample.absent_categories) == (False, ())


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (_image(name="../a.png"), "path_escape"),
        (_image(name=""), "bad_text"),
        (_image() + _image(), "duplicate_image"),
        (_image().replace('width="64"', 'width="0"'), "bad_number"),
        (_image().replace('width="64"', ""), "bad_record"),
        (_track("car", (0, 0)).replace('frame="0"', 'frame="x"'), "bad_number"),
        (_track("car", (0, 0)).replace('frame="0"', 'frame="-1"'), "bad_number"),
        (_track("car", (0, 0), (1, 1)), "bad_record"),
    ],
)
def test_a_record_that_cannot_be_used_is_a_problem(root: Path, body: str, code: str) -> None:
    readings = _readings(root, body + _image(name="b.png"))
    assert codes(readings) == {code: 1}
    assert readings["b.png"].sample is not None


def test_a_shape_of_a_track_that_does_not_say_whether_it_is_there_is_a_problem(root: Path) -> None:
    readings = _readings(root, _track("car", (0, 0), (1, 7), (2, 1)), size=SIZE)
    assert codes(readings) == {"bad_number": 1}
    assert readings["1"].sample is not None
    assert not readings["1"].sample.exhaustive


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no element found"),
        ("<annotations><image></annotations>", "mismatched tag"),
        ("<annotation/>", "expected the root <annotations>, got <annotation>"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotations/>', "declares a document type"),
        ("<annotations>" + "<a>" * 70 + "</a>" * 70 + "</annotations>", "nested more than 64 deep"),
        (_file("", labels="<labels><label><name/></label></labels>"), "label: expected a text"),
        (_file("", size=SIZE.replace("64", "x")), "width: expected a number"),
    ],
)
def test_files_that_are_not_cvats_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "annotations.xml").write_text(text)
    with pytest.raises(AnnotationError, match=message):
        open_cvat(tmp_path)


def test_invalid_options_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="does not exist, expected an annotation file"):
        open_cvat(tmp_path)
    (tmp_path / "annotations.xml").write_text(_file(""))
    for frames in ("frame", "{0.real}{:d}", "{:9999d}", "{}{}"):
        with pytest.raises(AnnotationError, match="expected a name with one"):
            open_cvat(tmp_path, frames=frames)


def test_a_large_file_is_read_an_image_at_a_time(root: Path) -> None:
    body = "".join(_image(BOX, name=f"{number}.png") for number in range(2_000))
    (root / "annotations.xml").write_text(_file(body))
    parts = open_cvat(root).parts()
    assert sum(1 for _ in parts) == 2_000

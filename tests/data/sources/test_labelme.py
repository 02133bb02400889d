import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.export.exported import export
from data.sources.pictures import picture
from data.sources.reading import codes, collect, notes, samples, write_json
from PIL import Image

from deixis.data.build import check_sources
from deixis.data.sources import open_source
from deixis.data.sources.labelme import open_labelme
from deixis.data.sources.reading.embedded import EmbeddedImage
from deixis.errors import AnnotationError, ImageError, RecipeError
from deixis.geometry import Box, ImageSize, OrientedBox
from deixis.processing.images import read_image
from deixis.structures import Instance, Sample


def _shape(label: str, kind: str | None, *points: Any, **more: Any) -> dict[str, Any]:
    common = {"label": label, "points": [list(one) for one in points], "group_id": None}
    return {**common, "description": "", "shape_type": kind, "flags": {}, "mask": None, **more}


def _file(*shapes: Any, **more: Any) -> dict[str, Any]:
    head = {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": "a.png"}
    return {**head, "imageData": None, "imageHeight": 48, "imageWidth": 64, **more}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    picture(tmp_path / "a.png")
    return tmp_path


def _read(root: Path, *shapes: Any, **more: Any) -> Sample:
    write_json(root / "a.json", _file(*shapes, **more))
    return samples(open_labelme(root))["a"]


def _png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_rectangles_have_their_corners_in_any_order(root: Path) -> None:
    sample = _read(root, _shape("red_car", "rectangle", (30, 40), (10, 20.5)))
    assert sample.instances == (Instance("red car", Box(10, 20.5, 30, 40)),)
    assert (sample.size, sample.image, sample.exhaustive) == (
        ImageSize(48, 64),
        root / "a.png",
        True,
    )


@pytest.mark.parametrize("kind", ["polygon", None, ""])
def test_polygons_are_masks(root: Path, kind: str | None) -> None:
    (one,) = _read(root, _shape("cup", kind, (10, 10), (20, 10), (20, 30), (10, 30))).instances
    assert one.box == Box(10, 10, 20, 30)
    assert one.mask is not None
    assert one.mask.to_box() == one.box
    assert one.mask.area == 200


def test_a_circle_is_a_middle_and_a_point_of_its_edge(root: Path) -> None:
    (one,) = _read(root, _shape("ball", "circle", (30, 20), (33, 24))).instances
    assert one.box == Box(25, 15, 35, 25)
    assert one.mask is not None
    assert one.mask.area == pytest.approx(np.pi * 25, rel=0.03)
    assert one.mask.to_box() == one.box


def test_an_oriented_rectangle_keeps_its_corners(root: Path) -> None:
    points = [(20, 10), (30, 20), (20, 30), (10, 20)]
    (one,) = _read(root, _shape("ship", "oriented_rectangle", *points)).instances
    assert one == Instance("ship", Box(10, 10, 30, 30), oriented=OrientedBox(tuple(points)))


@pytest.mark.parametrize("corners", [((4, 6), (7, 7)), ((4.2, 6.1), (6.6, 7.9))])
def test_masks_are_pictures_between_two_corners(root: Path, corners: Any) -> None:
    pixels = np.array([[0, 1, 1, 1], [1, 1, 1, 0]], np.bool_)
    (one,) = _read(root, _shape("leaf", "mask", *corners, mask=_png(pixels))).instances
    assert one.mask is not None
    assert np.array_equal(one.mask.array[6:8, 4:8], pixels)
    assert (one.mask.area, one.box) == (6, Box(4, 6, 8, 8))


def test_shapes_with_one_label_and_group_are_one_instance(root: Path) -> None:
    square = [(0, 0), (10, 0), (10, 10), (0, 10)]
    far = [(x + 40, y + 30) for x, y in square]
    sample = _read(
        root,
        _shape("cat", "polygon", *square, group_id=1),
        _shape("cat", "polygon", *far, group_id=1, flags={"occluded": True, "wet_fur": True}),
        _shape("cat", "circle", (30, 20), (33, 20), group_id=2),
        _shape("dog", "rectangle", (1, 1), (9, 9), group_id=1),
    )
    assert [(one.category, one.box) for one in sample.instances] == [
        ("cat", Box(0, 0, 50, 40)),
        ("cat", Box(27, 17, 33, 23)),
        ("dog", Box(1, 1, 9, 9)),
    ]
    mask = sample.instances[0].mask
    assert mask is not None
    assert mask.area == 200
    assert sample.instances[0].attributes == ("occluded", "wet fur")


def test_points_of_a_group_are_keypoints_of_its_only_instance(root: Path) -> None:
    sample = _read(
        root,
        _shape("person", "rectangle", (10, 5), (40, 45), group_id=3),
        _shape("nose", "point", (25, 10), group_id=3),
        _shape("left_eye", "point", (27, 8), group_id=3),
    )
    (one,) = sample.instances
    assert one.keypoints is not None
    assert one.keypoints.num_labeled == 2
    assert one.keypoints.positions[0].tolist() == [25, 10]
    assert sample.exhaustive


@pytest.mark.parametrize("kind", ["point", "points", "line", "linestrip"])
def test_other_shapes_are_counted_and_the_image_is_not_exhaustive(root: Path, kind: str) -> None:
    shape = _shape("crack", kind, (1, 1), *([] if kind == "point" else [(5, 9)]))
    write_json(root / "a.json", _file(shape, _shape("cup", "rectangle", (1, 1), (9, 9))))
    readings = collect(open_labelme(root))
    assert (codes(readings), notes(readings)) == ({}, {"shapes_of_other_types": 1})
    sample = readings["a"].sample
    assert sample is not None
    assert not sample.exhaustive
    assert len(sample.instances) == 1


def test_points_without_a_unique_instance_are_left_out(root: Path) -> None:
    boxes = [_shape(label, "rectangle", (1, 1), (9, 9), group_id=1) for label in ("a", "b")]
    points = [_shape("nose", "point", (2, 2), group_id=group) for group in (1, 2)]
    write_json(root / "a.json", _file(*boxes, *points))
    readings = collect(open_labelme(root))
    assert notes(readings) == {"shapes_of_other_types": 2}
    assert readings["a"].sample is not None
    assert not readings["a"].sample.exhaustive


@pytest.mark.parametrize(
    "path",
    ["a.png", "../pictures/a.png", "..\\pictures\\a.png", "C:\\Users\\me\\a.png", "/home/me/a.png"],
)
def test_pictures_are_found_by_name_in_the_folder_that_is_given(tmp_path: Path, path: str) -> None:
    found = picture(tmp_path / "pictures" / "a.png")
    write_json(tmp_path / "labels" / "a.json", _file(imagePath=path))
    source = open_labelme(tmp_path / "labels", images=tmp_path / "pictures")
    assert samples(source)["a"].image == found


@pytest.mark.parametrize("path", ["../pictures/a.png", "..\\pictures\\a.png"])
def test_paths_that_lead_up_are_followed_inside_the_folder(tmp_path: Path, path: str) -> None:
    found = picture(tmp_path / "pictures" / "a.png")
    write_json(tmp_path / "labels" / "deep" / "a.json", _file(imagePath=f"../{path}"))
    sample = samples(open_source(f"labelme:{tmp_path},split=train").source)["labels/deep/a"]
    assert (sample.image, sample.split) == (found, "train")
    # out of the folder that was given, and no picture beside the file
    lone = collect(open_labelme(tmp_path / "labels"))["deep/a"].sample
    assert lone is not None
    assert lone.image == tmp_path / "labels" / "deep" / "a.png"


def test_the_embedded_picture_is_used_if_no_file_exists(root: Path) -> None:
    data = base64.b64encode((root / "a.png").read_bytes()).decode()
    write_json(root / "b.json", _file(imagePath="gone.png", imageData=data))
    write_json(root / "a.json", _file(imageData="not looked at"))
    refused = collect(open_labelme(root))
    assert codes(refused) == {"image_missing": 1}
    assert "image_data=true, to be built with --embed" in refused[""].problems[0].detail
    source = open_source(f"labelme:{root},image_data=true")
    found = samples(source.source)
    assert found["a"].image == root / "a.png"
    image = found["b"].image
    assert isinstance(image, EmbeddedImage)
    assert image().shape == (48, 64, 3)
    assert notes(collect(source.source)) == {"picture_of_image_data": 1}
    assert check_sources([source]).sound == 2
    done = export(root / "out", "coco", source.source, copy_images=True)
    assert read_image(done.folder / "images" / "all" / "b.png").size == ImageSize(48, 64)
    with pytest.raises(RecipeError, match="hint: use deixis data export FORMAT --copy-images"):
        export(root / "other", "coco", source.source)
    with pytest.raises(ImageError, match="image x: "):
        EmbeddedImage(b"nothing", "x", ImageSize(1, 1))()


def test_a_single_file_and_one_with_a_byte_order_mark_are_read(root: Path) -> None:
    text = json.dumps(_file(_shape("cup", "rectangle", (1, 1), (9, 9))))
    (root / "a.json").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert list(samples(open_labelme(root / "a.json"))) == ["a"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("{", "bad_json"),
        ("[]", "bad_record"),
        ({"images": [], "annotations": []}, "bad_record"),
        (_file(imagePath=None), "bad_record"),
        (_file(imagePath=""), "bad_text"),
        (_file(imagePath=".."), "path_escape"),
        (_file(imageWidth=0), "bad_number"),
        (_file(imageWidth="64"), "bad_number"),
        (_file(shapes=7), "bad_record"),
        (_file(imagePath="gone.png", imageData="!"), "image_unreadable"),
        (_file(imagePath="gone.png", imageData=""), "image_empty"),
        (_file(imagePath="gone.png", imageData="aGFsbG8="), "image_unreadable"),
        (_file(imagePath="gone.png", imageData=_png(np.zeros((4, 4), np.uint8))), "size_mismatch"),
        (_file(flags=3), "bad_record"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_problem(root: Path, content: Any, code: str) -> None:
    (root / "b.json").write_text(content if isinstance(content, str) else json.dumps(content))
    write_json(root / "a.json", _file())
    readings = collect(open_labelme(root, image_data=True))
    assert codes(readings) == {code: 1}
    assert readings["a"].sample is not None


_SQUARE = ((1, 1), (9, 1), (9, 9))


@pytest.mark.parametrize(
    ("shape", "code"),
    [
        (7, "bad_record"),
        (_shape("", "rectangle", (1, 1), (9, 9)), "bad_text"),
        (_shape("a", "rectangle", (1, 1)), "bad_record"),
        (_shape("a", "rectangle", (1, 1), (1, 9)), "box_degenerate"),
        (_shape("a", "rectangle", (1, 1), (99, 9)), "box_outside"),
        (_shape("a", "rectangle", (1, 1), (9, None)), "bad_number"),
        (_shape("a", "rectangle", (1, 1), (9,)), "mask_damaged"),
        (_shape("a", "polygon", *_SQUARE[:2]), "mask_damaged"),
        (_shape("a", "polygon"), "mask_damaged"),
        (_shape("a", "polygon", (1, 1), (99, 1), (9, 9)), "box_outside"),
        (_shape("a", "circle", (9, 9), (9, 9)), "box_degenerate"),
        (_shape("a", "circle", (9, 9), (9, 40)), "box_outside"),
        (_shape("a", "circle", (9.01, 9.01), (9.02, 9.01)), "mask_empty"),
        (_shape("a", "oriented_rectangle", *_SQUARE), "bad_record"),
        (_shape("a", "oriented_rectangle", *_SQUARE, (1e9, 1)), "box_degenerate"),
        (_shape("a", "oriented_rectangle", (90, 1), (99, 1), (99, 9), (90, 9)), "box_outside"),
        (_shape("a", "mask", (1, 1), (2, 2)), "mask_damaged"),
        (_shape("a", "mask", (1, 1), (2, 2), mask="!"), "mask_damaged"),
        (_shape("a", "mask", (1, 1), (2, 2), mask="aGFsbG8="), "mask_damaged"),
        (_shape("a", "mask", (1, 1), (2, 2), mask=_png(np.ones((3, 3), np.bool_))), "mask_damaged"),
        (
            _shape("a", "mask", (63, 1), (66, 1), mask=_png(np.ones((1, 4), np.bool_))),
            "mask_damaged",
        ),
        (_shape("a", "mask", (1, 1), (2, 2), mask=_png(np.zeros((2, 2), np.bool_))), "mask_empty"),
        (_shape("a", "star", *_SQUARE), "bad_record"),
        (_shape("a", "rectangle", (1, 1), (9, 9), group_id="x"), "bad_number"),
        (_shape("a", "rectangle", (1, 1), (9, 9), flags=[]), "bad_record"),
        (_shape("a", "point", (99, 1), group_id=1), "keypoints_damaged"),
        (_shape("a", "point", (9, 1), (8, 1), group_id=1), "keypoints_damaged"),
    ],
)
def test_a_shape_that_cannot_be_used_is_left_out(root: Path, shape: Any, code: str) -> None:
    write_json(root / "a.json", _file(shape, _shape("cup", "rectangle", (1, 1), (9, 9))))
    readings = collect(open_labelme(root))
    assert codes(readings) == {code: 1}
    assert readings["a"].problems[0].place == "a.json: shape 0"
    sample = readings["a"].sample
    assert sample is not None
    assert [one.category for one in sample.instances] == ["cup"]
    assert not sample.exhaustive


def test_folders_without_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="expected JSON files, found none"):
        open_labelme(tmp_path)
    with pytest.raises(AnnotationError, match="does not exist, expected a folder of JSON files"):
        open_labelme(tmp_path / "none")

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.sources.pictures import picture
from data.sources.reading import codes, collect, notes, samples, write_json
from hypothesis import given
from hypothesis import strategies as st

from deixis.data.sources import open_source
from deixis.data.sources.label_studio import open_label_studio, picture_name
from deixis.errors import AnnotationError, RecipeError
from deixis.geometry import Box, ImageSize, Mask

SIZE = {"original_width": 200, "original_height": 100}


def _box(*values: object, id_: object = "a", label: object = "dog", **more: Any) -> dict[str, Any]:
    names = ("x", "y", "width", "height")
    value = {**dict(zip(names, values, strict=True)), "rectanglelabels": [label]}
    return {"id": id_, "type": "rectanglelabels", "value": value, **SIZE, **more}


def _polygon(*points: object, **more: Any) -> dict[str, Any]:
    value = {"points": list(points), "polygonlabels": ["dog"]}
    return {"id": "p", "type": "polygonlabels", "value": value, **SIZE, **more}


def _brush(rle: object, **more: Any) -> dict[str, Any]:
    value = {"format": "rle", "rle": rle, "brushlabels": ["dog"]}
    return {"id": "b", "type": "brushlabels", "value": value, **SIZE, **more}


def _keypoint(x: object, y: object, name: object = "nose", **more: Any) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": 0.5, "keypointlabels": [name]}
    return {"id": f"k{name}", "type": "keypointlabels", "value": value, **SIZE, **more}


def _task(*results: object, image: object = "a.jpg", **more: Any) -> dict[str, Any]:
    return {"id": 5, "data": {"image": image}, "annotations": [{"result": list(results)}], **more}


def _write(folder: Path, *tasks: object) -> Path:
    return write_json(folder / "export.json", list(tasks))


GOOD = _box(10, 10, 20, 20, id_="good")


def test_percent_become_pixels(tmp_path: Path) -> None:
    path = _write(tmp_path, _task(_box(12.5, 10, 25, 50, label="traffic_light")))
    sample = samples(open_label_studio(path))["5"]
    (instance,) = sample.instances
    assert (instance.category, instance.box) == ("traffic light", Box(25, 10, 75, 60))
    assert (sample.size, sample.image) == (ImageSize(100, 200), tmp_path / "a.jpg")
    assert sample.exhaustive


@given(
    edges=st.tuples(*[st.integers(0, 10**8)] * 4),
    width=st.integers(1, 16_384),
    height=st.integers(1, 16_384),
)
def test_percent_give_back_pixels_to_a_millionth(
    tmp_path_factory: pytest.TempPathFactory,
    edges: tuple[int, int, int, int],
    width: int,
    height: int,
) -> None:
    # shares of the sides, at millionths of a pixel
    x1, x2 = sorted(round(edge * width / 10**8, 6) for edge in edges[:2])
    y1, y2 = sorted(round(edge * height / 10**8, 6) for edge in edges[2:])
    if x1 == x2 or y1 == y2:
        return
    percent = [100 * x1 / width, 100 * y1 / height]
    percent += [100 * (x2 - x1) / width, 100 * (y2 - y1) / height]
    box = _box(*percent) | {"original_width": width, "original_height": height}
    folder = tmp_path_factory.getbasetemp()
    sample = samples(open_label_studio(_write(folder, _task(box))))["5"]
    assert np.allclose(sample.instances[0].box.as_array(), (x1, y1, x2, y2), atol=1e-6, rtol=0)


def test_masks_and_keypoints_belong_to_the_box_that_they_name(tmp_path: Path) -> None:
    results = [
        _keypoint(20, 30, "nose", parentID="a", meta={"text": ["occluded"]}),
        _polygon([10, 10], [30, 10], [30, 50], [10, 50], parentID="a"),
        _box(10, 10, 20, 40),
        _polygon([50, 50], [60, 50], [60, 60], [50, 60], id="q", parentID="nothing"),
    ]
    first, second = samples(open_label_studio(_write(tmp_path, _task(*results))))["5"].instances
    size = ImageSize(100, 200)
    assert first.mask == Mask.from_box(Box(20, 10, 60, 50), size)
    assert first.keypoints is not None
    assert first.keypoints.positions[0].tolist() == [40, 30]
    assert first.keypoints.visibility.tolist() == [1, *[0] * 16]
    assert (second.box, second.keypoints) == (Box(100, 50, 120, 60), None)
    assert second.mask == Mask.from_box(second.box, size)


def test_texts_are_captions_and_relations_link_regions(tmp_path: Path) -> None:
    results = [
        _box(10, 10, 20, 20, id_="a"),
        _box(50, 50, 20, 20, id_="b", label="cat"),
        {"type": "relation", "from_id": "b", "to_id": "a", "direction": "left", "labels": ["on"]},
        {"id": "t", "type": "textarea", "value": {"text": ["A dog.", "A cat."]}},
        {"id": "a", "type": "textarea", "value": {"text": ["a text about a region"]}},
        {"id": "c", "type": "choices", "value": {"choices": ["x"]}},
    ]
    readings = collect(open_label_studio(_write(tmp_path, _task(*results))))
    sample = readings["5"].sample
    assert sample is not None
    assert [one.text for one in sample.captions] == ["A dog.", "A cat."]
    (relation,) = sample.relations
    assert (relation.subject, relation.predicate, relation.object) == (0, "on", 1)
    assert codes(readings) == {}
    assert notes(readings) == {"results_of_other_types": 2}


def test_ground_truth_counts_before_the_last_that_stands(tmp_path: Path) -> None:
    def answers(*flags: dict[str, Any]) -> dict[str, Any]:
        boxes = [{"result": [_box(10 * n, 0, 10, 10)], **flag} for n, flag in enumerate(flags)]
        return {"id": 1, "data": {"image": "a.jpg"}, "annotations": boxes}

    for flags, chosen in (
        (({}, {"was_cancelled": True}), 0),
        (({}, {}), 1),
        (({"ground_truth": True}, {}), 0),
    ):
        readings = collect(open_label_studio(_write(tmp_path, answers(*flags))))
        sample = readings["1"].sample
        assert sample is not None
        assert sample.instances[0].box.x1 == 20 * chosen
        assert notes(readings) == {"one_of_several_annotations": 1}
    alone = {"id": 1, "data": {"image": "a.jpg", "width": 20, "height": 10}, "annotations": []}
    assert samples(open_label_studio(_write(tmp_path, alone)))["1"].instances == ()


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("a.jpg", "a.jpg"),
        ("/data/local-files/?d=photos/a%20b.jpg", "photos/a b.jpg"),
        ("/data/local-files/?d=photos/a.jpg&x=1", "photos/a.jpg"),
        ("/data/upload/3/1a2b3c4d-a.jpg", "upload/3/1a2b3c4d-a.jpg"),
        ("https://example.com/x/a.jpg?size=3", "a.jpg"),
        ("s3://bucket/x/a.jpg", "x/a.jpg"),
    ],
)
def test_addresses_become_names(address: str, name: str) -> None:
    assert picture_name(address) == name


def test_a_size_that_no_result_tells_is_that_of_the_picture(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg", 40, 20)
    path = _write(tmp_path, {"data": {"image": "a.jpg"}})
    sample = samples(open_label_studio(path))["a.jpg"]
    assert sample.size == ImageSize(20, 40)


@pytest.mark.parametrize(
    ("task", "code"),
    [
        (5, "bad_record"),
        ({"image": "a.jpg", "label": []}, "bad_record"),
        ({"data": {}}, "bad_record"),
        ({"data": {"image": ""}}, "bad_text"),
        ({"data": {"image": "gone.jpg"}}, "image_missing"),
        (_task(image="../../a.jpg"), "path_escape"),
        (_task(image="/data/local-files/?d=../a.jpg"), "path_escape"),
        (_task(image="/data/local-files/?d=%2e%2e/a.jpg"), "path_escape"),
        (_task(image="s3://bucket//etc/passwd"), "path_escape"),
        (_task(image="/etc/passwd"), "path_escape"),
        (_task(image=7), "bad_record"),
        ({"id": 1, "data": {"image": "a.jpg"}, "annotations": {}}, "bad_record"),
        ({"id": 1, "data": {"image": "a.jpg"}, "annotations": [{}]}, "bad_record"),
        (_task(GOOD, GOOD | {"original_width": 7}), "size_mismatch"),
        (_task(GOOD | {"original_width": 0}), "bad_number"),
        (_task(GOOD | {"original_width": 10**9}), "bad_number"),
    ],
)
def test_a_task_that_cannot_be_used_is_a_problem(tmp_path: Path, task: object, code: str) -> None:
    readings = collect(open_label_studio(_write(tmp_path, task, _task(GOOD) | {"id": "good"})))
    assert codes(readings) == {code: 1}
    assert readings["good"].sample is not None
    assert all(one.sample is None for key, one in readings.items() if key != "good")


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (None, "bad_record"),
        ({}, "bad_record"),
        ({"type": ["x"]}, "bad_record"),
        ({"type": "rectanglelabels"}, "bad_record"),
        (_box(10, 10, 0, 10), "box_degenerate"),
        (_box(10, 10, -5, 10), "box_degenerate"),
        (_box(90, 10, 20, 10), "box_outside"),
        (_box(-20, 10, 10, 10), "box_outside"),
        (_box("10", 10, 10, 10), "bad_number"),
        (_box(None, 10, 10, 10), "bad_number"),
        (_box(float("nan"), 10, 10, 10), "bad_number"),
        (_box(1e300, 10, 10, 10), "bad_number"),
        (_box(10, 10, 10, 10, label=""), "bad_text"),
        (_box(10, 10, 10, 10, label=5), "bad_record"),
        (_box(10, 10, 10, 10, id_="good"), "duplicate_annotation"),
        (_box(10, 10, 10, 10, image_rotation=90), "orientation_ambiguous"),
        (_polygon([10, 10], [20, 10]), "mask_damaged"),
        (_polygon([10, 10], [20, 10, 5], [20, 20]), "mask_damaged"),
        (_polygon([10, 10], [10, 10], [10, 10]), "mask_empty"),
        (_polygon("x", [20, 10], [20, 20]), "bad_record"),
        (_polygon(*[[10, 10], [20, 20]] * 6000), "mask_damaged"),
        (_brush([]), "mask_damaged"),
        (_brush([0, 0, 0, 1]), "mask_damaged"),
        (_brush([0, 1, 56, 128, *[0] * 20]), "mask_damaged"),
        (_brush([300]), "mask_damaged"),
        (_brush([True]), "mask_damaged"),
        (_brush("x"), "bad_record"),
        (_brush([1]) | {"value": {"format": "png", "brushlabels": ["dog"]}}, "mask_damaged"),
        (_keypoint(10, 10), "unknown_annotation"),
        (_keypoint(10, 10, parentID="gone"), "unknown_annotation"),
        (_keypoint(200, 10, parentID="good"), "keypoints_damaged"),
        (_keypoint(10, 10, 7, parentID="good"), "bad_record"),
        (
            {"type": "relation", "from_id": "good", "to_id": "x", "labels": ["on"]},
            "unknown_annotation",
        ),
        ({"type": "relation", "from_id": "good", "to_id": "good"}, "bad_text"),
        ({"type": "relation", "labels": ["on"]}, "bad_record"),
        ({"type": "textarea", "value": {"text": [""]}}, "bad_text"),
        ({"type": "textarea", "value": {"text": {}}}, "bad_record"),
    ],
)
def test_a_result_that_cannot_be_used_is_left_out(
    tmp_path: Path, result: object, code: str
) -> None:
    readings = collect(open_label_studio(_write(tmp_path, _task(GOOD, result))))
    assert codes(readings) == {code: 1}
    assert readings["5"].problems[0].place == "export.json: task 0, result 1"
    sample = readings["5"].sample
    assert sample is not None
    assert [one.box for one in sample.instances] == [Box(20, 10, 60, 30)]
    kind = result.get("type") if isinstance(result, dict) else None
    assert sample.exhaustive == (kind in ("relation", "textarea"))
    label = result["value"].get(kind) if isinstance(result, dict) and "value" in result else None
    assert sample.left_out.unknown == (not sample.exhaustive and label in (None, [5], [7], [""]))


@pytest.mark.parametrize(
    ("turn", "box"),
    [
        (360, Box(100, 20, 140, 40)),
        (-720, Box(100, 20, 140, 40)),
        (1e-7, Box(100, 20, 140, 40)),
        (90, Box(80, 20, 100, 60)),
        (450.0000001, Box(80, 20, 100, 60)),
        (180, Box(60, 0, 100, 20)),
        (-90, Box(100, 0, 120, 20)),
    ],
)
def test_a_box_is_turned_about_its_top_left_corner(tmp_path: Path, turn: float, box: Box) -> None:
    given_box = _box(50, 20, 20, 20)
    if turn == -90:
        given_box = _box(50, 20, 10, 20)
    given_box["value"]["rotation"] = turn
    (instance,) = samples(open_label_studio(_write(tmp_path, _task(given_box))))["5"].instances
    assert instance.mask is None
    assert instance.box == box


def test_a_box_turned_by_any_angle_is_a_polygon(tmp_path: Path) -> None:
    turned = _box(50, 20, 20, 20)
    turned["value"]["rotation"] = 30
    readings = collect(open_label_studio(_write(tmp_path, _task(turned))))
    assert notes(readings) == {"box_turned": 1}
    sample = readings["5"].sample
    assert sample is not None
    (instance,) = sample.instances
    # 40 x 20 pixels about (100, 20)
    across, down = 40 * np.cos(np.pi / 6), 20 * np.sin(np.pi / 6)
    expected = (100 - down, 20, 100 + across, 20 + 20 + 20 * np.cos(np.pi / 6))
    assert np.allclose(instance.box.as_array(), expected, atol=1e-4)
    assert instance.mask is not None
    assert abs(instance.mask.area - 800) < 30
    turned["value"]["rotation"] = -60
    assert codes(collect(open_label_studio(_write(tmp_path, _task(turned))))) == {"box_outside": 1}


@pytest.mark.parametrize(("x", "expected"), [(4.01, {}), (3.99, {"box_outside": 1})])
def test_a_turned_box_may_leave_its_picture_by_a_hundredth_of_the_side(
    tmp_path: Path, x: float, expected: dict[str, int]
) -> None:
    # 20 pixels high and turned by 30 degrees: 10 pixels to the left of its corner
    turned = _box(x, 20, 20, 20)
    turned["value"]["rotation"] = 30
    assert codes(collect(open_label_studio(_write(tmp_path, _task(turned))))) == expected


def _ellipse(*values: float, **more: Any) -> dict[str, Any]:
    names = ("x", "y", "radiusX", "radiusY", "rotation")
    value = {**dict(zip(names, values, strict=True)), "ellipselabels": ["coin"]}
    return {"id": "e", "type": "ellipselabels", "value": value, **SIZE, **more}


@pytest.mark.parametrize(("turn", "box"), [(0, Box(100, 35, 140, 65)), (90, Box(105, 30, 135, 70))])
def test_an_ellipse_is_the_box_around_it(tmp_path: Path, turn: float, box: Box) -> None:
    path = _write(tmp_path, _task(_ellipse(60, 50, 10, 15, turn)))
    (instance,) = samples(open_label_studio(path))["5"].instances
    assert (instance.category, instance.box, instance.mask) == ("coin", box, None)


def test_an_ellipse_without_extent_is_a_problem(tmp_path: Path) -> None:
    path = _write(tmp_path, _task(_ellipse(60, 50, 0, 15, 0)))
    assert codes(collect(open_label_studio(path))) == {"box_degenerate": 1}


def test_a_shape_has_its_label_in_another_result(tmp_path: Path) -> None:
    shape = _box(10, 10, 10, 10, id_="r", label="x") | {"type": "rectangle"}
    del shape["value"]["rectanglelabels"]
    label = {**shape, "type": "labels", "value": {**shape["value"], "labels": ["coin"]}}
    for results in ([shape, label], [label, shape], [label]):
        sample = samples(open_label_studio(_write(tmp_path, _task(*results))))["5"]
        assert [(one.category, one.box) for one in sample.instances] == [
            ("coin", Box(20, 10, 40, 20))
        ]
        assert sample.exhaustive


@pytest.mark.parametrize(
    ("result", "note", "covered"),
    [
        # what marks no place leaves nothing out
        ({"type": "choices", "value": {"choices": ["sunny"]}}, "results_of_other_types", "cup dog"),
        ({"type": "rating", "value": {"rating": 4}}, "results_of_other_types", "cup dog"),
        (
            {"type": "vectorlabels", "value": {"vertices": [], "vectorlabels": ["dog"]}},
            "results_of_other_types",
            "cup",
        ),
        (
            {"type": "bitmask", "value": {"imageDataURL": "data:"}},
            "results_of_other_types",
            "",
        ),
        (
            {"type": "rectangle", "id": "r", "value": {"x": 1, "y": 1, "width": 5, "height": 5}},
            "region_without_label",
            "",
        ),
    ],
)
def test_a_region_that_is_not_read_leaves_its_class_incomplete(
    tmp_path: Path, result: dict[str, Any], note: str, covered: str
) -> None:
    cup = _box(50, 50, 10, 10, id_="cup", label="cup")
    readings = collect(open_label_studio(_write(tmp_path, _task(GOOD, cup, result))))
    assert notes(readings) == {note: 1}
    sample = readings["5"].sample
    assert sample is not None
    assert " ".join(name for name in ("cup", "dog") if sample.covers(name)) == covered
    assert sample.exhaustive == (covered == "cup dog")


def test_tasks_without_annotations_are_not_exhaustive(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg", 200, 100)
    cancelled = _task() | {"annotations": [{"result": [GOOD], "was_cancelled": True}]}
    predicted = {"id": 5, "data": {"image": "a.jpg"}, "predictions": [{"result": [GOOD]}]}
    for task, results in ((cancelled, "annotations"), (predicted, "predictions")):
        sample = samples(open_label_studio(_write(tmp_path, task), results=results))["5"]
        assert sample.left_out.unknown
    assert samples(open_label_studio(_write(tmp_path, _task())))["5"].exhaustive


def test_the_picture_may_have_another_name(tmp_path: Path) -> None:
    task = {"id": 5, "data": {"img": "a.jpg", "text": "x"}, "annotations": [{"result": [GOOD]}]}
    path = _write(tmp_path, task)
    assert samples(open_label_studio(path))["5"].image == tmp_path / "a.jpg"
    task["data"] = {"left": "a.jpg", "right": "b.jpg"}
    path = _write(tmp_path, task)
    readings = collect(open_label_studio(path))
    (problem,) = readings["5"].problems
    assert problem.detail == (
        "image: missing, found ['left', 'right']; say which, as in label_studio:PATH,picture=NAME"
    )
    # the hint can be followed
    source = open_source(f"label_studio:{path},picture=right").source
    assert samples(source)["5"].image == tmp_path / "b.jpg"


def test_several_labels_or_keypoints_of_one_name_are_problems(tmp_path: Path) -> None:
    two = _box(10, 10, 10, 10)
    two["value"]["rectanglelabels"] = ["dog", "cat"]
    nose = _keypoint(10, 10, parentID="good")
    readings = collect(open_label_studio(_write(tmp_path, _task(GOOD, two, nose, nose))))
    assert codes(readings) == {"bad_record": 1, "keypoints_damaged": 1}


def test_tasks_of_one_key_are_problems(tmp_path: Path) -> None:
    readings = collect(open_label_studio(_write(tmp_path, _task(GOOD), _task(GOOD))))
    assert codes(readings) == {"duplicate_image": 1}


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        *("type", "value", "id", "x", "y", "width", "points", "rle", "text"),
                        *("original_width", "original_height", "labels", "from_id", "parentID"),
                    ]
                ),
                inner | st.sampled_from(["rectanglelabels", "brushlabels", "relation", "textarea"]),
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_result_is_read_or_left_out(
    tmp_path_factory: pytest.TempPathFactory, result: object
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    (folder / "export.json").write_text(json.dumps([_task(GOOD, result)]))
    collect(open_label_studio(folder / "export.json"))


@pytest.mark.parametrize("text", ["", "{}", "[", '[{"data":', "[1] 2", "null"])
def test_files_that_are_not_a_list_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tasks.json").write_text(text)
    with pytest.raises(AnnotationError, match="at character"):
        collect(open_label_studio(tmp_path))


def test_unreadable_paths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="expected a JSON file of tasks"):
        open_label_studio(tmp_path)
    _write(tmp_path)
    with pytest.raises(RecipeError, match="results 'guesses': expected one of"):
        open_label_studio(tmp_path / "export.json", results="guesses")

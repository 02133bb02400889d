import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.sources.pictures import picture
from data.sources.reading import codes, collect, notes, samples, write_json, write_lines

from deixis.data.sources import open_source
from deixis.data.sources.base import BadRecord
from deixis.data.sources.reading.inventory import Inventory, Taxonomy, one_spelling
from deixis.data.tasks import TASKS, Rules
from deixis.errors import AnnotationError
from deixis.geometry import Box, ImageSize, Mask
from deixis.structures import ANYTHING, NOTHING, GroundedText, Instance, LeftOut, Sample

SIZE = ImageSize(100, 200)
BOX = Box(10, 20, 50, 60)


def _sample(*instances: Instance, **more: Any) -> Sample:
    return Sample("a", Path("a.png"), SIZE, instances=instances, **more)


def _said(sample: Sample, *tasks: str, times: int = 15) -> set[str]:
    """All answers of some tasks."""
    rng = np.random.default_rng(0)
    answers = [
        turn.answer
        for task in tasks
        for _ in range(times)
        for turn in TASKS[task].make(sample, rng, Rules())
    ]
    return {answer.text for answer in answers if isinstance(answer, GroundedText)}


CLAIMS = (
    *("count", "count_words", "detection", "detection_all", "detection_names"),
    *("detection_example", "conditional_detection", "quadrant_class", "absent", "statement"),
)
"""Tasks whose answers say that something is not there, or that this is all."""


# --- what a sample says of itself


def test_a_sample_is_exhaustive_if_nothing_was_left_out() -> None:
    assert _sample().left_out == NOTHING
    assert _sample(exhaustive=False).left_out == ANYTHING
    for left_out in (
        ANYTHING,
        LeftOut(categories=frozenset({"cat"})),
        LeftOut(others=True),
    ):
        assert not _sample(left_out=left_out).exhaustive
    assert _sample(left_out=LeftOut(broader=frozenset({"fruit"}))).exhaustive


def test_a_class_is_covered_unless_something_of_it_was_left_out() -> None:
    sample = _sample(left_out=LeftOut(categories=frozenset({"cat"}), broader=frozenset({"fruit"})))
    assert [sample.covers(name) for name in ("cat", "dog", "fruit")] == [False, True, False]
    assert not _sample(exhaustive=False).covers("dog")


@pytest.mark.parametrize(
    "left_out",
    [NOTHING, LeftOut(categories=frozenset({"cup"})), LeftOut(broader=frozenset({"cup"}))],
)
def test_classes_that_may_be_present_are_not_absent(left_out: LeftOut) -> None:
    name = "cat" if left_out is NOTHING else "cup"
    with pytest.raises(AnnotationError, match=f"class '{name}' is said to be absent, but it is"):
        _sample(Instance("cat", BOX), absent_categories=("dog", name), left_out=left_out)


def test_tasks_claim_nothing_about_an_incomplete_class() -> None:
    cat, cup = Instance("cat", BOX), Instance("cup", Box(100, 10, 150, 90))
    whole = _said(_sample(cat, cup), *CLAIMS)
    assert "There is one cat." in whole
    assert "Cat and cup." in whole
    lost = _said(_sample(cat, cup, left_out=LeftOut(categories=frozenset({"cat"}))), *CLAIMS)
    assert "There is one cup." in lost
    assert not any("cat" in text for text in lost)
    assert _said(_sample(cat, cup, left_out=ANYTHING), *CLAIMS) == set()
    # other classes were not looked for: what is there can be counted, but it is not all
    others = _said(_sample(cat, cup, left_out=LeftOut(others=True)), *CLAIMS)
    assert "There is one cat." in others
    assert "Cat and cup." not in others
    broader = _said(_sample(cat, cup, left_out=LeftOut(broader=frozenset({"cat"}))), *CLAIMS)
    assert "There is one cup." in broader
    assert not any("one cat" in text for text in broader)


def test_attributes_do_not_distinguish_instances_without_descriptions() -> None:
    red, plain = Instance("cup", BOX, attributes=("red",)), Instance("cup", Box(90, 9, 99, 50))
    assert not any("red" in text for text in _said(_sample(red, plain), "count", "detection"))
    blue = Instance("cup", plain.box, attributes=("blue",))
    assert "There is one red cup." in _said(_sample(red, blue), "count")


# --- the same box twice


def test_equal_boxes_of_a_class_are_one_instance() -> None:
    found = Inventory()
    numbers = [
        found.add(Instance("cat", BOX)),
        found.add(Instance("dog", BOX)),
        found.add(Instance("cat", Box(10.01, 19.99, 50.01, 60))),
        found.add(Instance("cat", Box(11, 20, 50, 60))),
        found.add(Instance("cat", Box(9.999, 20, 50, 60))),
    ]
    assert numbers == [0, 1, 0, 2, 0]
    assert [one.category for one in found.instances] == ["cat", "dog", "cat"]
    assert found.counts() == (("box_twice", 2),)
    assert found.left_out() == NOTHING


def test_merged_records_keep_the_fields_of_both() -> None:
    mask = Mask.from_box(BOX, SIZE)
    found = Inventory()
    found.add(Instance("cat", BOX, attributes=("red",)))
    found.add(Instance("cat", BOX, mask, attributes=("wet",)))
    assert found.instances == [Instance("cat", BOX, mask, attributes=("red", "wet"))]


def test_a_crowd_and_an_instance_in_one_box_are_not_counted() -> None:
    found = Inventory()
    found.add(Instance("cat", BOX))
    found.add(Instance("cat", BOX, Mask.from_box(BOX, SIZE), crowd=True))
    assert [one.crowd for one in found.instances] == [False, True]
    assert found.left_out() == LeftOut(categories=frozenset({"cat"}))


def test_two_masks_in_one_box_are_not_counted() -> None:
    found = Inventory()
    found.add(Instance("cat", BOX, Mask.from_box(BOX, SIZE)))
    found.add(Instance("cat", BOX, Mask.from_box(Box(10, 20, 50, 40), SIZE)))
    assert len(found.instances) == 2
    assert found.counts() == (("box_shared", 1),)
    assert found.left_out() == LeftOut(categories=frozenset({"cat"}))


def test_problems_are_of_a_class_or_of_any_or_of_no_thing() -> None:
    error = BadRecord("bad_text", "x")
    found = Inventory()
    found.remark(error, "a caption")
    assert found.left_out() == NOTHING
    found.problem(error, "a box", category="cat")
    assert found.left_out() == LeftOut(categories=frozenset({"cat"}))
    found.problem(error, "a box")
    assert found.left_out() == ANYTHING
    assert [problem.place for problem in found.problems] == ["a caption", "a box", "a box"]
    assert Inventory(claimed=False).left_out() == ANYTHING


# --- names that mean others too


def test_groups_their_members_and_other_spellings_are_related() -> None:
    taxonomy = Taxonomy.of(
        [
            ("Fruit", "none"),
            ("apple", "fruits"),
            ("cooking apple", "apple"),
            ("pear", "fruit"),
            ("person", "person"),
            ("loop", "hoop"),
            ("hoop", "loop"),
            ("Apples", ""),
        ]
    )
    assert taxonomy.broader({"cooking apple"}) == {"apple", "Apples", "Fruit"}
    assert taxonomy.broader({"apple"}) == {"Fruit", "Apples", "cooking apple"}
    assert taxonomy.broader({"person"}) == frozenset()
    assert taxonomy.broader({"loop"}) == {"hoop"}
    assert taxonomy.broader({"pear", "not in the file"}) == {"Fruit"}


def test_classes_in_two_spellings_are_not_counted() -> None:
    found = Inventory()
    for number, name in enumerate(("traffic light", "Traffic_Lights", "cat")):
        found.add(Instance(name, Box(10 * number, 0, 10 * number + 5, 5)))
    assert found.left_out().broader == {"traffic light", "Traffic_Lights"}
    assert one_spelling("") == ""


# --- format by format


def _coco(folder: Path, *boxes: dict[str, Any], **more: Any) -> Path:
    picture(folder / "a.jpg", 200, 100)
    picture(folder / "b.jpg", 200, 100)
    fields = {
        "images": [
            {"id": n, "file_name": f"{name}.jpg", "width": 200, "height": 100}
            for n, name in ((1, "a"), (2, "b"))
        ],
        "categories": [
            {"id": 1, "name": "fruit", "supercategory": "none"},
            {"id": 2, "name": "apple", "supercategory": "fruit"},
            {"id": 3, "name": "pear", "supercategory": "fruit"},
            {"id": 4, "name": "knife", "supercategory": "tool"},
        ],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": 2, "bbox": [10 * n, 10, 40, 30]} | box
            for n, box in enumerate(boxes, start=1)
        ],
    }
    return write_json(folder / "coco.json", fields | more)


def test_groups_and_unlabelled_classes_are_not_absent(tmp_path: Path) -> None:
    path = _coco(tmp_path, {}, {"category_id": 3, "image_id": 2})
    found = samples(open_source(f"coco:{path}").source)
    # the file has no knife anywhere, so nobody may have looked for one
    assert [one.absent_categories for one in found.values()] == [("pear",), ("apple",)]
    said = _said(found["1"], *CLAIMS, times=30)
    assert "There are no pears." in said
    assert not any("fruit" in text or "kni" in text for text in said)


def test_a_group_that_has_boxes_is_not_counted_beside_its_members(tmp_path: Path) -> None:
    path = _coco(tmp_path, {}, {"category_id": 1})
    sample = samples(open_source(f"coco:{path}").source)["1"]
    assert sample.exhaustive
    assert (sample.covers("fruit"), sample.covers("apple")) == (False, False)
    assert _said(sample, "count", "absent", "detection_all", "detection") == set()


@pytest.mark.parametrize(
    ("box", "code", "complete"),
    [
        ({"bbox": [10, 10, 0, 5]}, "box_degenerate", "knife"),
        ({"bbox": [10, 10, 400, 5]}, "box_outside", "knife"),
        ({"segmentation": "x"}, "mask_damaged", "knife"),
        ({"iscrowd": "x"}, "bad_number", "knife"),
        ({"category_id": 9}, "unknown_category", ""),
        ({"id": 1}, "duplicate_annotation", "knife"),
    ],
)
def test_an_annotation_that_is_lost_costs_its_class(
    tmp_path: Path, box: dict[str, Any], code: str, complete: str
) -> None:
    path = _coco(tmp_path, {"category_id": 4}, box)
    readings = collect(open_source(f"coco:{path}").source)
    assert codes(readings) == {code: 1}
    sample = readings["1"].sample
    assert sample is not None
    assert not sample.covers("apple")
    assert sample.covers("knife") == (complete == "knife")
    assert "apple" not in sample.absent_categories


def test_one_box_under_two_ids_is_one_instance(tmp_path: Path) -> None:
    path = _coco(tmp_path, {"bbox": [10, 10, 30, 30]}, {"bbox": [10.0, 10, 30.001, 30]})
    readings = collect(open_source(f"coco:{path}").source)
    assert codes(readings) == {}
    assert notes(readings) == {"box_twice": 1, "group_not_denied": 1}
    sample = readings["1"].sample
    assert sample is not None
    assert _said(sample, "count_words") == {"One."}


@pytest.mark.parametrize("flag", ["ignore", "difficult"])
def test_ignored_annotations_are_not_counted(tmp_path: Path, flag: str) -> None:
    path = _coco(tmp_path, {flag: 1}, {"category_id": 4, flag: 0})
    sample = samples(open_source(f"coco:{path}").source)["1"]
    assert sample.instances[0].attributes == ("difficult",)
    said = _said(sample, "count_words", "count")
    assert "There is one knife." in said
    assert not any("apple" in text for text in said)


def test_groups_under_one_box_are_crowds(tmp_path: Path) -> None:
    path = _coco(tmp_path, {"IsGroupOf": True}, {"iscrowd": 1}, {"iscrowd": False})
    sample = samples(open_source(f"coco:{path}").source)["1"]
    assert [one.crowd for one in sample.instances] == [True, True, False]
    assert not any("apple" in text for text in _said(sample, "count", "detection"))


def _yolo(folder: Path, rows: str, names: str = "[cat, dog]") -> Path:
    picture(folder / "images" / "train" / "a.jpg", 100, 50)
    (folder / "labels" / "train").mkdir(parents=True)
    (folder / "labels" / "train" / "a.txt").write_text(rows)
    (folder / "data.yaml").write_text(f"names: {names}\ntrain: images/train\n")
    return folder


def test_a_row_twice_is_one_cat(tmp_path: Path) -> None:
    row = "0 0.5 0.5 0.2 0.4\n"
    readings = collect(open_source(f"yolo:{_yolo(tmp_path, row * 3)}").source)
    assert notes(readings) == {"box_twice": 2}
    sample = readings["images/train/a.jpg"].sample
    assert sample is not None
    assert _said(sample, "count_words") == {"One."}


def test_a_row_that_is_lost_costs_its_class(tmp_path: Path) -> None:
    rows = "0 0.5 0.5 0.2 0.4\n1 0.3 0.3 0 0.2\n"
    readings = collect(open_source(f"yolo:{_yolo(tmp_path, rows)}").source)
    sample = readings["images/train/a.jpg"].sample
    assert sample is not None
    assert sample.left_out == LeftOut(categories=frozenset({"dog"}))
    assert _said(sample, "count") == {"There is one cat."}


def test_yolo_classes_in_two_spellings_are_not_counted(tmp_path: Path) -> None:
    rows = "0 0.5 0.5 0.2 0.4\n1 0.3 0.3 0.1 0.2\n"
    folder = _yolo(tmp_path, rows, "[traffic light, Traffic_Light]")
    sample = samples(open_source(f"yolo:{folder}").source)["images/train/a.jpg"]
    assert _said(sample, "count", "detection_all") == set()


def _voc(folder: Path, objects: str) -> Path:
    picture(folder / "a.jpg", 200, 100)
    (folder / "a.xml").write_text(
        "<annotation><filename>a.jpg</filename><size><width>200</width><height>100</height></size>"
        f"{objects}</annotation>"
    )
    return folder


def _object(name: str, x: int, more: str = "") -> str:
    box = f"<xmin>{x}</xmin><ymin>10</ymin><xmax>{x + 20}</xmax><ymax>30</ymax>"
    return f"<object><name>{name}</name><bndbox>{box}</bndbox>{more}</object>"


def test_voc_parts_ignored_objects_and_crowds_are_not_counted(tmp_path: Path) -> None:
    objects = (
        _object("cat", 10)
        + _object("cat", 10)
        + _object("dog", 50, "<ignore>1</ignore>")
        + _object("cow", 80, "<iscrowd>1</iscrowd>")
        + _object("head", 110)
        + _object("person", 140, "<part><name>head</name></part>")
    )
    readings = collect(open_source(f"voc:{_voc(tmp_path, objects)}").source)
    assert notes(readings) == {"box_twice": 1, "part_of_object": 1}
    sample = readings["a"].sample
    assert sample is not None
    assert [one.attributes for one in sample.instances[1:2]] == [("difficult",)]
    assert _said(sample, "count") == {"There is one cat.", "There is one person."}


def test_a_voc_object_that_is_lost_costs_its_class(tmp_path: Path) -> None:
    objects = _object("cat", 10) + "<object><name>dog</name><robndbox/></object>"
    readings = collect(open_source(f"voc:{_voc(tmp_path, objects)}").source)
    sample = readings["a"].sample
    assert sample is not None
    assert sample.left_out == LeftOut(categories=frozenset({"dog"}))


def test_json_lines_list_incomplete_classes(tmp_path: Path) -> None:
    objects = [
        {"category": "cat", "box": [10, 10, 30, 30]},
        {"category": "dog", "box": [1, 1, 9, 9]},
    ]
    line = {"image": "a.png", "width": 200, "height": 100, "exhaustive": True, "objects": objects}
    path = write_lines(
        tmp_path / "mine.jsonl",
        [
            line | {"not_exhaustive": ["dog"], "absent": ["cow"]},
            line | {"image": "b.png", "absent": ["cat", "cow"]},
            line | {"image": "c.png", "objects": [*objects, {"category": "cow", "box": [1]}]},
            line | {"image": "d.png", "objects": [*objects, 7]},
        ],
    )
    readings = collect(open_source(f"jsonl:{path}").source)
    found = {key: one.sample for key, one in readings.items()}
    assert all(found.values())
    left_out = {key: one.left_out for key, one in found.items() if one is not None}
    assert left_out == {
        "a.png": LeftOut(categories=frozenset({"dog"})),
        "b.png": NOTHING,
        "c.png": LeftOut(categories=frozenset({"cow"})),
        "d.png": ANYTHING,
    }
    (problem,) = readings["b.png"].problems
    assert (problem.code, problem.detail) == ("bad_record", "absent: 'cat' is among the objects")
    assert found["b.png"] is not None
    assert found["b.png"].absent_categories == ("cow",)


def test_coarse_cityscapes_is_not_exhaustive_and_riders_are_people(tmp_path: Path) -> None:
    content = {
        "imgWidth": 20,
        "imgHeight": 10,
        "objects": [
            {"label": "person", "polygon": [[0, 0], [4, 0], [4, 8], [0, 8]]},
            {"label": "rider", "polygon": [[6, 0], [9, 0], [9, 8], [6, 8]]},
            {"label": "car", "polygon": [[12, 0], [18, 0], [18, 8], [12, 8]]},
            {"label": "bus", "polygon": "x"},
        ],
    }
    for kind in ("gtFine", "gtCoarse"):
        write_json(tmp_path / kind / "val" / "city" / f"a_{kind}_polygons.json", content)
    (fine,) = collect(open_source(f"cityscapes:{tmp_path},split=val").source).values()
    assert fine.sample is not None
    assert fine.sample.left_out.categories == {"bus"}
    assert [fine.sample.covers(name) for name in ("person", "rider", "car")] == [False, False, True]
    spec = f"cityscapes:{tmp_path},split=val,annotations=gtCoarse"
    (coarse,) = collect(open_source(spec).source).values()
    assert coarse.sample is not None
    assert coarse.sample.left_out == ANYTHING


def test_a_ref_to_a_lost_annotation_costs_its_class(tmp_path: Path) -> None:
    annotations = [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": [10, 10, 30, 30]},
        {"id": 2, "image_id": 7, "category_id": 1, "bbox": [10, 10, 30, 30]},
        {"id": 3, "image_id": 7, "category_id": 2, "bbox": [50, 10, 30, 30]},
    ]
    write_json(
        tmp_path / "instances.json",
        {
            "images": [{"id": 7, "file_name": "a.jpg", "width": 200, "height": 100}],
            "annotations": annotations,
            "categories": [{"id": 1, "name": "man"}, {"id": 2, "name": "dog"}],
        },
    )
    ref = {"image_id": 7, "split": "val", "sentences": [{"raw": "him"}]}
    refs = [
        ref | {"ref_id": 1, "ann_id": 1, "category_id": 1},
        ref | {"ref_id": 2, "ann_id": 2, "category_id": 1},
        ref | {"ref_id": 3, "ann_id": 9, "category_id": 2},
        ref | {"ref_id": 4, "ann_id": 3, "sentences": [{"raw": ""}]},
    ]
    (tmp_path / "refs(unc).json").write_text(json.dumps(refs))
    source = open_source(f"refcoco:{tmp_path},split=val,family=location").source
    reading = collect(source)["7"]
    assert codes({"": reading}) == {"unknown_annotation": 1, "bad_text": 1}
    assert dict(reading.notes) == {"box_twice": 1}
    assert reading.sample is not None
    assert [one.instances for one in reading.sample.expressions] == [(0,), (0,)]
    assert reading.sample.left_out == LeftOut(categories=frozenset({"dog"}))

"""Scene graphs of GQA."""

from pathlib import Path

from data.sources.reading import codes, collect, notes, samples, write_json

from deixis.data.sources.gqa import open_gqa_scenes
from deixis.geometry import Box
from deixis.structures import Relation


def _thing(name: object, x: object, y: object, w: object, h: object) -> dict[str, object]:
    return {"name": name, "x": x, "y": y, "w": w, "h": h, "attributes": [], "relations": []}


def test_objects_attributes_and_relations_are_read(tmp_path: Path) -> None:
    lamp = _thing("lamp", 10, 5, 20, 30)
    lamp["attributes"] = ["tall", "white"]
    lamp["relations"] = [{"object": "271882", "name": "on"}]
    scene = {
        "width": 64,
        "height": 48,
        "location": "living room",
        "objects": {"271881": lamp, "271882": _thing("table", 0, 30, 64, 18)},
    }
    write_json(tmp_path / "train_sceneGraphs.json", {"2407890": scene})
    (sample,) = samples(open_gqa_scenes(tmp_path)).values()
    first, second = sample.instances
    assert (first.category, first.attributes) == ("lamp", ("tall", "white"))
    assert second.box == Box(0, 30, 64, 48)
    assert sample.relations == (Relation(0, "on", 1),)
    assert sample.image == tmp_path / "2407890.jpg"


def test_hostile_objects_and_relations_are_left_out(tmp_path: Path) -> None:
    good = _thing("lamp", 10, 5, 54.5, 30)
    good["relations"] = [
        {"object": "nan", "name": "on"},
        {"object": "nobody", "name": "on"},
        {"name": "on"},
        7,
    ]
    objects = {
        "good": good,
        "nan": _thing("table", float("nan"), 30, 10, 10),
        "thin": _thing("table", 1, 30, 0, 10),
        "out": _thing("table", 100, 30, 10, 10),
        "text": _thing(None, 1, 30, 10, 10),
        "quoted": _thing("table", "1", 30, 10, 10),
        "list": [],
        "odd": {**_thing("cup", 1, 3, 10, 10), "relations": {"object": "good"}},
    }
    scenes = {
        "1": {"width": 64, "height": 48, "objects": objects},
        "2": {"width": 0, "height": 48, "objects": {}},
        "../3": {"width": 64, "height": 48, "objects": {}},
        "4": {"width": 64, "height": 48, "objects": []},
    }
    write_json(tmp_path / "train_sceneGraphs.json", scenes)
    readings = collect(open_gqa_scenes(tmp_path))
    assert codes(readings) == {
        "bad_number": 3,
        "box_degenerate": 1,
        "box_outside": 1,
        "bad_record": 6,
        "unknown_annotation": 2,
        "path_escape": 1,
    }
    assert notes(readings) == {"box_clipped": 1}
    sample = readings["1"].sample
    assert sample is not None
    assert [instance.category for instance in sample.instances] == ["lamp", "cup"]


def test_a_scene_that_comes_twice_is_two_problems_in_one(tmp_path: Path) -> None:
    one = '"1": {"width": 64, "height": 48, "objects": {}}'
    (tmp_path / "train_sceneGraphs.json").write_text(f"{{{one}, {one}}}")
    assert codes(collect(open_gqa_scenes(tmp_path))) == {"duplicate_image": 1}

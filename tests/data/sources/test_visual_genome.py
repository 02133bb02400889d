import math
from pathlib import Path
from typing import Any

import pytest
from data.sources.reading import codes, collect, notes, samples, write_json
from hypothesis import given, settings
from hypothesis import strategies as st

from deixis.data.scenes import draw_scene, scene_sample
from deixis.data.scenes.export import write_scenes
from deixis.data.sources import open_source
from deixis.data.sources.visual_genome import FILES, open_visual_genome
from deixis.data.wording import REGION_SLOT
from deixis.errors import AnnotationError
from deixis.geometry import Box, ImageSize
from deixis.structures import Instance, QuestionAnswer, Relation

IMAGE = {
    "image_id": 1,
    "url": "https://cs.stanford.edu/people/rak248/VG_100K_2/1.jpg",
    "width": 800,
    "height": 600,
}


def _object(number: Any, **changed: Any) -> dict[str, Any]:
    made = {"object_id": number, "x": 10, "y": 20, "w": 30, "h": 40, "names": ["dog"]}
    return {name: value for name, value in {**made, **changed}.items() if value is not ...}


def _relation(subject: Any, target: Any, predicate: Any = "near") -> dict[str, Any]:
    return {"predicate": predicate, "subject": subject, "object": target}


def _write(root: Path, **files: Any) -> Path:
    lists = {"region_descriptions": "regions", "question_answers": "qas"}
    for name, content in files.items():
        if name != "image_data":
            key = lists.get(name, name)
            content = [{"image_id": 1, key: content}]  # noqa: PLW2901
        write_json(root / f"{name}.json", content)
    if "image_data" not in files:
        write_json(root / "image_data.json", [IMAGE])
    return root


@pytest.mark.shared_data
def test_original_records_are_read_correctly(shared_data: Path) -> None:
    source = open_visual_genome(shared_data / "formats" / "visual_genome")
    (sample,) = samples(source).values()
    assert sample.size == ImageSize(600, 800)
    assert sample.image == shared_data / "formats" / "visual_genome" / "VG_100K_2" / "1.jpg"
    assert sample.instances == (
        Instance("clock", Box(421, 91, 500, 430), attributes=("green", "tall")),
        Instance("street", Box(77, 328, 791, 590), attributes=("sidewalk",)),
        Instance("shade", Box(119, 338, 393, 530)),
        # in no other file than relationships
        Instance("bikes", Box(321, 319, 361, 354)),
        Instance("tree", Box(249, 0, 425, 360)),
    )
    # the sidewalk is the street: their numbers were merged
    assert sample.relations == (Relation(2, "on", 1), Relation(3, "near", 4))
    texts = [(one.kind, one.answer, one.region) for one in sample.questions]
    assert texts[1] == ("description", "shade is along the street", Box(194, 372, 376, 481))
    assert texts[-1] == ("vqa", "Green.", None)
    assert sample.questions[-1].question == "What color is the clock?"
    assert len(texts) == 5
    assert not sample.exhaustive


def test_drawn_scenes_read_back_exactly(tmp_path: Path) -> None:
    write_scenes(tmp_path, split="val", count=5, format="visual_genome", level="hard", seed=11)
    found = samples(open_visual_genome(tmp_path, split="val"))
    assert list(found) == ["1", "2", "3", "4", "5"]
    for index in range(5):
        drawn = scene_sample(draw_scene(11, index, level="hard", split="val"))
        read = found[str(index + 1)]
        assert read.size == drawn.size
        assert read.image == tmp_path / "VG_100K" / f"{index + 1}.png"
        assert [(one.box, one.attributes) for one in read.instances] == [
            (one.box, one.attributes) for one in drawn.instances
        ]
        for mine, theirs in zip(read.instances, drawn.instances, strict=True):
            symbol = theirs.attributes[-1] if theirs.category in {"letter", "digit"} else ""
            assert mine.category == f"{theirs.category} {symbol}".strip()
        assert read.relations == drawn.relations
        described = [
            QuestionAnswer(
                f"What is {REGION_SLOT}?",
                one.answer.rstrip("."),
                region=drawn.instances[one.instance].box,
                kind="description",
            )
            for one in drawn.questions
            if one.kind == "description" and one.instance is not None
        ]
        asked = [
            QuestionAnswer(one.question, one.answer)
            for one in drawn.questions
            if one.instance is None and REGION_SLOT not in one.question
        ]
        assert read.questions == (*described, *asked)


def test_both_versions_give_the_same_samples(tmp_path: Path) -> None:
    """Names and name, merged numbers, missing and blank attributes, blanks, capitals, repeats."""
    objects = [
        _object(1, names=[" big  dog ", "animal"], merged_object_ids=[7, 8]),
        _object(2, names=..., name="street\n"),
        _object(3, names=["cat"], merged_object_ids=None),
    ]
    attributes = [
        _object(1, attributes=["brown ", "", " brown", "old  and wise"]),
        _object(7, names=["puppy"], attributes=["small"]),
        _object(2, attributes=None),
        _object(3),
    ]
    relationships = [
        _relation(_object(8), _object(2), " Standing  ON "),
        _relation(_object(1), _object(2), "standing on"),
        _relation(_object(1), _object(7), "near"),
        _relation(_object(9, names=["man"], merged_object_ids=[10]), _object(10)),
        _relation(_object(9), _object(3), "WITH"),
        _relation(_object(10), _object(3), "of"),
    ]
    regions = [{"phrase": " a  dog \n", "x": 1, "y": 2, "width": 3, "height": 4}]
    _write(
        tmp_path,
        objects=objects,
        attributes=attributes,
        relationships=relationships,
        region_descriptions=regions,
    )
    readings = collect(open_visual_genome(tmp_path))
    assert codes(readings) == {}
    sample = readings["1"].sample
    assert sample is not None
    assert [(one.category, one.attributes) for one in sample.instances] == [
        ("big dog", ("brown", "old and wise", "small")),
        ("street", ()),
        ("cat", ()),
        ("man", ()),
    ]
    assert sample.relations == (
        *(Relation(0, "standing on", 1), Relation(3, "with", 2), Relation(3, "of", 2)),
    )
    assert [one.answer for one in sample.questions] == ["a dog"]
    assert notes(readings) == {"blank_attribute": 1, "relation_merged": 2, "relation_twice": 1}


def test_objects_are_exhaustive_only_with_the_option(tmp_path: Path) -> None:
    whole, faulty, unlisted = tmp_path / "whole", tmp_path / "faulty", tmp_path / "unlisted"
    objects = [_object(1), _object(2, names=["cat"])]
    _write(whole, objects=objects)
    _write(faulty, objects=[*objects, _object(3, w=0)])
    # attributes speak of an object, and nothing lists them all
    _write(unlisted, attributes=[_object(1)])
    found = {
        (folder.name, exhaustive): reading.sample.exhaustive
        for folder in (whole, faulty, unlisted)
        for exhaustive in (False, True)
        for reading in collect(open_visual_genome(folder, exhaustive=exhaustive)).values()
        if reading.sample is not None
    }
    assert found == dict.fromkeys(found, False) | {("whole", True): True}
    assert len(found) == 6


def test_the_rules_of_pink_set_the_option_and_a_spec_overrides_it(tmp_path: Path) -> None:
    _write(tmp_path, objects=[_object(1)])
    spec = f"visual_genome:{tmp_path}"
    plain, pink = open_source(spec), open_source(spec, rules="pink")
    assert (plain.spec, pink.spec) == (spec, f"{spec},exhaustive=true")
    refused = open_source(f"{spec},exhaustive=false", rules="pink")
    found = [samples(one.source)["1"].exhaustive for one in (plain, pink, refused)]
    assert found == [False, True, False]
    # the option is of this format alone
    assert open_source("scenes:val,count=1", rules="pink").spec == "scenes:val,count=1"


def test_a_box_a_little_outside_is_clipped(tmp_path: Path) -> None:
    _write(tmp_path, objects=[_object(1, x=-1, w=803)])
    readings = collect(open_visual_genome(tmp_path))
    assert notes(readings) == {"box_clipped": 1}
    assert readings["1"].sample is not None
    assert readings["1"].sample.instances[0].box == Box(0, 20, 800, 60)


def test_only_the_image_data_and_one_more_have_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"expected image_data\.json and some of"):
        open_visual_genome(tmp_path)
    _write(tmp_path, image_data=[IMAGE])
    with pytest.raises(AnnotationError, match=r"found \['image_data'\]"):
        open_visual_genome(tmp_path)
    _write(tmp_path, question_answers=[{"question": "what?", "answer": "that"}])
    source = open_visual_genome(tmp_path, images=tmp_path / "pictures")
    assert [Path(name).name for name in source.files] == [
        "image_data.json",
        "question_answers.json",
    ]
    (sample,) = samples(source).values()
    assert sample.image == tmp_path / "pictures" / "VG_100K_2" / "1.jpg"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"w": 0}, "box_degenerate"),
        ({"h": 0}, "box_degenerate"),
        ({"h": -3}, "box_degenerate"),
        ({"x": 900}, "box_outside"),
        ({"x": math.nan}, "bad_number"),
        ({"y": "20"}, "bad_number"),
        ({"x": ...}, "bad_record"),
        ({"names": []}, "bad_record"),
        ({"names": [" "]}, "bad_text"),
        ({"names": [3]}, "bad_record"),
        ({"names": ...}, "bad_record"),
        ({"names": ["\ud800"]}, "bad_encoding"),
        ({"merged_object_ids": "7"}, "bad_record"),
        ({"merged_object_ids": [1.5]}, "bad_number"),
    ],
)
def test_an_object_that_cannot_be_used_takes_its_relations_with_it(
    tmp_path: Path, changed: dict[str, Any], code: str
) -> None:
    bad = _object(5, **changed)
    _write(
        tmp_path,
        objects=[_object(1), bad, _object(2)],
        relationships=[_relation(_object(1), bad), _relation(_object(1), _object(2))],
    )
    readings = collect(open_visual_genome(tmp_path))
    found = codes(readings)
    assert found.pop(code) in {1, 2}
    assert found in ({}, {"unknown_annotation": 1})
    sample = readings["1"].sample
    assert sample is not None
    assert len(sample.instances) == 2
    assert sample.relations == (Relation(0, "near", 1),)


@pytest.mark.parametrize(
    ("name", "item", "code"),
    [
        ("objects", "dog", "bad_record"),
        ("objects", _object(...), "bad_record"),
        ("objects", _object(1), "duplicate_annotation"),
        ("objects", _object(None), "bad_number"),
        ("attributes", _object(1, attributes="brown"), "bad_record"),
        ("attributes", _object(1, attributes=[None]), "bad_record"),
        ("relationships", _relation(_object(1), _object(1)), "bad_record"),
        ("relationships", _relation(_object(1), _object(2), " "), "bad_text"),
        ("relationships", _relation(_object(1), _object(2), None), "bad_record"),
        ("relationships", {"predicate": "on", "subject": _object(1)}, "bad_record"),
        ("relationships", _relation(_object(1), 2), "bad_record"),
        ("region_descriptions", {"phrase": "x", "x": 1, "y": 1, "width": 1}, "bad_record"),
        ("region_descriptions", {"phrase": "", **dict.fromkeys("xy", 1)}, "bad_text"),
        ("question_answers", {"question": "what?"}, "bad_record"),
        ("question_answers", {"question": "what?", "answer": " "}, "bad_text"),
        ("question_answers", {"question": ["what"], "answer": "a"}, "bad_record"),
    ],
)
def test_an_item_that_cannot_be_used_is_left_out(
    tmp_path: Path, name: str, item: Any, code: str
) -> None:
    files: dict[str, Any] = {"objects": [_object(1), _object(2)]}
    files[name] = [*files.get(name, []), item]
    _write(tmp_path, **files)
    readings = collect(open_visual_genome(tmp_path))
    assert codes(readings) == {code: 1}
    number = 2 if name == "objects" else 0
    assert readings["1"].problems[0].place.endswith(f"[{number}]")
    assert readings["1"].sample is not None


@pytest.mark.parametrize(
    ("images", "code"),
    [
        ([], "unknown_image"),
        ([IMAGE, IMAGE], "duplicate_image"),
        ([{**IMAGE, "width": 0}], "bad_number"),
        ([{**IMAGE, "url": "https://x/../1.jpg"}], "path_escape"),
        ([{**IMAGE, "url": "https://x/VG/\x01.jpg"}], "path_escape"),
        ([{**IMAGE, "url": None}], "bad_record"),
        ([{"image_id": 1}], "bad_record"),
    ],
)
def test_an_image_that_cannot_be_used_is_one_problem(
    tmp_path: Path, images: list[Any], code: str
) -> None:
    _write(tmp_path, image_data=images, objects=[_object(1)])
    readings = collect(open_visual_genome(tmp_path))
    assert codes(readings) == {code: 1}
    assert readings["1"].sample is None


def test_records_of_no_image_and_second_records_are_problems(tmp_path: Path) -> None:
    _write(tmp_path, objects=[_object(1)])
    content = [{"image_id": 1, "objects": [_object(1)]}, {"image_id": 1, "objects": [_object(2)]}]
    write_json(tmp_path / "objects.json", [*content, {"objects": []}, 7, {"image_id": 404}])
    readings = collect(open_visual_genome(tmp_path))
    assert codes(readings) == {"bad_record": 2, "duplicate_annotation": 1, "unknown_image": 1}
    assert readings["1"].sample is not None
    assert len(readings["1"].sample.instances) == 1


def test_files_of_another_shape_are_refused(tmp_path: Path) -> None:
    _write(tmp_path, objects=[])
    (tmp_path / "objects.json").write_text('{"objects": []}')
    with pytest.raises(AnnotationError, match=r"objects\.json: at character 0: expected a list"):
        collect(open_visual_genome(tmp_path))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 900) | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["object_id", "names", "x", "y", "w", "h", "predicate", "phrase"]),
            inner,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(items=st.lists(st.tuples(st.sampled_from(FILES[1:]), ANYTHING), max_size=5))
def test_any_items_are_read_or_are_problems(
    tmp_path_factory: pytest.TempPathFactory, items: list[tuple[str, Any]]
) -> None:
    root = tmp_path_factory.mktemp("vg")
    files: dict[str, list[Any]] = {"objects": [_object(1)]}
    for name, item in items:
        files.setdefault(name, []).append(item)
    _write(root, **files)
    (reading,) = collect(open_visual_genome(root)).values()
    assert reading.sample is not None

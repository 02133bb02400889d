"""Objects and captions of GranD."""

from pathlib import Path
from typing import Any

import pytest
from data.sources.pictures import picture
from data.sources.reading import codes, collect, notes, samples, write_json

from deixis.data.sources.grand import open_grand
from deixis.errors import AnnotationError
from deixis.geometry import Box


def _thing(number: object, box: object, *labels: str, **more: Any) -> dict[str, Any]:
    return {"id": number, "bbox": box, "labels": list(labels), "attributes": None, **more}


def _file(folder: Path, name: str, **fields: Any) -> Path:
    picture(folder / name, 100, 80)
    write_json(folder / f"{Path(name).stem}.json", {name: {"objects": [], **fields}})
    return folder


def test_phrases_are_found_in_every_caption(tmp_path: Path) -> None:
    folder = _file(
        tmp_path,
        "sa_1.jpg",
        objects=[_thing(0, [10, 10, 40, 40], "hot-air_balloon", "balloon")],
        floating_objects=[_thing(7, [0, 50, 100, 80], "river")],
        captions=["A balloon over a river", "here is a BALLOON, and no balloonist"],
        relationships={
            "object_ids": [0],
            "grounding": [
                {"phrase": "a balloon", "object_ids": [0]},
                {"phrase": "A balloon over a river", "object_ids": [0], "floating_object_ids": [7]},
                {"phrase": "balloonists", "object_ids": [0]},
                {"phrase": "a river", "object_ids": [9]},
            ],
        },
    )
    readings = collect(open_grand(folder))
    assert codes(readings) == {"span_damaged": 1, "unknown_annotation": 1}
    sample = readings["sa_1.jpg"].sample
    assert sample is not None
    assert [instance.category for instance in sample.instances] == ["hot-air balloon", "river"]
    first, second = sample.captions
    assert [phrase.text for phrase in first.phrases] == ["A balloon over a river", "A balloon"]
    assert len(first.phrases[0].boxes) == 2
    assert [phrase.text for phrase in second.phrases] == ["a BALLOON"]
    assert second.phrases[0].boxes == (Box(10, 10, 40, 40),)


def test_details_of_the_release_are_offsets_or_words(tmp_path: Path) -> None:
    mask = {"size": [80, 100], "counts": [0, 8000]}
    caption = " A man rides a horse."
    folder = _file(
        tmp_path,
        "sa_2.jpg",
        objects=[
            _thing(0, [0, 0, 100, 80], "man", segmentation=mask),
            _thing(1, [10, 10, 60, 70], "horse", segmentation=mask),
        ],
        short_captions=[
            {
                "caption": caption,
                "details": [
                    {"phrase": "A man", "tokens_positive": [1, 6], "id": 0},
                    {"phrase": "a horse", "tokens_positive": [[13, 20]], "id": 1},
                    {"phrase": "rides a", "tokens_positive": [7, 14], "id": 1},
                    {"phrase": "rides", "tokens_positive": [7, 99], "id": 1},
                    {"phrase": "A man", "tokens_positive": [1], "id": 1},
                ],
            },
            {"details": []},
        ],
        dense_caption={
            "caption": "It shows a horse.",
            "details": [{"phrase": "a horse", "ids": [1]}],
        },
    )
    readings = collect(open_grand(folder))
    assert codes(readings) == {"span_damaged": 1, "bad_record": 2}
    assert notes(readings) == {"phrase_crossing": 1}
    sample = readings["sa_2.jpg"].sample
    assert sample is not None
    short, dense = sample.captions
    assert [phrase.text for phrase in short.phrases] == ["A man", "rides a"]
    assert [phrase.text for phrase in dense.phrases] == ["a horse"]
    assert dense.phrases[0].groups[0].unit_types == ("box", "mask")


def test_attributes_describe_objects_and_unique_ones_are_expressions(tmp_path: Path) -> None:
    folder = _file(
        tmp_path,
        "sa_3.jpg",
        objects=[
            _thing(0, [0, 0, 10, 10], "chair", attributes=["istant: the red chair", "a chair"]),
            _thing(1, [0, 0, 20, 10], "chair", attributes="Assistant: A chair"),
        ],
        floating_attributes=[{"bbox": [0, 0, 1, 1], "labels": [], "attributes": ["blue"]}],
    )
    (sample,) = samples(open_grand(folder)).values()
    assert [(one.text, one.instances) for one in sample.expressions] == [("the red chair", (0,))]
    described = [(one.instance, one.answer, one.kind) for one in sample.questions]
    assert described == [
        (0, "the red chair", "description"),
        (0, "a chair", "description"),
        (1, "A chair", "description"),
    ]
    assert notes(collect(open_grand(folder))) == {"without_label": 1}


def test_hostile_objects_and_files_are_problems(tmp_path: Path) -> None:
    _file(
        tmp_path,
        "sa_4.jpg",
        objects=[
            _thing(0, [0, 0, 101.9, 10], "edge"),
            _thing(1, [0, 0, 120, 10], "outside"),
            _thing(2, [0, 0, float("inf"), 10], "endless"),
            _thing(3, [5, 5, 5, 9], "thin"),
            _thing(4, [0.1, 0.1, 0.2, 0.2], "fraction"),
            _thing(0, [0, 0, 10, 10], "again"),
            _thing(5, [0, 0, 10, 10]),
            _thing(None, [0, 0, 10, 10], "nameless"),
            _thing(6, [0, 0, 10], "three"),
            _thing(7, [0, 0, 9, 9], "mask", segmentation={"size": [80, 100], "counts": [1, 2]}),
            "thing",
        ],
        captions=["", 4],
    )
    write_json(tmp_path / "list.json", [])
    (tmp_path / "cut.json").write_text('{"a.jpg": {')
    write_json(tmp_path / "out.json", {"../sa_4.jpg": {}})
    readings = collect(open_grand(tmp_path))
    assert codes(readings) == {
        "box_outside": 1,
        "bad_number": 2,
        "box_degenerate": 1,
        "box_layout": 1,
        "duplicate_annotation": 1,
        "bad_record": 5,
        "mask_damaged": 1,
        "bad_text": 1,
        "bad_json": 1,
        "path_escape": 1,
    }
    assert notes(readings) == {"box_clipped": 1}
    with pytest.raises(AnnotationError, match="expected JSON files"):
        open_grand(tmp_path / "nowhere")


@pytest.mark.parametrize(("right", "expected"), [(101.99, {}), (102.01, {"box_outside": 1})])
def test_a_detectors_box_may_leave_by_a_fiftieth_of_the_side(
    tmp_path: Path, right: float, expected: dict[str, int]
) -> None:
    _file(tmp_path, "sa_4.jpg", objects=[_thing(0, [0, 0, right, 10], "edge")])
    assert codes(collect(open_grand(tmp_path))) == expected


@pytest.mark.shared_data
@pytest.mark.parametrize("level", ["level_3_dense_caption", "level_4_extra_context"])
def test_true_files_of_grand_are_read(shared_data: Path, tmp_path: Path, level: str) -> None:
    folder = shared_data / "formats" / "grand" / "GranD" / level / "in_context_examples"
    for name in ("sa_302406.jpg", "sa_310343.jpg"):
        picture(tmp_path / name, 2250, 1500)
    readings = collect(open_grand(folder, images=tmp_path))
    # one id of the first file is given to two objects
    assert codes(readings) == {"duplicate_annotation": 1}
    first, second = (reading.sample for reading in readings.values())
    assert first is not None
    assert second is not None
    assert (len(first.instances), len(second.instances)) == (193, 29)
    assert [[phrase.text for phrase in one.phrases] for one in second.captions] == [
        ["a hot air balloon flying over a river", "a hot air balloon"],
        [
            "a hot air balloon",
            "a beautiful view of the cityscape and a river below",
            "a serene and picturesque scene",
        ],
    ]
    assert "a yellow, red and blue hot air balloon" in [one.text for one in second.expressions]

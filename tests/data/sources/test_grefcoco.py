from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.sources.reading import codes, collect, notes, samples, write_json

from deixis.data.sources import open_source
from deixis.data.sources.grefcoco import open_grefcoco
from deixis.data.sources.refcoco import open_refcoco
from deixis.data.tasks import TASKS
from deixis.data.tasks.rules import DEFAULT_RULES
from deixis.errors import AnnotationError
from deixis.structures import Expression

NAME = "COCO_train2014_000000000007.jpg"


def _ref(number: int, targets: Any, text: str, **more: Any) -> dict[str, Any]:
    return {
        "ref_id": number,
        "ann_id": targets,
        "image_id": 7,
        "split": "val",
        "category_id": [1 for _ in targets] if isinstance(targets, list) else 1,
        "file_name": NAME,
        "sent_ids": [number],
        "sentences": [
            {"tokens": text.split(), "raw": text, "sent": text, "exist": targets != [-1]}
        ],
        "no_target": targets == [-1],
        **more,
    }


def _annotation(number: int, left: int, **more: Any) -> dict[str, Any]:
    box = {"bbox": [left, 10, 30, 40], "segmentation": [], "iscrowd": 0}
    return {"id": number, "image_id": 7, "category_id": 1, **box, **more}


def _write(root: Path, *refs: dict[str, Any], broken: bool = False) -> Path:
    folder = root / "grefcoco"
    write_json(folder / "grefs(unc).json", list(refs))
    image = {"id": 7, "file_name": NAME, "width": 200, "height": 100}
    second = _annotation(12, 100, bbox=[100, 10, 0, 0] if broken else [100, 10, 30, 40])
    content = {
        "images": [image],
        "annotations": [_annotation(11, 10), second],
        "categories": [{"id": 1, "name": "person"}],
    }
    write_json(folder / "instances.json", content)
    return folder


REFS = (
    _ref(0, [11, 12], "both people"),
    _ref(1, [-1], "the zebra"),
    _ref(2, [11], "person on left"),
)
EXPECTED = (
    Expression("both people", (0, 1)),
    Expression("the zebra", ()),
    Expression("person on left", (0,)),
)


@pytest.mark.parametrize("spelling", ["grefcoco:{}", "refcoco:{}", "refcoco:{}/grefs(unc).json"])
def test_an_expression_refers_to_one_several_or_no_instances(tmp_path: Path, spelling: str) -> None:
    folder = _write(tmp_path, *REFS)
    spec = f"{spelling.format(folder)},split=val"
    sample = samples(open_source(spec).source)["7"]
    assert sample.expressions == EXPECTED
    assert sample.exhaustive
    assert [one.box.x1 for one in sample.instances] == [10, 100]


def test_an_expression_without_target_is_asked_and_denied(tmp_path: Path) -> None:
    sample = samples(open_grefcoco(_write(tmp_path, *REFS), split="val"))["7"]
    rng = np.random.default_rng(0)
    turns = TASKS["absent"].make(sample, rng, DEFAULT_RULES)
    (answer,) = [turn.answer for turn in turns]
    assert answer is not None
    assert (answer.text, answer.phrases) == ("There is no zebra.", ())
    several = TASKS["rec"].make(
        samples(open_grefcoco(_write(tmp_path, REFS[0]), split="val"))["7"], rng, DEFAULT_RULES
    )
    assert several[0].answer is not None
    assert len(several[0].answer.phrases[0].boxes) == 2


def test_an_annotation_that_is_named_twice_counts_once(tmp_path: Path) -> None:
    readings = collect(open_grefcoco(_write(tmp_path, _ref(0, [11, 11], "he")), split="val"))
    assert notes(readings) == {"target_named_twice": 1}
    assert readings["7"].sample is not None
    assert readings["7"].sample.expressions == (Expression("he", (0,)),)


@pytest.mark.parametrize(
    ("ref", "code"),
    [
        (_ref(0, [11, 99], "both"), "unknown_annotation"),
        (_ref(0, [11, -1], "both"), "bad_record"),
        (_ref(0, [], "nothing"), "bad_record"),
        (_ref(0, [-1], "nothing", no_target=False), "bad_record"),
        (_ref(0, [11], "he", no_target=True), "bad_record"),
        (_ref(0, [11], "he", no_target="no"), "bad_record"),
        (_ref(0, [11.5], "he"), "bad_number"),
        (_ref(0, ["11"], "he"), "bad_number"),
        (_ref(0, [[11]], "he"), "bad_number"),
        (_ref(0, {"a": 1}, "he"), "bad_number"),
    ],
)
def test_a_ref_that_cannot_be_used_is_left_out(
    tmp_path: Path, ref: dict[str, Any], code: str
) -> None:
    readings = collect(open_grefcoco(_write(tmp_path, ref, REFS[2]), split="val"))
    assert codes(readings) == {code: 1}
    sample = readings["7"].sample
    assert sample is not None
    assert sample.expressions == (EXPECTED[2],)
    assert not sample.exhaustive


def test_a_ref_to_a_lost_annotation_is_left_out(tmp_path: Path) -> None:
    readings = collect(open_grefcoco(_write(tmp_path, *REFS, broken=True), split="val"))
    assert codes(readings) == {"box_degenerate": 1, "unknown_annotation": 1}
    sample = readings["7"].sample
    assert sample is not None
    assert [one.text for one in sample.expressions] == ["the zebra", "person on left"]


def test_folders_without_one_file_of_refs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"expected one file grefs\(unc\).json, found \[\]"):
        open_grefcoco(tmp_path, split="val")
    with pytest.raises(AnnotationError, match="does not exist, expected a folder or file of refs"):
        open_grefcoco(tmp_path / "none", split="val")
    with pytest.raises(AnnotationError, match="split '': expected one of"):
        open_grefcoco(_write(tmp_path, *REFS))
    assert open_refcoco(tmp_path / "grefcoco", split="val").refs[0].name == ("grefs(unc).json")

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answer_keys import LIMIT, KeyPredictor, build_key, first_examples, true_answer

from deixis.errors import BenchmarkError
from deixis.evaluation import Example, evaluate, score

REC = "scenes/rec:val@standard"
RES = "scenes/res:val@standard"
Rows = list[dict[str, Any]]


@pytest.fixture
def rows(oracle: KeyPredictor, tmp_path: Path) -> Rows:
    evaluate(oracle, [REC], limit=LIMIT, out=tmp_path / "run")
    text = (tmp_path / "run" / "predictions.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def write(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_file_has_the_scores_of_the_run_that_wrote_it(
    oracle: KeyPredictor, rows: Rows, tmp_path: Path
) -> None:
    own = evaluate(oracle, [REC], limit=LIMIT)
    read = score(REC, write(tmp_path / "p.jsonl", rows), limit=LIMIT)
    assert read[REC].scores == own[REC].scores
    assert read[REC].protocol.examples_sha256 == own[REC].protocol.examples_sha256
    assert read[REC].protocol.predictor.name == "p.jsonl"


def test_the_order_of_lines_does_not_matter(rows: Rows, tmp_path: Path) -> None:
    shuffled = [rows[index] for index in np.random.default_rng(0).permutation(LIMIT)]
    assert score(REC, write(tmp_path / "p.jsonl", shuffled), limit=LIMIT)[REC].headline == 1.0


def test_a_bare_file_of_ids_and_boxes_is_enough(rows: Rows, tmp_path: Path) -> None:
    bare = [{"id": row["id"], "references": [{"box": row["references"][0]["box"]}]} for row in rows]
    path = write(tmp_path / "p.jsonl", bare)
    path.write_text(path.read_text().replace("\n", "\r\n\r\n"))
    assert score(REC, path, limit=LIMIT)[REC].headline == 1.0


def test_lines_of_other_benchmarks_are_ignored(tmp_path: Path) -> None:
    examples = [*first_examples(REC), *first_examples(RES)]
    evaluate(build_key(examples, true_answer), [REC, RES], limit=LIMIT, out=tmp_path)
    for name in (REC, RES):
        assert score(name, tmp_path / "predictions.jsonl", limit=LIMIT)[name].headline == 1.0


def test_one_file_may_hold_every_level(tmp_path: Path) -> None:
    examples = first_examples("scenes/rec:val", limit=2)
    bare = [{"id": e.id, "references": [{"box": list(e.boxes[0].as_array())}]} for e in examples]
    report = score("scenes/rec:val", write(tmp_path / "p.jsonl", bare), limit=2)
    assert [result.headline for result in report.results] == [1.0, 1.0, 1.0]


def test_text_alone_is_enough_for_tasks_that_score_text(tmp_path: Path) -> None:
    examples = first_examples("scenes/vqa:val@plain", limit=3)
    bare = [{"id": example.id, "text": example.texts[0]} for example in examples]
    report = score("scenes/vqa:val@plain", write(tmp_path / "p.jsonl", bare), limit=3)
    assert report.results[0].headline == 1.0


def test_null_is_unparsed_and_an_empty_list_is_declined(
    rec_examples: list[Example], tmp_path: Path
) -> None:
    bare: Rows = [{"id": example.id, "references": None} for example in rec_examples]
    bare[0]["references"] = []
    (result,) = score(REC, write(tmp_path / "p.jsonl", bare), limit=LIMIT).results
    assert result.scores["rec"].num_unparsed == LIMIT - 1


def test_missing_predictions_count_as_wrong_when_allowed(rows: Rows, tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", rows[:3])
    report = score(REC, path, limit=6, allow_missing=True)
    assert report[REC].headline == report[REC].coverage == 0.5
    assert report[REC].scores["rec"].num_unparsed == 3


def change(index: int, **fields: object) -> Callable[[Rows], Rows]:
    def apply(rows: Rows) -> Rows:
        rows[index] |= fields
        return rows

    return apply


def refer(**fields: object) -> Callable[[Rows], Rows]:
    return change(1, references=[fields])


def beyond(pixels: float, edge: int) -> Callable[[Rows], Rows]:
    """The whole picture as a box, with one edge moved."""

    def apply(rows: Rows) -> Rows:
        height, width = rows[1]["size"]
        box = [0, 0, width, height]
        box[edge] += pixels
        rows[1]["references"] = [{"box": box}]
        return rows

    return apply


def without(key: str) -> Callable[[Rows], Rows]:
    def apply(rows: Rows) -> Rows:
        del rows[1][key]
        return rows

    return apply


def normalized(rows: Rows) -> Rows:
    for row in rows:
        height, width = row["size"]
        x1, y1, x2, y2 = row["references"][0]["box"]
        row["references"] = [{"box": [x1 / width, y1 / height, x2 / width, y2 / height]}]
    return rows


NAN, INFINITY = float("nan"), float("inf")

CORRUPTIONS: dict[str, tuple[Callable[[Rows], Rows], str]] = {
    "missing one": (lambda rows: rows[1:], r"1 missing ids \('scenes/val/"),
    "missing all": (lambda _: [], r"7 missing ids \('.*', '.*', \.\.\.\)"),
    "extra": (lambda rows: [*rows, rows[0] | {"id": "x"}], r"1 extra ids \(line 8: 'x'\)"),
    "identical twice": (lambda rows: [*rows, rows[0]], "1 duplicate ids, identical"),
    "conflicting": (
        lambda rows: [*rows, rows[0] | {"text": "other"}],
        "1 duplicate ids, conflicting",
    ),
    "named and nameless": (
        lambda rows: [*rows, {"id": rows[0]["id"], "references": None}],
        "1 duplicate ids, conflicting",
    ),
    "int id": (change(1, id=7), "id 7 is not a string"),
    "id 0": (change(1, id=0), "id 0 is not a string"),
    "null id": (change(1, id=None), "id None is not a string"),
    "no id": (without("id"), "id None is not a string"),
    "id of a split": (change(1, id="scenes/testA/1"), "1 extra ids"),
    "unknown field": (change(1, bbox=[1, 2, 3, 4]), "unknown field 'bbox'"),
    "unknown benchmark": (change(1, benchmark="coco"), "unknown benchmark 'coco'"),
    "benchmark number": (change(1, benchmark=3), "benchmark is not a string"),
    "no references": (without("references"), "has no references"),
    "references object": (change(1, references={}), "references is neither null nor a list"),
    "reference list": (change(1, references=[[1, 2, 3, 4]]), "a reference is not an object"),
    "reference field": (refer(bbox=[1, 2, 3, 4]), "a reference is not an object of box"),
    "nan box": (refer(box=[NAN, 0, 1, 1]), "NaN is not a number"),
    "infinite box": (refer(box=[0, 0, INFINITY, 1]), "Infinity is not a number"),
    "nan score": (refer(box=[0, 0, 1, 1], score=NAN), "NaN is not a number"),
    "score over one": (refer(score=1.5), r"score 1.5 is not a number in \[0, 1\]"),
    "score true": (refer(score=True), r"score True is not a number in \[0, 1\]"),
    "score words": (refer(score="0.5"), r"score 0.5 is not a number in \[0, 1\]"),
    "inverted box": (refer(box=[5, 0, 1, 1]), "expected x2 > x1"),
    "short box": (refer(box=[5, 0, 6]), "expected a list of 4 numbers"),
    "box of words": (refer(box=["1", 0, 6, 7]), "expected a number"),
    "box over the right by more than a pixel": (beyond(1.01, 2), r"box .* does not fit a"),
    "box over the bottom by more than a pixel": (beyond(1.01, 3), r"box .* does not fit a"),
    "box over the left by more than a pixel": (beyond(-1.01, 0), r"box .* does not fit a"),
    "box over the top by more than a pixel": (beyond(-1.01, 1), r"box .* does not fit a"),
    "box outside": (refer(box=[0, 0, 900, 10]), r"box .* does not fit a"),
    "normalised": (normalized, r"boxes that look normalised to \[0, 1\]"),
    "mask of another size": (
        refer(mask={"size": [3, 4], "counts": [12]}),
        "expected the image's size",
    ),
    "mask too short": (refer(mask={"size": [1, 1], "counts": "0"}), "expected the image's size"),
    "mask words": (refer(mask="x"), "expected an object with size and counts"),
    "size swapped": (change(1, size=[1, 2]), r"is about an image of size \[1, 2\], expected"),
    "other version": (change(1, example="0" * 16), "made for another version of the example"),
    "text number": (change(1, text=3), "text or finish_reason is not a string"),
    "problem numbers": (change(1, problems=[1]), "problems is not a list of strings"),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_damaged_file_is_refused_with_its_problem(name: str, rows: Rows, tmp_path: Path) -> None:
    corrupt, message = CORRUPTIONS[name]
    path = write(tmp_path / "p.jsonl", corrupt(rows))
    with pytest.raises(BenchmarkError, match=message) as caught:
        score(REC, path, limit=LIMIT)
    assert str(caught.value).startswith(f"{path}: not scored: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("pixels", "edge"), [(-0.99, 0), (-0.99, 1), (0.99, 2), (0.99, 3)])
def test_a_box_may_exceed_its_image_by_a_pixel(
    rows: Rows, tmp_path: Path, pixels: float, edge: int
) -> None:
    path = write(tmp_path / "p.jsonl", beyond(pixels, edge)(rows))
    assert score(REC, path, limit=LIMIT)[REC].scores["rec"].num_unparsed == 0


def test_every_kind_of_problem_is_counted(rows: Rows, tmp_path: Path) -> None:
    corrupt = [rows[0], rows[0], rows[1] | {"id": 3}, {"id": "x"}, {"id": "y"}, {"id": "z"}]
    with pytest.raises(BenchmarkError) as caught:
        score(REC, write(tmp_path / "p.jsonl", corrupt), limit=LIMIT)
    message = str(caught.value)
    assert "1 invalid lines (line 3: id 3 is not a string)" in message
    assert "1 duplicate ids, identical" in message
    assert "6 missing ids" in message
    assert "3 extra ids (line 4: 'x', line 5: 'y', ...)" in message


LINES = {
    "cut": (b'{"id": "a", "refer', "not JSON"),
    "list": (b"[1]", "not a JSON object"),
    "two keys": (b'{"id": "a", "id": "b"}', "not JSON: a key is repeated"),
    "deep": (b"[" * 100_000, "not JSON"),
    "long number": (b'{"id": ' + b"9" * 5000 + b"}", "not JSON"),
}


@pytest.mark.parametrize("name", LINES)
def test_a_line_that_is_not_a_row_is_named(name: str, rows: Rows, tmp_path: Path) -> None:
    line, message = LINES[name]
    path = write(tmp_path / "p.jsonl", rows)
    path.write_bytes(path.read_bytes() + line)
    with pytest.raises(BenchmarkError, match=rf"1 invalid lines \(line 8: {message}"):
        score(REC, path, limit=LIMIT)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(pickle.dumps({"a": np.ones(3)}))
    with pytest.raises(BenchmarkError, match="cannot read predictions"):
        score(REC, path, limit=LIMIT)


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(BenchmarkError, match="cannot read predictions"):
            score(REC, path, limit=LIMIT)


def test_endless_lines_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(b" " * (1 << 24) + b"\n")
    with pytest.raises(BenchmarkError, match="line 1 is too long"):
        score(REC, path, limit=1)


def test_far_too_many_lines_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": "a"}\n' * 1100)
    with pytest.raises(BenchmarkError, match="more than 1010 lines for 1 examples"):
        score(REC, path, limit=1)

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from answer_keys import (
    FEW,
    LIMIT,
    TASK_NAMES,
    KeyPredictor,
    build_key,
    empty_answer,
    first_examples,
    true_answer,
)

from deixis.errors import BenchmarkError, LockedError
from deixis.evaluation import CenterBox, Example, LargestInstance, Report, evaluate
from deixis.evaluation.predictor_interface import Question
from deixis.geometry import Box, ImageSize, Mask
from deixis.metrics import ComprehensionScore, SegmentationScore
from deixis.storage import locked_folder
from deixis.structures import (
    Answer,
    GroundedPhrase,
    GroundedText,
    Problem,
    Reference,
    Unit,
    UnitGroup,
)

REC = "scenes/rec:val@standard"
RES = "scenes/res:val@standard"


def pointing(size: ImageSize, *units: Unit | None, kind: str = "box", score: float = 0.5) -> Answer:
    references = tuple(Reference((unit,), score) for unit in units)
    phrase = GroundedPhrase("it", 0, 2, (UnitGroup((kind,), references),))
    return Answer(GroundedText("it", (phrase,)), size)


def comprehension(predictor: KeyPredictor, *, limit: int = LIMIT) -> ComprehensionScore:
    score = evaluate(predictor, [REC], limit=limit)[REC].scores["rec"]
    assert isinstance(score, ComprehensionScore)
    return score


def test_the_truth_scores_one_on_every_task(full_report: Report) -> None:
    assert len(full_report.results) == 3 * len(TASK_NAMES)
    for result in full_report.results:
        assert result.headline == 1.0, result.benchmark
        assert result.coverage == 1.0
        for score in result.scores.values():
            assert (score.num_examples, score.num_unparsed) == (FEW, 0), result.benchmark


def test_empty_answers_score_zero_and_are_all_unparsed(all_examples: list[Example]) -> None:
    report = evaluate(build_key(all_examples, empty_answer), TASK_NAMES, limit=FEW)
    for result in report.results:
        assert result.headline == 0.0, result.benchmark
        for score in result.scores.values():
            assert score.num_unparsed == score.num_examples == FEW, result.benchmark


def test_half_right_scores_half(rec_examples: list[Example]) -> None:
    right = {example.id for example in rec_examples[:3]}
    predictor = build_key(
        rec_examples, lambda e: true_answer(e) if e.id in right else empty_answer(e)
    )
    assert comprehension(predictor, limit=6).accuracy == 0.5


@pytest.mark.parametrize("batch_size", [1, 3, LIMIT, 100])
def test_the_size_of_batches_does_not_change_the_report(
    oracle: KeyPredictor, batch_size: int
) -> None:
    report = evaluate(oracle, [REC], limit=LIMIT, batch_size=batch_size)
    assert max(oracle.batches) == min(batch_size, LIMIT)
    assert sum(oracle.batches) == LIMIT
    assert report == evaluate(oracle, [REC], limit=LIMIT)


def test_a_name_without_a_level_is_every_level_and_a_repeated_name_is_asked_once(
    rec_examples: list[Example],
) -> None:
    examples = [*rec_examples, *first_examples("scenes/rec:val@plain", limit=2)]
    examples += first_examples("scenes/rec:val@hard", limit=2)
    predictor = build_key(examples, true_answer)
    names = ["scenes/rec:val", "scenes/rec-location:val@hard", "scenes/rec:val"]
    report = evaluate(predictor, names, limit=2)
    assert [result.benchmark for result in report.results] == [
        f"scenes/rec:val@{level}" for level in ("plain", "standard", "hard")
    ]
    assert predictor.batches == [2, 2, 2]


def test_one_level_can_be_chosen_for_all_names(oracle: KeyPredictor) -> None:
    report = evaluate(oracle, ["scenes/rec:val"], limit=LIMIT, level="standard")
    assert [result.benchmark for result in report.results] == [REC]


def test_the_most_confident_reference_answers_for_a_single_target(
    rec_examples: list[Example],
) -> None:
    def answer(example: Example) -> Answer:
        wrong = Box(0.0, 0.0, 1.0, 1.0)
        references = (
            Reference((wrong,), 0.2),
            Reference(example.boxes, 0.7),
            Reference((wrong,), 0.7),
            Reference((wrong,), None),
        )
        phrase = GroundedPhrase("it", 0, 2, (UnitGroup(("box",), references),))
        return Answer(GroundedText("it", (phrase,)), example.sample.size)

    result = evaluate(build_key(rec_examples, answer), [REC], limit=LIMIT)[REC]
    assert result.headline == 1.0
    assert result.calibration is not None
    assert result.calibration.expected_calibration_error == pytest.approx(0.3)


def test_confidence_is_held_against_what_was_pointed_at(rec_examples: list[Example]) -> None:
    right = {example.id for example in rec_examples[:4]}

    def answer(example: Example) -> Answer:
        if example.id in right:
            return true_answer(example, score=0.9)
        return pointing(example.sample.size, Box(0.0, 0.0, 1.0, 1.0), score=0.1)

    calibration = evaluate(build_key(rec_examples, answer), [REC], limit=LIMIT)[REC].calibration
    assert calibration is not None
    assert calibration.auroc == 1.0


def test_declining_an_existing_thing_is_wrong_but_not_unparsed(rec_examples: list[Example]) -> None:
    answers = [
        GroundedText("There is no such thing."),
        GroundedText("it", (GroundedPhrase("it", 0, 2, (UnitGroup(("box",), ()),)),)),
        GroundedText("A circle."),
    ]
    by_id = {e.id: answers[i % 3] for i, e in enumerate(rec_examples[:6])}
    predictor = build_key(rec_examples[:6], lambda e: Answer(by_id[e.id], e.sample.size))
    score = comprehension(predictor, limit=6)
    assert (score.accuracy, score.num_declined, score.num_unparsed) == (0.0, 4, 2)


def test_a_denial_with_problems_or_cut_short_is_unparsed(rec_examples: list[Example]) -> None:
    def answer(example: Example) -> Answer:
        text = GroundedText("There is no such thing.")
        if example is rec_examples[0]:
            return Answer(text, example.sample.size, finish_reason="length")
        return Answer(text, example.sample.size, problems=(Problem("unclosed", "unclosed"),))

    result = evaluate(build_key(rec_examples[:3], answer), [REC], limit=3)[REC]
    (score,) = result.scores.values()
    assert score.num_unparsed == 3
    assert (result.num_cut, result.num_with_problems) == (1, 2)


def test_a_mask_is_no_answer_to_a_question_for_a_box(rec_examples: list[Example]) -> None:
    predictor = build_key(
        rec_examples, lambda e: pointing(e.sample.size, e.mask, None, kind="mask")
    )
    assert comprehension(predictor).num_unparsed == LIMIT


def test_masks_are_declined_or_unparsed_as_boxes_are() -> None:
    examples = first_examples(RES, limit=3)

    def answer(example: Example) -> Answer:
        if example is examples[0]:
            return true_answer(example, score=None)
        if example is examples[1]:
            return Answer(GroundedText("There is nothing."), example.sample.size)
        return empty_answer(example)

    result = evaluate(build_key(examples, answer), [RES], limit=3)[RES]
    (score,) = result.scores.values()
    assert isinstance(score, SegmentationScore)
    assert score.mean_iou == pytest.approx(1 / 3)
    assert (score.num_declined, score.num_unparsed) == (1, 1)
    assert result.calibration is None


def test_boxes_that_reach_over_the_edge_are_clipped(rec_examples: list[Example]) -> None:
    example = rec_examples[0]
    box = Box(-50.0, -50.0, 500.0, 500.0)
    height, width = example.sample.size
    score = comprehension(build_key([example], lambda e: pointing(e.sample.size, box)), limit=1)
    assert score.mean_iou == pytest.approx(example.boxes[0].area / (height * width))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            lambda e: pointing(e.sample.size, Box(900.0, 0.0, 950.0, 10.0)),
            r"example scenes/.*: box .* lies wholly outside",
        ),
        (
            lambda e: pointing(e.sample.size, Mask(np.ones((3, 4), bool)), kind="mask"),
            r"example scenes/.*: a mask is 4x3, its image",
        ),
        (
            lambda e: replace(true_answer(e), size=ImageSize(448, 448)),
            r"the answer is about a 448x448 image, expected",
        ),
    ],
)
def test_an_answer_in_a_wrong_frame_is_refused(
    rec_examples: list[Example], answer: object, message: str
) -> None:
    assert callable(answer)
    with pytest.raises(BenchmarkError, match=message):
        evaluate(build_key(rec_examples[:1], answer), [REC], limit=1)


class Forgetful:
    """Leaves out the last answer of each batch."""

    def __init__(self, predictor: KeyPredictor) -> None:
        self._predictor = predictor

    def ask_many(self, questions: Sequence[Question], /) -> list[Answer]:
        return self._predictor.ask_many(questions[:-1])


def test_a_lost_answer_is_refused(oracle: KeyPredictor) -> None:
    with pytest.raises(BenchmarkError, match="gave 6 answers to 7 questions"):
        evaluate(Forgetful(oracle), [REC], limit=LIMIT)


@pytest.mark.parametrize(
    ("names", "limit", "batch_size", "message"),
    [
        ([], None, 1, "no benchmark: expected at least one name"),
        ([REC], 0, 1, "limit 0: expected at least 1"),
        ([REC], 1, 0, "batch size 0: expected at least 1"),
        (["rec"], 1, 1, "unknown benchmark 'rec': expected scenes/TASK"),
    ],
)
def test_numbers_and_names_that_make_no_sense_are_refused(
    oracle: KeyPredictor, names: list[str], limit: int | None, batch_size: int, message: str
) -> None:
    with pytest.raises(BenchmarkError, match=message):
        evaluate(oracle, names, limit=limit, batch_size=batch_size)


def test_progress_is_told_after_each_batch(oracle: KeyPredictor) -> None:
    told: list[tuple[str, int, int]] = []
    evaluate(oracle, [REC], limit=LIMIT, batch_size=3, progress=lambda *step: told.append(step))
    assert told == [(REC, 3, LIMIT), (REC, 6, LIMIT), (REC, LIMIT, LIMIT)]


def test_a_finished_run_is_scored_again_without_asking(
    oracle: KeyPredictor, tmp_path: Path
) -> None:
    first = evaluate(oracle, [REC], limit=LIMIT, batch_size=2, out=tmp_path)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert written.keys() == {"run.json", "predictions.jsonl", "report.json"}
    asked = len(oracle.batches)
    assert evaluate(oracle, [REC], limit=LIMIT, batch_size=2, out=tmp_path) == first
    assert len(oracle.batches) == asked
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == written


def test_an_interrupted_run_goes_on_and_leaves_the_same_bytes(
    oracle: KeyPredictor, tmp_path: Path
) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    evaluate(oracle, [REC], limit=LIMIT, batch_size=2, out=whole)
    stopping = replace(oracle, fail_after=2, batches=[])
    with pytest.raises(KeyboardInterrupt):
        evaluate(stopping, [REC], limit=LIMIT, batch_size=2, out=parted)
    assert not (parted / "predictions.jsonl").exists()
    going_on = replace(oracle, batches=[])
    evaluate(going_on, [REC], limit=LIMIT, batch_size=2, out=parted)
    assert going_on.batches == [2, 1]
    for name in ("predictions.jsonl", "report.json"):
        assert (parted / name).read_bytes() == (whole / name).read_bytes()


def test_a_run_cut_anywhere_goes_on_and_leaves_the_same_bytes(
    oracle: KeyPredictor, tmp_path: Path
) -> None:
    evaluate(oracle, [REC], limit=LIMIT, batch_size=2, out=tmp_path)
    final, partial = tmp_path / "predictions.jsonl", tmp_path / "predictions.partial.jsonl"
    expected = final.read_bytes()
    for cut in np.random.default_rng(0).integers(len(expected), size=12).tolist():
        final.unlink()
        partial.write_bytes(expected[:cut])
        evaluate(oracle, [REC], limit=LIMIT, batch_size=2, out=tmp_path)
        assert final.read_bytes() == expected
        assert not partial.exists()


@pytest.mark.parametrize("tail", [b"garbage\n", b"\xff\xfe\n", b'{"id": "x"}\n', b'{"id": NaN}\n'])
def test_what_no_benchmark_asked_for_is_cut_off(
    oracle: KeyPredictor, tmp_path: Path, tail: bytes
) -> None:
    evaluate(oracle, [REC], limit=LIMIT, out=tmp_path)
    final = tmp_path / "predictions.jsonl"
    expected = final.read_bytes()
    final.write_bytes(expected + tail)
    evaluate(oracle, [REC], limit=LIMIT, out=tmp_path)
    assert final.read_bytes() == expected


def test_predictions_for_another_version_of_an_example_are_not_taken_over(
    oracle: KeyPredictor, tmp_path: Path
) -> None:
    evaluate(oracle, [REC], limit=1, out=tmp_path)
    final = tmp_path / "predictions.jsonl"
    own = first_examples(REC, limit=1)[0].fingerprint()
    final.write_text(final.read_text().replace(own, "0" * 16))
    with pytest.raises(BenchmarkError, match="was made for another version of the example"):
        evaluate(oracle, [REC], limit=1, out=tmp_path)


def test_a_folder_of_another_run_is_refused(oracle: KeyPredictor, tmp_path: Path) -> None:
    evaluate(oracle, [REC], limit=2, out=tmp_path)
    with pytest.raises(BenchmarkError, match="holds predictions of another run\nhint: choose"):
        evaluate(oracle, [REC], limit=3, out=tmp_path)
    with pytest.raises(BenchmarkError, match="holds predictions of another run"):
        evaluate(replace(oracle, name="other"), [REC], limit=2, out=tmp_path)


def test_a_folder_that_another_process_writes_to_is_refused(
    oracle: KeyPredictor, tmp_path: Path
) -> None:
    with (
        locked_folder(tmp_path, "evaluating into it"),
        pytest.raises(LockedError, match=r"process \d+ is evaluating into it"),
    ):
        evaluate(oracle, [REC], limit=2, out=tmp_path)


def test_baselines_answer_from_samples() -> None:
    largest = evaluate(LargestInstance(), [REC, RES], limit=20)
    center = evaluate(CenterBox(), [REC, RES], limit=20)
    # The largest instance is either the target, exactly, or another instance.
    rec, res = largest[REC].scores["rec"], largest[RES].scores["res"]
    assert isinstance(rec, ComprehensionScore)
    assert isinstance(res, SegmentationScore)
    assert 0 < rec.accuracy == rec.accuracy_at_90 < 1
    assert res.precision_at_50 == res.precision_at_90
    assert center[REC].headline < 0.5
    assert center[REC].protocol.predictor.name == "centre box"

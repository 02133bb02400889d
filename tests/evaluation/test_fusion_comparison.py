"""Sources of boxes and ways to fuse them, compared on a benchmark."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from answer_keys import LIMIT, KeyPredictor, build_key, digest, first_examples, true_answer

from deixis.errors import BenchmarkError, PromptError
from deixis.evaluation import Example, Report, evaluate
from deixis.evaluation.fusion_comparison import compare_fusion
from deixis.evaluation.predictor_interface import Question
from deixis.geometry import Box, ImageSize
from deixis.inference import PointingAnswer
from deixis.inference.fusion import fuse_boxes, read_strategy
from deixis.inference.pointing_answer import STRATEGIES, BoxSource, FusedReference, ScoredBox
from deixis.metrics import ComprehensionScore
from deixis.structures import Answer

REC = "scenes/rec:val@standard"
LEFT, NEAR, RIGHT = Box(0, 0, 10, 10), Box(1, 0, 11, 10), Box(30, 0, 40, 10)


@dataclass
class SourcesPredictor(KeyPredictor):
    """Answers from a key, with drawn sources of each box."""

    detector: object | None = None

    def ask_many(self, questions: Sequence[Question], /, *, fuse: str = "") -> list[Answer]:
        answers = super().ask_many(questions)
        if not fuse:
            return answers
        return [
            with_sources(answer, digest(image), fuse)
            for answer, (image, _) in zip(answers, questions, strict=True)
        ]


class Finder:
    """A placeholder for a detector in records."""

    name = "finder"
    decoding = "all boxes"


def with_sources(answer: Answer, seed: str, strategy: str) -> PointingAnswer:
    """Use the answer's box as the decoder's, and draw two more near it."""
    generator = np.random.default_rng(int(seed[:8], 16))
    records = []
    for at, phrase in enumerate(answer.phrases):
        for number, reference in enumerate(phrase.references):
            (box,) = [unit for unit in reference.units if isinstance(unit, Box)]
            found: dict[BoxSource, ScoredBox] = {"decoder": ScoredBox(box, 0.5)}
            names: tuple[BoxSource, ...] = ("mask", "detector")
            for name in names:
                if generator.random() < 0.8:
                    found[name] = ScoredBox(moved(box, generator, answer.size), 0.4)
            fused = fuse_boxes(found, read_strategy(strategy))
            records.append(FusedReference(at, number, found, read_strategy(strategy), fused))
    return PointingAnswer(answer.grounded, answer.size, fusion=tuple(records))


def moved(box: Box, generator: np.random.Generator, size: ImageSize) -> Box:
    x, y = generator.uniform(0, 0.6, 2) * (box.x2 - box.x1, box.y2 - box.y1)
    return Box(box.x1 + x, box.y1 + y, box.x2 + x, box.y2 + y).clip(size)


def near_answer(example: Example) -> Answer:
    """Answer two of three examples correctly, others with a shifted box."""
    answer = true_answer(example, score=0.5)
    if int(example.fingerprint(), 16) % 3:
        return answer
    (phrase,) = answer.phrases
    (reference,) = phrase.references
    shifted = moved(example.boxes[0], np.random.default_rng(1), example.sample.size)
    group = replace(
        phrase.groups[0], references=(replace(reference, units=(shifted, reference.units[1])),)
    )
    text = replace(answer.grounded, phrases=(replace(phrase, groups=(group,)),))
    return replace(answer, grounded=text)


@pytest.fixture
def predictor(rec_examples: list[Example]) -> SourcesPredictor:
    key = build_key(rec_examples, near_answer)
    return SourcesPredictor(key.answers, detector=Finder())


def test_every_source_and_strategy_is_scored_on_the_same_answers(
    predictor: SourcesPredictor, rec_examples: list[Example]
) -> None:
    plain = evaluate(predictor, [REC], limit=LIMIT)[REC]
    result = evaluate(predictor, [REC], limit=LIMIT, fuse=STRATEGIES)[REC]
    # the score is that of the answers without fusion
    assert result.scores == plain.scores
    assert result.fusion is not None
    asked = predictor.ask_many(
        [(example.image, example.question) for example in rec_examples], fuse="mean"
    )
    samples = []
    for answer, example in zip(asked, rec_examples, strict=True):
        assert isinstance(answer, PointingAnswer)
        samples.append((answer.fusion[0].found, example.boxes[0]))
    assert result.fusion == compare_fusion(samples, detector=result.fusion.detector)
    score = result.scores["rec"]
    assert isinstance(score, ComprehensionScore)
    assert result.fusion.sources["decoder"] == score
    assert result.fusion.gains["decoder"].accuracy == 0
    assert result.fusion.detector is not None
    assert result.fusion.detector.name == "finder"


def test_gains_are_differences_of_the_same_samples(predictor: SourcesPredictor) -> None:
    result = evaluate(predictor, [REC], limit=LIMIT, fuse=["mask", "mean"])[REC]
    assert result.fusion is not None
    report = result.fusion
    for name in ("mask", "mean"):
        gain, decoder = report.gains[read_strategy(name)], report.sources["decoder"]
        fused = report.fused[read_strategy(name)]
        assert gain.accuracy == pytest.approx(fused.accuracy - decoder.accuracy)
        assert gain.mean_iou == pytest.approx(fused.mean_iou - decoder.mean_iou)
        assert (gain.num_won - gain.num_lost) / LIMIT == pytest.approx(gain.accuracy)
        assert gain.mean_iou_interval.low <= gain.mean_iou <= gain.mean_iou_interval.high


def test_the_comparison_is_in_the_json_and_in_the_table(
    predictor: SourcesPredictor, tmp_path: Path
) -> None:
    plain = evaluate(predictor, [REC], limit=LIMIT)
    report = evaluate(predictor, [REC], limit=LIMIT, fuse=["agreement", "score", "score"])
    report.to_json(tmp_path / "report.json")
    (read,) = json.loads((tmp_path / "report.json").read_text())["results"]
    assert "fusion" not in plain.to_dict()["results"][0]
    assert list(read["fusion"]["fused"]) == ["agreement", "score"]
    assert set(read["fusion"]["sources"]) == {"decoder", "mask", "detector"}
    assert read["fusion"]["any_right"] >= read["fusion"]["sources"]["mask"]["accuracy"]
    assert read["fusion"]["threshold"] == 0.5
    assert read["fusion"]["detector"]["name"] == "finder"
    del read["fusion"]
    assert read == json.loads(json.dumps(plain.to_dict()))["results"][0]
    first, second = report.to_markdown().split("\n\n")
    assert first == plain.to_markdown().rstrip()
    rows = [line.split(" | ")[1] for line in second.splitlines()[2:]]
    assert rows == [
        *("decoder", "mask", "detector"),
        *("fused: agreement", "fused: score", "any source right"),
    ]


def test_a_resumed_run_gives_the_same_comparison(
    predictor: SourcesPredictor, tmp_path: Path
) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"

    def ask(one: SourcesPredictor, out: Path) -> Report:
        return evaluate(one, [REC], limit=LIMIT, batch_size=2, fuse=("mean",), out=out)

    ask(predictor, whole)
    with pytest.raises(KeyboardInterrupt):
        ask(replace(predictor, fail_after=2, batches=[]), parted)
    ask(replace(predictor, batches=[]), parted)
    for name in ("predictions.jsonl", "report.json"):
        assert (parted / name).read_bytes() == (whole / name).read_bytes()
    # other strategies need no new answers, but another detector does
    silent = replace(predictor, fail_after=0, batches=[])
    evaluate(silent, [REC], limit=LIMIT, batch_size=2, fuse=("agreement",), out=whole)
    with pytest.raises(BenchmarkError, match="holds predictions of another run"):
        ask(replace(predictor, detector=None), whole)
    with pytest.raises(BenchmarkError, match="holds predictions of another run"):
        evaluate(predictor, [REC], limit=LIMIT, batch_size=2, out=whole)


def test_an_answer_that_points_at_nothing_counts_as_wrong(rec_examples: list[Example]) -> None:
    def answer(example: Example) -> Answer:
        if example is rec_examples[0]:
            return replace(
                true_answer(example), grounded=replace(true_answer(example).grounded, phrases=())
            )
        return true_answer(example)

    predictor = SourcesPredictor(build_key(rec_examples, answer).answers)
    fusion = evaluate(predictor, [REC], limit=LIMIT, fuse=["mean"])[REC].fusion
    assert fusion is not None
    assert fusion.num_examples == LIMIT
    assert fusion.sources["decoder"].accuracy == pytest.approx((LIMIT - 1) / LIMIT)
    assert fusion.fused["mean"].num_unparsed == 1
    assert fusion.detector is None


def test_invalid_comparisons_are_refused(
    predictor: SourcesPredictor, oracle: KeyPredictor, tmp_path: Path
) -> None:
    with pytest.raises(BenchmarkError, match="expected rec or locate to compare fused boxes on"):
        evaluate(predictor, [REC, "scenes/res:val@plain"], limit=1, fuse=["mean"])
    with pytest.raises(BenchmarkError, match="key does not record the sources of its boxes"):
        evaluate(oracle, [REC], limit=1, fuse=["mean"])
    with pytest.raises(PromptError, match="fusion strategy 'best': expected one of agreement, "):
        evaluate(predictor, [REC], limit=1, fuse=["mean", "best"])
    for damage, words in (
        ('"sources":{"other"', "sources is not an object of decoder, mask, detector"),
        ('"sources":{"mask":[1],"decoder"', "source mask is not an object of box and score"),
        ('"origin":{"decoder"', "a reference is not an object of box, mask, score and sources"),
    ):
        out = tmp_path / damage[1:8].strip('":{') / words[:9]
        evaluate(predictor, [REC], limit=1, fuse=["mean"], out=out)
        file = out / "predictions.jsonl"
        file.write_text(file.read_text().replace('"sources":{"decoder"', damage))
        with pytest.raises(BenchmarkError, match=words):
            evaluate(predictor, [REC], limit=1, fuse=["mean"], out=out)


def test_locate_is_compared_too() -> None:
    name = "scenes/locate:val@plain"
    examples = first_examples(name, limit=2)
    predictor = SourcesPredictor(build_key(examples, true_answer).answers)
    fusion = evaluate(predictor, [name], limit=2, fuse=["decoder"])[name].fusion
    assert fusion is not None
    assert fusion.fused["decoder"].accuracy == 1.0


def test_the_report_has_every_source_and_the_fused_box() -> None:
    samples: list[tuple[dict[BoxSource, ScoredBox], Box]] = [
        ({"decoder": ScoredBox(LEFT), "mask": ScoredBox(NEAR)}, LEFT),
        ({"decoder": ScoredBox(RIGHT), "mask": ScoredBox(LEFT), "detector": ScoredBox(NEAR)}, LEFT),
        ({"decoder": ScoredBox(RIGHT)}, LEFT),
        ({}, LEFT),
    ]
    report = compare_fusion(samples)
    assert {name: score.accuracy for name, score in report.sources.items()} == {
        "decoder": 0.25,
        "mask": 0.5,
        "detector": 0.25,
    }
    assert report.fused["agreement"].accuracy == 0.5
    assert report.fused["decoder"].accuracy == report.sources["decoder"].accuracy
    assert report.fused["agreement"].num_unparsed == 1
    assert report.sources["detector"].num_unparsed == 3
    assert report.any_right == 0.5
    assert report.num_examples == 4
    assert json.loads(json.dumps(report.to_dict()))["fused"]["mean"]["num_examples"] == 4


def test_no_samples_are_refused() -> None:
    with pytest.raises(BenchmarkError, match="no examples"):
        compare_fusion([])

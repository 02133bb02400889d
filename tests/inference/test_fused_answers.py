"""Answers whose boxes are fused, with a detector and a pose model given at load."""

import json
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from closeness import assert_same_answers
from models.decoders.plugs import save_detector, save_pose
from tiny import tiny_model

import deixis
from deixis.data.scenes import draw_scene
from deixis.errors import CheckpointError, ModelError, PromptError
from deixis.geometry import (
    COCO_KEYPOINTS,
    Box,
    ImageSize,
    Keypoints,
    Mask,
    box_iou,
    stack_boxes,
)
from deixis.inference import PointingAnswer, Predictor
from deixis.inference.fusion import (
    add_bodies,
    fuse_answer,
    fuse_boxes,
    own_boxes,
    share_detections,
)
from deixis.inference.pointing_answer import STRATEGIES, BoxSource, ScoredBox
from deixis.models.decoders.grounding import Found, GroundingDetector
from deixis.structures import GroundedPhrase, GroundedText, ImageArray, Reference, Unit, UnitGroup

EXAMPLE = Path(__file__).parents[2] / "examples" / "scene-1.png"
QUESTION = "the red circle on the left"
LEFT, NEAR, RIGHT = Box(0, 0, 10, 10), Box(1, 0, 11, 10), Box(30, 0, 40, 10)


@pytest.fixture(scope="module")
def shipped() -> Predictor:
    return deixis.load("scenes-tiny")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {name: tmp_path_factory.mktemp(name) for name in ("dino", "pose")}
    save_detector(found["dino"])
    save_pose(found["pose"], 17)
    return found


class KnownBoxes:
    """Find known boxes for known phrases, and count the calls."""

    def __init__(self, known: dict[str, list[tuple[Box, float]]]) -> None:
        self.known = known
        self.asked: list[str] = []

    def detect(self, image: ImageArray, phrase: str) -> Sequence[Found[Box]]:
        assert image.ndim == 3
        self.asked.append(phrase)
        return [Found(box, score) for box, score in self.known.get(phrase, [])]


class OneBody:
    """Find a nose in the middle of every box."""

    def estimate(self, image: ImageArray, boxes: Sequence[Box]) -> Sequence[Found[Keypoints]]:
        assert image.ndim == 3
        found = []
        for box in boxes:
            positions = np.array([[(box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2]], np.float32)
            found.append(Found(Keypoints(positions, np.array([2], np.int8), ("nose",)), 0.25))
        return found


def an_answer(
    *phrases: tuple[str, tuple[str, ...], Sequence[tuple[Unit | None, ...]]],
) -> PointingAnswer:
    """Return references with units of their types, for consecutive phrases."""
    text, made = "", []
    for words, types, units in phrases:
        group = UnitGroup(types, tuple(Reference(each, 0.5) for each in units))
        made.append(GroundedPhrase(words, len(text), len(text) + len(words), (group,)))
        text += f"{words} "
    image = np.zeros((40, 60, 3), np.uint8)
    return PointingAnswer(GroundedText(text, tuple(made)), ImageSize(40, 60), image=image)


class NoDecoder:
    """A model whose answers have boxes in text only."""

    def attempt(self, reference: int, name: str) -> Unit | None:
        raise AssertionError((reference, name))

    def chance(self, reference: int, name: str) -> float | None:
        raise AssertionError((reference, name))


def written_boxes(answer: PointingAnswer, unit_type: str = "box") -> Any:
    return own_boxes(answer.grounded, (), NoDecoder(), unit_type)


@pytest.mark.slow
def test_without_fusion_answers_are_unchanged(shipped: Predictor) -> None:
    scenes = [draw_scene(91, index, level="hard").image for index in range(3)]
    asked = [(image, question) for image in scenes for question in ("Where is the star?", QUESTION)]
    for units in (None, "box", "box,mask"):
        plain = shipped.ask_many(asked, units=units)
        decoded = shipped.ask_many(asked, units=units, fuse="decoder")
        for one, other in zip(plain, decoded, strict=True):
            assert one.fusion == ()
            assert "fusion" not in json.dumps(one.to_dict())
            # without fusion, the answer has the box of the box decoder
            assert_same_answers(one.grounded, other.grounded)
            assert one.problems == other.problems


@pytest.mark.slow
def test_a_fused_box_combines_the_box_decoder_and_the_mask(shipped: Predictor) -> None:
    plain = shipped.ask(EXAMPLE, QUESTION, units="box,mask")
    ((box, mask),) = [reference.units for reference in plain.phrases[0].references]
    assert isinstance(box, Box)
    assert isinstance(mask, Mask)
    for strategy in STRATEGIES:
        answer = shipped.ask(EXAMPLE, QUESTION, units="box,mask", fuse=strategy)
        record = answer.fused(0, 0)
        assert record is not None
        assert answer.fusion == (record,)
        found = {name: each.box for name, each in record.found.items()}
        assert_same_answers(found, {"decoder": box, "mask": mask.to_box()})
        assert record.fused == fuse_boxes(record.found, strategy)
        assert record.fused is not None
        (reference,) = answer.phrases[0].references
        assert reference.units[0] == record.fused.box
        assert_same_answers(reference.units[1], mask)
        assert_same_answers(reference.score, plain.phrases[0].references[0].score)


@pytest.mark.slow
def test_a_mask_is_a_source_even_if_it_was_not_requested(shipped: Predictor) -> None:
    both = shipped.ask(EXAMPLE, QUESTION, units="box,mask", fuse="mean")
    alone = shipped.ask(EXAMPLE, QUESTION, units="box", fuse="mean")
    assert_same_answers(alone.fusion, both.fusion)
    assert_same_answers(alone.phrases[0].boxes, both.phrases[0].boxes)
    assert alone.phrases[0].masks == ()
    # a box that was not requested is not added
    masks = shipped.ask(EXAMPLE, QUESTION, units="mask", fuse="mean")
    assert (masks.fusion, masks.phrases[0].boxes) == ((), ())


@pytest.mark.slow
def test_the_record_of_a_fused_box_is_json(shipped: Predictor) -> None:
    answer = shipped.ask(EXAMPLE, QUESTION, units="box,mask", fuse="agreement")
    row = json.loads(json.dumps(answer.to_dict()))["phrases"][0]["groups"][0]
    (reference,) = row["references"]
    assert row["unit_types"] == ["box", "mask"]
    assert reference["fusion"]["strategy"] == "agreement"
    assert reference["fusion"]["made_of"] == ["decoder", "mask"]
    sources = reference["fusion"]["sources"]
    mean = np.mean([source["box"] for source in sources.values()], axis=0).tolist()
    assert_same_answers(reference["box"], mean)
    assert all(0 <= source["score"] <= 1 for source in sources.values())


@pytest.mark.slow
def test_a_detector_given_at_load_is_asked_for_the_words_of_the_phrase(
    shipped: Predictor, folders: dict[str, Path]
) -> None:
    with_detector = deixis.load("scenes-tiny", detector=folders["dino"])
    plain = shipped.ask(EXAMPLE, QUESTION)
    # without fusion the detector is not used
    assert_same_answers(with_detector.ask(EXAMPLE, QUESTION).to_dict(), plain.to_dict())
    assert isinstance(with_detector.detector, GroundingDetector)
    assert with_detector.detector._loaded is None
    with_detector.detector.threshold = 0.0
    answer = with_detector.ask(EXAMPLE, QUESTION, fuse="mean")
    record = answer.fused(0, 0)
    assert record is not None
    assert plain.image is not None
    (first, *_) = GroundingDetector(folders["dino"], threshold=0.0).detect(
        plain.image, plain.phrases[0].text
    )
    assert record.found["detector"] == ScoredBox(first.unit, first.score)
    assert record.fused is not None
    assert record.fused.sources == ("decoder", "mask", "detector")
    corners = [found.box.as_array() for found in record.found.values()]
    assert answer.phrases[0].boxes[0].as_array() == pytest.approx(np.mean(corners, axis=0))


def test_a_box_written_as_numbers_is_fused_with_that_of_a_detector() -> None:
    answer = an_answer(("A dog", ("box",), [(LEFT,)]))
    detector = KnownBoxes({"a dog": [(RIGHT, 0.4), (NEAR, 0.9)]})
    fused = fuse_answer(answer, written_boxes(answer), "mean", detector)
    assert fused.phrases[0].boxes == (Box(0.5, 0, 10.5, 10),)
    assert fused.fusion[0].found == {
        "decoder": ScoredBox(LEFT),
        "detector": ScoredBox(NEAR, 0.9),
    }


def test_instances_with_the_same_tag_share_its_detections() -> None:
    answer = an_answer(
        ("dogs", ("box",), [(LEFT,), (RIGHT,)]),
        ("a cat", ("box",), [(LEFT,)]),
        ("Dogs", ("box",), [(Box(20, 20, 28, 28),)]),
    )
    detector = KnownBoxes({"dogs": [(Box(31, 0, 41, 10), 0.9), (NEAR, 0.3)], "a cat": []})
    fused = fuse_answer(answer, written_boxes(answer), "decoder", detector)
    assert detector.asked == ["dogs", "a cat"]
    found = {(one.phrase, one.reference): one.found.get("detector") for one in fused.fusion}
    assert found == {
        (0, 0): ScoredBox(NEAR, 0.3),
        (0, 1): ScoredBox(Box(31, 0, 41, 10), 0.9),
        (1, 0): None,
        (2, 0): None,
    }


def test_shared_detections_are_assigned_by_total_overlap() -> None:
    generator = np.random.default_rng(0)

    def draw(count: int) -> list[Box]:
        corners = generator.integers(0, 12, (count, 2)).astype(float)
        return [
            Box.from_array(np.hstack([at, at + generator.integers(1, 12, 2)])) for at in corners
        ]

    for case in range(30):
        own, detections = draw(2 + case % 2), draw(case % 4)
        sources: list[dict[BoxSource, ScoredBox]] = [{"decoder": ScoredBox(box)} for box in own]
        shared = share_detections(sources, [ScoredBox(box, 0.5) for box in detections])
        near = np.zeros((len(own), len(detections) + len(own)))
        if detections:
            near[:, : len(detections)] = box_iou(stack_boxes(own), stack_boxes(detections))
        best = max(
            sum(near[row, column] for row, column in enumerate(order))
            for order in permutations(range(near.shape[1]), len(own))
        )
        taken = [
            (row, detections.index(one.box)) for row, each in enumerate(shared) for one in each
        ]
        assert sum(near[place] for place in taken) == pytest.approx(best)
        assert all(near[place] > 0 for place in taken)
        assert len({row for row, _ in taken}) == len({column for _, column in taken}) == len(taken)


def test_a_reference_without_a_fused_box_is_a_problem() -> None:
    answer = an_answer(("it", ("box", "mask"), [(LEFT, None)]), ("that", ("box",), [(None,)]))
    fused = fuse_answer(answer, written_boxes(answer), "mask")
    assert [phrase.boxes for phrase in fused.phrases] == [(), ()]
    assert [problem.code for problem in fused.problems] == ["no_fused_box"] * 2
    assert "reference 0 of phrase 'it': no box for strategy mask" in fused.problems[0].message
    first = fused.to_dict()["phrases"][0]["groups"][0]["references"][0]["fusion"]
    assert first["made_of"] == []
    assert list(first["sources"]) == ["decoder"]


def test_words_that_are_not_a_tag_are_a_problem(folders: dict[str, Path]) -> None:
    answer = an_answer(("a dog. a cat", ("box",), [(LEFT,)]))
    detector = GroundingDetector(folders["dino"])
    fused = fuse_answer(answer, written_boxes(answer), "mean", detector)
    assert fused.phrases[0].boxes == (LEFT,)
    (problem,) = fused.problems
    assert problem.code == "tag_not_asked"
    assert "expected one phrase, without full stops" in problem.message


@pytest.mark.slow
def test_a_pose_model_given_at_load_answers_keypoints_from_boxes(
    shipped: Predictor, folders: dict[str, Path]
) -> None:
    posed = deixis.load("scenes-tiny", pose=folders["pose"])
    plain = shipped.ask(EXAMPLE, QUESTION, units="box,mask")
    asked = posed.ask(EXAMPLE, QUESTION, units="box,mask")
    assert_same_answers(asked.to_dict(), plain.to_dict())
    answer = posed.ask(EXAMPLE, QUESTION, units="box,keypoint")
    (reference,) = answer.phrases[0].references
    box, body = reference.units
    assert_same_answers(box, plain.phrases[0].boxes[0])
    assert isinstance(body, Keypoints)
    assert body.names == COCO_KEYPOINTS
    assert posed.pose is not None
    assert plain.image is not None
    assert isinstance(box, Box)
    (expected,) = posed.pose.estimate(plain.image, [box])
    assert_same_answers(body.positions, expected.unit.positions)
    assert reference.score is not None
    assert reference.score <= expected.score
    # the box is used even if it was not requested
    alone = posed.ask(EXAMPLE, QUESTION, units="keypoint")
    assert_same_answers(alone.phrases[0].keypoints[0].positions, body.positions)
    json.dumps(alone.to_dict())
    with pytest.raises(PromptError, match=r"unit types \['keypoint'\]: expected some of"):
        shipped.ask(EXAMPLE, QUESTION, units="keypoint")


def test_keypoints_are_found_in_the_box_of_their_reference() -> None:
    mask = Mask(np.pad(np.ones((4, 4), bool), ((10, 26), (20, 36))))
    answer = an_answer(
        ("a", ("box", "keypoint"), [(LEFT, None), (RIGHT, None)]),
        ("b", ("mask", "keypoint"), [(mask, None)]),
        ("c", ("box", "keypoint"), [(None, None)]),
        ("d", ("box",), [(LEFT,)]),
    )
    posed = add_bodies(answer, written_boxes(answer, "keypoint"), OneBody())
    noses = [body.positions[0].tolist() for phrase in posed.phrases for body in phrase.keypoints]
    assert noses == [[5, 5], [35, 5], [22, 12]]
    assert posed.phrases[0].scores == (0.25, 0.25)
    assert posed.phrases[3] == answer.phrases[3]
    (problem,) = posed.problems
    assert problem.code == "no_body_box"
    assert "reference 0 of phrase 'c'" in problem.message


def test_invalid_fusion_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"detector .*: expected config\.json and safetens"):
        deixis.load("scenes-tiny", detector=tmp_path)
    with pytest.raises(CheckpointError, match=r"pose model .*: expected config\.json and safetens"):
        deixis.load("scenes-tiny", pose=tmp_path / "none")
    shape = {"width": 32, "heads": 2, "hidden": 48}
    model, processor = tiny_model(decoders={"keypoint": shape})
    with pytest.raises(ModelError, match="'tiny' decodes keypoints itself: expected no pose model"):
        Predictor(model, processor.tokenizer, name="tiny", pose=OneBody())
    model, processor = tiny_model()
    with pytest.raises(PromptError, match="fusion strategy 'best': expected one of agreement, dec"):
        Predictor(model, processor.tokenizer).ask(
            np.zeros((8, 8, 3), np.uint8), "Where?", fuse="best"
        )
    answer = PointingAnswer(an_answer(("it", ("box",), [(LEFT,)])).grounded, ImageSize(40, 60))
    with pytest.raises(PromptError, match="no image to look at again"):
        fuse_answer(answer, written_boxes(answer), "mean", KnownBoxes({}))

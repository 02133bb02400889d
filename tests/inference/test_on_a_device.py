"""Answers on a simulated accelerator: equal to the processor's, with few synchronisations."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models.decoders.plugs import save_detector, save_pose
from pretend_device import PretendDevice, on_device
from whole_models import DRAWN, IMAGE, WHOLES, Whole

import deixis
from deixis.geometry import Box
from deixis.inference import PointingAnswer, Predictor
from deixis.models.decoders.grounding import GroundingDetector, PoseEstimator

EXAMPLE = Path(__file__).parents[2] / "examples" / "scene-1.png"
TOKENS = 14

A_TOKEN = {"deixis.inference.generation:_Rows.append": 1}
"""Reads from the device per generated token: the token itself, to detect the end."""

A_TOKEN_OF_SEVERAL_LENGTHS = {
    **A_TOKEN,
    # transformers checks whether the mask hides anything
    "transformers.masking_utils:_ignore_causal_mask_sdpa": 1,
}


def plain(value: Any) -> Any:
    """Return an answer as data, with numbers as arrays."""
    return value.to_dict() if isinstance(value, PointingAnswer) else value


def same(one: Any, other: Any) -> bool:
    """Return whether two answers as data are equal up to float32 rounding."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return isinstance(other, float) and bool(np.isclose(one, other, rtol=1e-4, atol=1e-4))
    return bool(one == other)


def asked(predictor: Predictor, whole: Whole) -> list[PointingAnswer]:
    return predictor.ask_many(whole.questions, units=whole.units, max_new_tokens=TOKENS)


@pytest.mark.parametrize("name", WHOLES)
def test_answers_on_a_device_equal_those_on_the_processor(name: str, tmp_path: Path) -> None:
    whole = WHOLES[name]
    model, processor = whole.made(tmp_path)
    expected = asked(Predictor(model, processor.tokenizer), whole)
    with PretendDevice() as device:
        on_device(model)
        predictor = Predictor(model, processor.tokenizer)
        found = asked(predictor, whole)
    for one, other in zip(found, expected, strict=True):
        assert same(plain(one), plain(other))
    if whole.pointing:
        assert all(answer.phrases[0].references for answer in found)
        units = found[0].phrases[0].references[0].units
        assert all(unit is not None for unit in units), found[0].problems
    assert places(device, "generation").keys() == {*PROMPT, *A_TOKEN}


PROMPT = {
    "deixis.inference.generation:generate": 1,
    "deixis.inference.generation:_Rows.note_runners_up.<locals>.<genexpr>": 2,
}
"""Reads from the device once per batch: whether a row is padded, and the runner-up."""


def places(device: PretendDevice, *words: str) -> dict[str, int]:
    """Return the reads by function, for functions with one of the words in their name."""
    return {place: n for place, n in device.places().items() if any(w in place for w in words)}


def reads_of(questions: Any, tokens: int) -> dict[str, int]:
    """Return the reads for a number of generated tokens."""
    model, processor = WHOLES["coordinates"].made(Path())
    with PretendDevice() as device:
        on_device(model)
        predictor = Predictor(model, processor.tokenizer, second_look=False)
        predictor.ask_many(questions, max_new_tokens=tokens)
    return device.places()


@pytest.mark.parametrize(
    ("questions", "each"),
    [(DRAWN[:1], A_TOKEN), ([(IMAGE, ("Hm?",)), *DRAWN[:1]], A_TOKEN_OF_SEVERAL_LENGTHS)],
    ids=["one question", "several lengths"],
)
def test_each_token_costs_one_read_from_the_device(questions: Any, each: dict[str, int]) -> None:
    few, more = reads_of(questions, 3), reads_of(questions, 7)
    grown = {place: count - few.get(place, 0) for place, count in more.items()}
    assert {place: count for place, count in grown.items() if count} == {
        place: 4 * count for place, count in each.items()
    }


def test_the_shipped_model_answers_on_a_named_device() -> None:
    """In float32 with second looks and fused boxes; by default in bfloat16."""
    questions = [(EXAMPLE, "Where is the red circle?"), (EXAMPLE, "Is there a cup?")]
    here = deixis.load("scenes-tiny", device="cpu")
    expected = here.ask_many(questions, fuse="agreement", max_new_tokens=24)
    with PretendDevice() as device:
        there = deixis.load("scenes-tiny", device="meta", dtype="float32")
        assert there.model.device == torch.device("meta")
        found = there.ask_many(questions, fuse="agreement", max_new_tokens=24)
        assert deixis.load("scenes-tiny", device="meta").model.dtype == torch.bfloat16
    assert same([plain(one) for one in found], [plain(one) for one in expected])
    # the decoded units of each look are transferred together, however many are used
    assert set(places(device, "predictor", "fus")) == set()


def test_detector_and_pose_model_run_on_the_same_device(tmp_path: Path) -> None:
    for name in ("dino", "pose"):
        (tmp_path / name).mkdir()
    save_detector(tmp_path / "dino")
    save_pose(tmp_path / "pose", 17)
    boxes = [Box(5, 5, 40, 35)]
    expected = GroundingDetector(tmp_path / "dino", threshold=0.0).detect(IMAGE, "a red dog")
    bodies = PoseEstimator(tmp_path / "pose", threshold=0.0).estimate(IMAGE, boxes)
    with PretendDevice():
        detector = GroundingDetector(tmp_path / "dino", "meta", threshold=0.0)
        found = detector.detect(IMAGE, "a red dog")
        estimated = PoseEstimator(tmp_path / "pose", "meta", threshold=0.0).estimate(IMAGE, boxes)
    assert [one.score for one in found] == pytest.approx([one.score for one in expected], rel=1e-4)
    for one, other in zip(found, expected, strict=True):
        assert one.unit.as_array() == pytest.approx(other.unit.as_array(), abs=1e-3)
    assert estimated[0].unit.positions == pytest.approx(bodies[0].unit.positions, abs=1e-3)

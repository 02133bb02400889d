"""Questions to models on a pretend accelerator: the processor's answers, and few waits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models.decoders.plugs import save_detector, save_pose
from pretend_device import PretendDevice, on_device
from whole_models import DRAWN, IMAGE, WHOLES, Whole

import deixis
from deixis.geometry import Box, DepthMap
from deixis.inference import PointingAnswer, Predictor
from deixis.models.decoders.grounding import GroundingDetector, PoseEstimator

EXAMPLE = Path(__file__).parents[2] / "examples" / "scene-1.png"
TOKENS = 14

A_TOKEN = {"deixis.inference.generation:_Rows.append": 1}
"""Reads that each generated token costs: the token itself, which says whether to go on."""

A_TOKEN_OF_SEVERAL_LENGTHS = {
    **A_TOKEN,
    # the library asks whether the mask hides anything
    "transformers.masking_utils:_ignore_causal_mask_sdpa": 1,
}


def plain(value: Any) -> Any:
    """An answer as data, numbers as the arrays that they came from."""
    return value.to_dict() if isinstance(value, PointingAnswer) else value


def same(one: Any, other: Any) -> bool:
    """Whether two answers as data are alike; numbers within float32's rounding."""
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
def test_answers_are_those_of_the_processor(name: str, tmp_path: Path) -> None:
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
    assert device.reads

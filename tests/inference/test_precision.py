"""Models in half precision: loading, and answers close to those in float32."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import Run
from encoders import small_encoder

import deixis
from deixis.errors import ModelError
from deixis.geometry import Box, Mask
from deixis.inference import Predictor
from deixis.models.vision.loading import load_encoder

EXAMPLE = Path(__file__).parents[2] / "examples" / "scene-1.png"
QUESTIONS = ("Point at the person.", "Where is the red circle?", "How many squares are there?")
PIXELS, SCORE, SHARED = 1.0, 0.02, 0.95
"""How far answers in bfloat16 may be from those in float32; docs/devices-and-precision.md has
what was measured."""


@pytest.fixture(scope="module")
def half() -> Predictor:
    return deixis.load("scenes-tiny", dtype="bfloat16")


def test_answers_in_bfloat16_are_close_to_those_in_float32(half: Predictor) -> None:
    asked = [(EXAMPLE, question) for question in QUESTIONS]
    exact = deixis.load("scenes-tiny", device="cpu").ask_many(asked, max_new_tokens=24)
    found = half.ask_many(asked, max_new_tokens=24)
    pointed = 0
    for one, other in zip(found, exact, strict=True):
        assert one.raw == other.raw
        for phrase, known in zip(one.phrases, other.phrases, strict=True):
            for reference, wanted in zip(phrase.references, known.references, strict=True):
                assert reference.score == pytest.approx(wanted.score, abs=SCORE)
                for unit, true in zip(reference.units, wanted.units, strict=True):
                    pointed += 1
                    if isinstance(unit, Mask) and isinstance(true, Mask):
                        both = (unit.array & true.array).sum()
                        assert both > SHARED * (unit.array | true.array).sum()
                        continue
                    assert isinstance(unit, Box)
                    assert isinstance(true, Box)
                    assert unit.as_array() == pytest.approx(true.as_array(), abs=PIXELS)
    assert pointed >= 2


def test_weights_have_the_dtype_and_position_tables_stay_exact(half: Predictor) -> None:
    assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16}
    assert half.decoding.endswith(", in bfloat16")
    exact = deixis.load("scenes-tiny", dtype="auto", device="cpu").model
    assert {p.dtype for p in exact.parameters()} == {torch.float32}
    tables = dict(exact.named_buffers())
    assert tables
    for name, table in half.model.named_buffers():
        # rotary frequencies in eight bits would put late tokens in wrong places
        assert table.dtype == tables[name].dtype, name
        assert torch.equal(table, tables[name]), name


def test_unknown_devices_and_dtypes_are_refused(deixis: Run) -> None:
    for given, message in (
        (("--device", "gpu"), "device 'gpu': not available in torch here: expected one of"),
        (("--dtype", "int8"), "dtype 'int8': expected one of ['auto', 'float32', 'bfloat16'"),
    ):
        ended = deixis("point", EXAMPLE, "Where?", *given)
        assert ended.code == ModelError.exit_code
        assert message in ended.err


def test_the_command_line_uses_the_given_dtype(deixis: Run) -> None:
    ended = deixis("point", EXAMPLE, QUESTIONS[0], "--device", "cpu", "--dtype", "bfloat16")
    assert ended.code == 0
    assert ended.out.startswith("The person.")


def test_an_encoder_is_read_in_the_given_dtype(tmp_path: Path) -> None:

    encoder: Any = small_encoder("clip_vision_model")
    encoder.model.save_pretrained(tmp_path)
    loaded = load_encoder(tmp_path, image_size=32, dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    known = dict(encoder.named_parameters())
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter, known[name].to(torch.bfloat16)), name
    assert np.isfinite(loaded(torch.zeros(1, 3, 32, 32)).tokens.float().numpy()).all()

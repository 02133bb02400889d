"""Training on a simulated accelerator and in bfloat16, compared with the processor."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from pretend_device import DEVICE, PretendDevice, on_device, values
from safetensors.torch import load_file
from tiny import tiny_recipe
from training.stepping import aligned_model, pieces_of, rows

from deixis.training import Optimizer, SceneData, Stage, train
from deixis.training.checkpoints import latest_checkpoint
from deixis.training.steps import add_gradients

DATA = SceneData(seed=5, long_side=64, turns=2, row_tokens=128)


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Reset Accelerate, which keeps one device and precision per process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def on_the_device() -> None:
    """Make Accelerate choose the simulated device."""
    state: Any = PartialState(cpu=True)
    state.device = DEVICE


def trained(out: Path) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    """Return the rows of a run's log without times, and the weights of its last checkpoint."""
    newest = latest_checkpoint(out / "checkpoints")
    assert newest is not None
    logged = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    for row in logged:
        del row["seconds"], row["rows_per_second"]
    return logged, load_file(newest / "model.safetensors")


def test_a_run_on_a_device_equals_one_on_the_processor(tmp_path: Path) -> None:
    """Muon and AdamW, a frozen encoder with cached features, checkpoints and the log."""

    def recipe(out: Path) -> Any:
        see = Stage(
            name="see",
            steps=1,
            batch_size=2,
            trainable=("vision_encoder", "pixel_decoder", "proposal_head"),
            data=replace(DATA, turns=0),
            optimizer=Optimizer(warmup=0, muon_scale=2.0),
        )
        learn = Stage(
            name="learn",
            steps=1,
            batch_size=2,
            trainable=("language_model", "box_decoder", "mask_decoder", "region_encoder"),
            data=DATA,
            optimizer=Optimizer(warmup=0),
            features=str(out / "features"),
        )
        return tiny_recipe(stages=(see, learn))

    train(recipe(tmp_path / "here"), tmp_path / "here")
    AcceleratorState._reset_state(reset_partial_state=True)
    with PretendDevice():
        on_the_device()
        model = train(recipe(tmp_path / "there"), tmp_path / "there")
        assert {parameter.device for parameter in model.parameters()} == {DEVICE}
    (log, wanted), (found_log, found) = trained(tmp_path / "here"), trained(tmp_path / "there")
    assert [row["step"] for row in found_log] == [row["step"] for row in log] == [1, 2]
    for row, other in zip(log, found_log, strict=True):
        assert row.keys() == other.keys()
        for name, value in row.items():
            near = value if isinstance(value, str) else pytest.approx(value, rel=1e-3, abs=1e-4)
            assert other[name] == near, name
    apart = torch.cat([(found[name] - tensor).abs().flatten() for name, tensor in wanted.items()])
    # where a gradient is only rounding error, AdamW takes a full step in either direction
    assert float(apart.max()) < 5e-3
    assert float((apart > 1e-4).float().mean()) < 0.02
    assert list((tmp_path / "there" / "features" / "shards").iterdir())


def test_alignment_in_pieces_has_the_same_gradients_as_on_the_processor() -> None:
    stage = Stage(name="align", steps=1, objective="alignment", batch_size=2, pieces=2)
    model, processor = aligned_model()
    pieces = pieces_of(processor, rows(processor, 2, "ref_tag", "loc_tag"), 1)
    accelerator = Accelerator(cpu=True)
    expected = add_gradients(stage, pieces, model, model, accelerator)
    wanted = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    AcceleratorState._reset_state(reset_partial_state=True)
    with PretendDevice():
        on_the_device()
        on_device(model)
        found = add_gradients(stage, pieces, model, model, Accelerator(cpu=True))
    assert values(found.loss).item() == pytest.approx(expected.loss.item(), rel=1e-5)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert gradients.keys() == wanted.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(values(gradient), wanted[name], atol=1e-5), name


def test_a_run_in_bfloat16_is_close_to_one_in_float32(tmp_path: Path) -> None:
    """Weights stay in float32, products are in bfloat16."""
    stage = Stage(name="all", steps=1, batch_size=2, data=DATA, optimizer=Optimizer(warmup=0))
    logs = {}
    for precision in ("float32", "bfloat16"):
        AcceleratorState._reset_state(reset_partial_state=True)
        recipe = tiny_recipe(stages=(stage,), precision=precision)
        model = train(recipe, tmp_path / precision)
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        logs[precision] = trained(tmp_path / precision)[0]
    for wide, half in zip(logs["float32"], logs["bfloat16"], strict=True):
        assert wide["loss"] != half["loss"]
        assert half["loss"] == pytest.approx(wide["loss"], rel=0.02)

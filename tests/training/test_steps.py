"""One step: pieces of a batch and several ranks change only memory and time."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from closeness import RTOL
from forked import run_ranks
from safetensors.torch import load_file
from tiny import tiny_recipe
from training import ranks
from training.stepping import aligned_model, gradients, pieces_of, rows

from deixis.errors import ModelError, RecipeError
from deixis.training import train
from deixis.training.build import build_model
from deixis.training.recipe import SceneData, Stage
from deixis.training.steps import add_gradients

DATA = SceneData(seed=5, long_side=64, turns=4, row_tokens=128)


@pytest.mark.parametrize("target", ["description", "query"])
def test_alignment_in_pieces_has_the_gradient_of_the_whole_batch(target: str) -> None:
    """Pairs come from the whole batch, whatever the number of pieces."""
    stage = Stage(name="align", steps=1, objective="alignment", batch_size=6)
    found = []
    for size in (6, 2, 1):
        model, processor = aligned_model(target=target, rows_at_once=3)
        made = rows(processor, 6, "ref_tag", "loc_tag")
        batches = pieces_of(processor, made, size)
        output = add_gradients(stage, batches, model, model, Accelerator(cpu=True))
        found.append((output, gradients(model)))
    whole, gradient = found[0]
    assert whole.parts.keys() == {"location", "semantic"}
    assert whole.parts["location"] > 0
    assert whole.parts["semantic"] > 0
    for output, other in found[1:]:
        torch.testing.assert_close(output.loss, whole.loss.detach(), atol=1e-5, rtol=1e-4)
        for name, value in gradient.items():
            pieced = other.get(name, torch.zeros_like(value))
            torch.testing.assert_close(pieced, value, atol=2e-5, rtol=1e-3)
    moved = {name.split(".")[0] for name, value in gradient.items() if value.abs().sum() > 0}
    assert {"region_encoder", "alignment", "vision_encoder"} <= moved
    assert not moved & {"language_model", "projector"}


def test_aligning_needs_a_model_with_alignment() -> None:
    torch.manual_seed(0)
    model, processor = build_model(tiny_recipe())
    stage = Stage(name="align", steps=1, objective="alignment", batch_size=2)
    made = pieces_of(processor, rows(processor, 2, "rec"), 1)
    with pytest.raises(ModelError, match="cannot be aligned: expected alignment in its config"):
        add_gradients(stage, made, model, model, Accelerator(cpu=True))
    with pytest.raises(RecipeError, match="pieces: expected 1 to 2, got 3"):
        replace(stage, pieces=3)


def test_answers_in_pieces_have_the_mean_gradient() -> None:
    """All rows are alike, so the mean over pieces is the mean over the batch."""
    found = []
    for size in (4, 2):
        torch.manual_seed(0)
        model, processor = build_model(tiny_recipe())
        model.train(mode=False)
        made = rows(processor, 1, "locate") * 4
        stage = Stage(name="learn", steps=1, batch_size=4, data=SceneData())
        batches = pieces_of(processor, made, size)
        output = add_gradients(stage, batches, model, model, Accelerator(cpu=True))
        found.append((output, gradients(model)))
    (whole, gradient), (pieced, other) = found
    torch.testing.assert_close(pieced.loss, whole.loss, atol=1e-5, rtol=1e-4)
    assert pieced.parts.keys() == whole.parts.keys()
    for name, value in gradient.items():
        torch.testing.assert_close(other[name], value, atol=1e-5, rtol=2e-3)


def test_two_ranks_have_the_gradient_of_one(tmp_path: Path) -> None:
    """One rank has regions and answers with units; the other has neither."""
    run_ranks(ranks.main, tmp_path)
    for kind in ("alike", "apart", "align", "bare", "bare-detached", "nothing"):
        first, second = (load_file(tmp_path / f"{kind}-{rank}.safetensors") for rank in range(2))
        assert first.keys() == second.keys()
        for name, value in first.items():
            assert torch.equal(value, second[name]), name
            assert torch.isfinite(value).all(), name
        if kind == "nothing":
            assert not any(value.any() for value in first.values())
        if kind in {"apart", "nothing"}:
            continue
        alone = load_file(tmp_path / f"{kind}-alone.safetensors")
        for name, value in alone.items():
            torch.testing.assert_close(first[name], value, atol=2e-5, rtol=2e-3)


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]


def test_cached_features_are_reused_and_change_no_results(tmp_path: Path) -> None:
    trained = ("projector", "language_model")
    stages = (Stage(name="tell", steps=3, trainable=trained, batch_size=2, data=DATA),)
    plain = train(tiny_recipe(stages=stages), tmp_path / "plain")
    kept = replace(stages[0], features=str(tmp_path / "features"))
    first = train(tiny_recipe(stages=(kept,)), tmp_path / "first")
    files = sorted(path.name for path in (tmp_path / "features").rglob("*.safetensors"))
    second = train(tiny_recipe(stages=(kept,)), tmp_path / "second")
    assert files
    # no feature was computed twice
    assert sorted(p.name for p in (tmp_path / "features").rglob("*.safetensors")) == files
    names = plain.state_dict().keys()
    assert first.state_dict().keys() == second.state_dict().keys() == names
    # losses, since features of a batch of new images may differ in the last bits
    for run in ("first", "second"):
        assert losses(tmp_path / run) == pytest.approx(losses(tmp_path / "plain"), rel=RTOL)
    with pytest.raises(RecipeError, match="expected a frozen vision_encoder"):
        replace(kept, trainable=("vision_encoder",))

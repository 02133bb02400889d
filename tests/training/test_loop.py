import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from tiny import tiny_choice, tiny_model, tiny_recipe

from deixis.errors import (
    AnnotationError,
    CheckpointError,
    NumericError,
    RecipeError,
    StorageError,
)
from deixis.geometry import ImageSize
from deixis.inference import load
from deixis.structures import Conversation, Turn
from deixis.training import BuiltData, Optimizer, SceneData, Stage, train
from deixis.training.checkpoints import latest_checkpoint, read_checkpoint
from deixis.training.data import RowBatches, TurnCounts, answered_row
from deixis.training.loop import learning_rate, set_trainable
from deixis.training.steps import add_gradients

DATA = SceneData(seed=5, long_side=64, turns=4, row_tokens=128)
STAGES = (
    Stage(
        name="see",
        steps=2,
        batch_size=2,
        trainable=("vision_encoder", "pixel_decoder", "proposal_head", "concept_head"),
        data=replace(DATA, turns=0),
        optimizer=Optimizer(muon_scale=2.0),
    ),
    Stage(
        name="learn",
        steps=4,
        batch_size=2,
        data=DATA,
        optimizer=Optimizer(warmup=2, muon_scale=2.0),
    ),
)


def weights(out: Path) -> dict[str, torch.Tensor]:
    newest = latest_checkpoint(out / "checkpoints")
    assert newest is not None
    return load_file(newest / "model.safetensors")


RECIPE = tiny_recipe(stages=STAGES, checkpoint_every=1, keep_checkpoints=10)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `RECIPE`, with every checkpoint; copy it before you change it."""
    out = tmp_path_factory.mktemp("run") / "whole"
    train(RECIPE, out)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("last", [1, 2, 3])
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(
    whole: Path, tmp_path: Path, last: int
) -> None:
    """Within the first stage, at the boundary, and within the second."""
    cut = shutil.copytree(whole, tmp_path / "cut")
    shutil.rmtree(cut / "model")
    for path in (cut / "checkpoints").iterdir():
        if path.name > f"step-{last:08d}":
            (path / "model.safetensors").write_bytes(b"half")  # as a kill during a copy leaves it
    train(RECIPE, cut, resume=True)
    expected, found = weights(whole), weights(cut)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_sigterm_saves_at_the_next_step_and_ends_with_143(tmp_path: Path) -> None:
    """Send the signal while the step's row is written, after the step checked whether it is the last."""
    recipe = tiny_recipe(checkpoint_every=10_000, log_every=1)
    recipe = replace(recipe, stages=(replace(recipe.stages[0], steps=9_000),))

    def end(row: dict[str, float]) -> None:
        if row["step"] == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as ended:
        train(recipe, tmp_path, report=end)
    assert ended.value.code == 143
    newest = latest_checkpoint(tmp_path / "checkpoints")
    assert newest is not None
    assert read_checkpoint(newest).state.step == 2


@pytest.mark.slow
def test_a_trained_model_is_saved_with_its_provenance_and_loads(tmp_path: Path) -> None:
    recipe = tiny_recipe(stages=STAGES)
    model = train(recipe, tmp_path)
    record = json.loads((tmp_path / "model" / "provenance.json").read_text())
    assert record["steps"] == recipe.total_steps
    assert record["recipe"]["stages"][1]["name"] == "learn"
    assert record["parameters"] == sum(p.numel() for p in model.parameters())
    loaded = load(tmp_path).model.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor.to(torch.bfloat16).float(), loaded[name]), name


def test_parts_that_a_stage_does_not_name_stay_unchanged(tmp_path: Path) -> None:
    recipe = tiny_recipe(stages=STAGES[:1], checkpoint_every=1, keep_checkpoints=9)
    train(recipe, tmp_path)
    folder = tmp_path / "checkpoints"
    first, last = (load_file(folder / f"step-0000000{n}" / "model.safetensors") for n in (1, 2))
    changed = {name.split(".")[0] for name in first if not torch.equal(first[name], last[name])}
    assert changed == {"vision_encoder", "pixel_decoder", "proposal_head", "concept_head"}


def test_a_run_is_not_overwritten_and_another_recipe_is_not_resumed(tmp_path: Path) -> None:
    recipe = tiny_recipe(stages=STAGES[:1])
    train(recipe, tmp_path)
    with pytest.raises(StorageError, match="already holds a run"):
        train(recipe, tmp_path)
    with pytest.raises(CheckpointError, match="differs from the recipe to resume"):
        train(replace(recipe, seed=1), tmp_path, resume=True)
    with pytest.raises(CheckpointError, match="holds no run to resume"):
        train(recipe, tmp_path / "nothing", resume=True)


def test_a_run_that_fails_before_its_first_step_leaves_no_files(tmp_path: Path) -> None:
    nowhere = replace(STAGES[0], data=BuiltData(str(tmp_path / "nothing")))
    with pytest.raises(AnnotationError):
        train(tiny_recipe(stages=(nowhere,)), tmp_path / "run")
    train(tiny_recipe(stages=STAGES[:1]), tmp_path / "run")
    # the files of a run that has begun stay after an error
    with pytest.raises(StorageError, match="already holds a run"):
        train(tiny_recipe(stages=(nowhere,)), tmp_path / "run")


@pytest.mark.slow
def test_stages_that_have_not_begun_may_change_on_resume(whole: Path, tmp_path: Path) -> None:
    first, second = STAGES
    short = tiny_recipe(stages=(first, replace(second, steps=1)), checkpoint_every=1)
    train(short, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000003")  # back to the end of "see"
    longer = tiny_recipe(stages=STAGES, checkpoint_every=1)
    train(longer, tmp_path / "run", resume=True)
    resumed, expected = weights(tmp_path / "run"), weights(whole)
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)
    changed = tiny_recipe(stages=(first, replace(second, batch_size=1)), checkpoint_every=1)
    with pytest.raises(CheckpointError, match="not begun"):
        train(changed, tmp_path / "run", resume=True)


def test_steps_that_are_not_finite_stop_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deixis.training.loop.learning_rate", lambda *_: float("nan"))
    stage = replace(STAGES[0], steps=9)
    with pytest.raises(NumericError, match="consecutive steps were not finite"):
        train(tiny_recipe(stages=(stage,)), tmp_path)


def test_batches_do_not_depend_on_the_number_of_ranks() -> None:
    _, processor = tiny_model()

    def batches(rank: int, world: int) -> RowBatches:
        return RowBatches(processor, DATA, batch_size=4, start=0, stop=1, rank=rank, world=world)

    (whole,) = batches(0, 1).load(3).pieces
    halves = [batches(rank, 2).load(3).pieces[0] for rank in range(2)]
    for rank, half in enumerate(halves):
        assert torch.equal(half.pixel_values, whole.pixel_values[rank::2])


def test_images_without_questions_need_concepts_or_proposals(tmp_path: Path) -> None:
    stage = replace(STAGES[0], trainable=("vision_encoder",))
    model = replace(tiny_choice(), concepts=False, proposals=False, tokens_from="encoder")
    with pytest.raises(RecipeError, match="expected a model with concepts or proposals, got neit"):
        train(tiny_recipe(model=model, stages=(stage,)), tmp_path)


def test_a_row_without_an_answer_to_learn_is_refused() -> None:
    _, processor = tiny_model()
    image = np.zeros((8, 8, 3), np.uint8)
    turns = (Turn(("Where is it?",)),)
    conversation = Conversation("street-7", image, ImageSize(8, 8), turns, independent=True)
    message = (
        r"conversation street-7: expected a turn with an answer to learn, got 1 turns without one "
        r"\(row_tokens 90\)"
    )
    with pytest.raises(AnnotationError, match=message):
        answered_row(processor, conversation, 90)


def test_rows_without_turns_are_counted_and_add_no_loss() -> None:
    model, processor = tiny_model(concepts=[], proposals=False, tokens_from="encoder")
    data = replace(DATA, tasks=(("keypoint", 1.0),), levels=(("plain", 1.0),))
    batch = RowBatches(processor, data, batch_size=2, start=0, stop=1).load(0)
    assert batch.turns == TurnCounts(rows_without=2)
    bare = RowBatches(processor, replace(data, turns=0), batch_size=2, start=0, stop=1).load(0)
    assert bare.turns == TurnCounts()
    stage = Stage(name="learn", steps=1, batch_size=2)
    output = add_gradients(stage, batch.pieces, model, model, Accelerator(cpu=True))
    assert output.loss == 0
    assert all(
        not parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None
    )


def test_unknown_parts_are_refused() -> None:
    model, _ = tiny_model()
    with pytest.raises(RecipeError, match=r"no parts \['connector'\]"):
        set_trainable(model, Stage(name="x", steps=1, trainable=("projector", "connector")))


def test_learning_rate_warms_up_and_decays_to_its_share() -> None:
    config = Optimizer(lr=1.0, warmup=10, final=0.1)
    assert learning_rate(config, 0, 100) == pytest.approx(0.1)
    assert learning_rate(config, 9, 100) == pytest.approx(1.0)
    assert learning_rate(config, 100, 100) == pytest.approx(0.1)
    flat = Optimizer(lr=0.5, warmup=1, final=1.0)
    assert learning_rate(flat, 70, 100) == pytest.approx(0.5)


def test_a_stage_without_steps_is_refused() -> None:
    with pytest.raises(RecipeError, match="must be positive"):
        Stage(name="none", steps=0)

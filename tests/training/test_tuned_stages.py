"""Stages that add adapters and LoRA: trained parameters, checkpoints and releases."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from closeness import assert_same_outputs
from languages import language_folder
from safetensors.torch import load_file, save_file
from tiny import tiny_choice, tiny_model, tiny_recipe

from deixis.errors import CheckpointError, ModelError, RecipeError
from deixis.inference import Predictor, load
from deixis.models.adapters import ADAPTER_PRESETS, adapters_of
from deixis.models.tuning import LoraChoice, Tuning, fold_tuning, has_lora
from deixis.recipes import apply_overrides, recipe_from_json, recipe_to_json
from deixis.training import SceneData, Stage, TrainRecipe, going_on_from, train
from deixis.training.checkpoints import latest_checkpoint
from deixis.training.loop import set_trainable

DATA = SceneData(seed=5, long_side=64, turns=4, row_tokens=128)
LINEAR = Tuning("adapters", adapters=ADAPTER_PRESETS["code"])
STAGES = (
    Stage("align", 2, ("projector",), 2, DATA, tuning=(("language_model", LINEAR),)),
    Stage(
        "tune",
        2,
        ("projector",),
        2,
        DATA,
        tuning=(("language_model", replace(LINEAR, method="lora+adapters")),),
    ),
    Stage("settle", 1, (), 2, DATA, tuning=(("language_model", "lora"),)),
)


def tuned_recipe(stages: Sequence[Stage] = STAGES, **changes: object) -> TrainRecipe:
    return tiny_recipe(stages=tuple(stages), checkpoint_every=1, keep_checkpoints=10, **changes)


def at_step(out: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(out / "checkpoints" / f"step-{step:08d}" / "model.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of all stages, with every checkpoint; copy it before you change it."""
    out = tmp_path_factory.mktemp("tuned") / "whole"
    train(tuned_recipe(), out)
    return out


def same_answers(first: Predictor, second: Predictor) -> bool:
    a, b = first.model.state_dict(), second.model.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
def test_stages_train_their_parts_and_keep_adapters_of_earlier_stages(whole: Path) -> None:
    def moved(first: int, last: int) -> set[tuple[str, str]]:
        before, after = at_step(whole, first), at_step(whole, last)
        kinds = set()
        for name, tensor in after.items():
            if name in before and not torch.equal(before[name], tensor):
                part, kind = name.split(".")[0], "own"
                kind = "adapters" if ".adapter." in name else kind
                kinds.add((part, "lora" if ".lora_" in name else kind))
        return kinds

    assert moved(1, 2) == {("projector", "own"), ("language_model", "adapters")}
    assert moved(3, 4) == {*moved(1, 2), ("language_model", "lora")}
    assert moved(4, 5) == {("language_model", "lora")}
    told = json.loads((whole / "model" / "provenance.json").read_text())["trained"]
    assert any(line.startswith("language_model: lora+adapters, ") for line in told["tune"])
    assert told["settle"][-1].startswith("all: ")


@pytest.mark.slow
@pytest.mark.parametrize("last", [1, 2, 3, 4])
def test_a_killed_and_resumed_tuning_run_equals_an_uninterrupted_one(
    whole: Path, tmp_path: Path, last: int
) -> None:
    """Within stages that add adapters, and at the boundaries before them.

    LoRA has dropout and both are made by chance, so the random state counts too.
    """
    cut = shutil.copytree(whole, tmp_path / "cut")
    shutil.rmtree(cut / "model")
    for path in (cut / "checkpoints").iterdir():
        if path.name > f"step-{last:08d}":
            (path / "model.safetensors").write_bytes(b"half")  # as a kill during a copy leaves it
    train(tuned_recipe(), cut, resume=True)
    expected, found = at_step(whole, 5), at_step(cut, 5)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert same_answers(load(whole), load(cut))


@pytest.mark.slow
def test_resuming_a_finished_run_gives_the_same_model(whole: Path, tmp_path: Path) -> None:
    out = shutil.copytree(whole, tmp_path / "out")
    shutil.rmtree(out / "model")
    train(tuned_recipe(), out, resume=True)
    first = load_file(whole / "model" / "model.safetensors")
    again = load_file(out / "model" / "model.safetensors")
    assert all(torch.equal(first[name], again[name]) for name in first | again)


@pytest.mark.slow
def test_a_saved_model_has_its_adapters_and_lora(tmp_path: Path) -> None:
    model = train(tuned_recipe(), tmp_path)
    loaded = load(tmp_path).model
    assert model.config.tuning["language_model"]["method"] == "lora+adapters"
    assert loaded.config.tuning == json.loads(json.dumps(model.config.tuning))
    assert adapters_of(loaded).keys() == adapters_of(model).keys()
    state = loaded.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor.to(torch.bfloat16).float(), state[name]), name
    ids = torch.arange(12)[None]
    model.load_state_dict(state)
    model.train(mode=False)
    with torch.no_grad():
        both = [one.language_model(input_ids=ids).logits for one in (model, loaded)]
    assert_same_outputs(both[0], both[1])


@pytest.mark.slow
def test_a_merged_release_gives_the_same_output_without_adapters(tmp_path: Path) -> None:
    fast = [replace(stage, optimizer=replace(stage.optimizer, warmup=1)) for stage in STAGES]
    train(tuned_recipe(fast), tmp_path / "whole")
    train(tuned_recipe(fast, release="merged"), tmp_path / "merged")
    whole, merged = load(tmp_path / "whole").model, load(tmp_path / "merged").model
    assert merged.config.tuning == {}
    assert not adapters_of(merged)
    assert not has_lora(merged)
    # the shift of the adapters became biases, which this Llama did not have
    assert merged.config.text_config.attention_bias
    ids = torch.arange(40)[None]
    with torch.no_grad():
        states = [one.language_model(input_ids=ids).logits for one in (whole, merged)]
        bare = whole.language_model
        for adapter in adapters_of(bare).values():
            adapter.up.weight.zero_()
        without = bare(input_ids=ids).logits
    error = (states[0] - states[1]).abs().max()
    # the merged weights differ from the base; the outputs differ by rounding to bfloat16 only
    assert error < 0.2 * (states[0] - without).abs().max()


def test_adapters_with_an_activation_are_not_merged() -> None:
    model, _ = tiny_model()
    set_trainable(model, Stage("x", 1, (), tuning=(("language_model", "lora+adapters"),)))
    stayed = fold_tuning(model)
    assert {name: choice.method for name, choice in stayed.items()} == {
        "language_model": "adapters"
    }
    assert model.config.tuning["language_model"]["method"] == "adapters"
    assert adapters_of(model)
    assert not has_lora(model)


@pytest.mark.slow
def test_the_base_model_with_its_changes_equals_the_trained_model(tmp_path: Path) -> None:
    language = language_folder("qwen3", tmp_path / "language")
    first = Stage("align", 2, ("projector",), 2, DATA)
    base = tiny_recipe(stages=(first,), model=replace(tiny_choice(), language=str(language)))
    train(base, tmp_path / "base")
    tuned = going_on_from(tuned_recipe(STAGES[1:]), str(tmp_path / "base"))
    train(tuned, tmp_path / "whole")
    train(replace(tuned, release="changes"), tmp_path / "changes")
    kept = load_file(tmp_path / "changes" / "model" / "changes.safetensors")
    assert {name.split(".")[0] for name in kept} == {"projector", "language_model"}
    assert all(
        ".adapter." in name or ".lora_" in name for name in kept if name.startswith("language")
    )
    whole = load(tmp_path / "whole")
    assert same_answers(whole, load(tmp_path / "base", adapters=tmp_path / "changes"))
    assert same_answers(whole, load(tmp_path / "changes"))

    folder = tmp_path / "changes" / "model"
    name = next(name for name in kept if ".lora_B." in name)
    save_file({k: v for k, v in kept.items() if k != name}, folder / "changes.safetensors")
    with pytest.raises(CheckpointError, match=r"lora_B.*expected \(.*\), got None"):
        load(tmp_path / "changes")
    save_file({**kept, name: torch.ones(3)}, folder / "changes.safetensors")
    with pytest.raises(CheckpointError, match=r"got \(3,\)"):
        load(tmp_path / "changes")
    with pytest.raises(CheckpointError, match="belong to other weights"):
        load("scenes-tiny", adapters=folder)
    with pytest.raises(ModelError, match="holds only changes; expected the model"):
        load(folder, adapters=folder)
    with pytest.raises(CheckpointError, match=r"changes\.json"):
        load(tmp_path / "base", adapters=tmp_path / "whole")


def test_embeddings_can_train_together_with_lora() -> None:
    model, _ = tiny_model()
    how = Tuning("lora", also=("embed_tokens", "lm_head"))
    report = set_trainable(model, Stage("x", 1, (), tuning=(("language_model", how),)))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    own = {name for name in trained if ".lora_" not in name}
    assert own == {"language_model.model.embed_tokens.weight", "language_model.lm_head.weight"}
    row = next(row for row in report.rows if row.part == "language_model")
    assert row.own == sum(model.get_parameter(name).numel() for name in own)
    strange = Stage("x", 1, (), tuning=(("language_model", replace(how, also=("wte",))),))
    with pytest.raises(RecipeError, match="part language_model has no module 'wte' to train"):
        set_trainable(model, strange)


def test_permanently_frozen_parameters_stay_frozen_under_lora() -> None:
    model, _ = tiny_model()
    model.always_frozen = frozenset({"language_model.model.layers.0.self_attn.q_proj.weight"})
    set_trainable(model, Stage("x", 1, (), tuning=(("language_model", "lora"),)))
    set_trainable(model, Stage("y", 1, ("language_model",)))
    attention = model.get_submodule("language_model.model.layers.0.self_attn")
    assert not attention.get_parameter("q_proj.base_layer.weight").requires_grad
    assert attention.get_parameter("v_proj.base_layer.weight").requires_grad


def test_adapters_of_another_shape_are_refused() -> None:
    model, _ = tiny_model()
    narrow = Tuning("lora", lora=LoraChoice(rank=2))
    set_trainable(model, Stage("x", 1, (), tuning=(("language_model", narrow),)))
    with pytest.raises(RecipeError, match=r"stage y: part language_model already has LoRA: .*=2"):
        set_trainable(model, Stage("y", 1, (), tuning=(("language_model", "lora"),)))


def test_a_stage_names_each_part_once_and_trains_at_least_one() -> None:
    with pytest.raises(RecipeError, match="part projector is named twice: expected it once"):
        Stage("x", 1, ("projector",), tuning=(("projector", "full"),))
    model, _ = tiny_model()
    with pytest.raises(RecipeError, match="expected at least one trainable part, got none"):
        set_trainable(model, Stage("x", 1, (), tuning=(("language_model", "freeze"),)))
    with pytest.raises(RecipeError, match="ConceptHead has no self-attention"):
        set_trainable(model, Stage("x", 1, tuning=(("concept_head", "adapters"),)))
    with pytest.raises(RecipeError, match="expected a saved model to start from"):
        tiny_recipe(release="changes")


def test_all_stands_for_parts_that_tuning_does_not_name() -> None:
    model, _ = tiny_model()
    report = set_trainable(model, Stage("x", 1, tuning=(("language_model", "lora"),)))
    methods = {row.part: row.method for row in report.rows}
    assert methods.pop("language_model") == "lora"
    assert set(methods.values()) == {"full"}


def test_tuning_is_set_by_overrides_and_saved_as_json() -> None:
    recipe = apply_overrides(
        tiny_recipe(),
        [
            'stages.0.tuning=[["language_model", "lora"], ["vision_encoder", "adapters"]]',
            "stages.0.trainable=projector",
        ],
    )
    assert recipe.stages[0].tuning == (("language_model", "lora"), ("vision_encoder", "adapters"))
    shaped = tuned_recipe()
    assert recipe_from_json(TrainRecipe, recipe_to_json(shaped)) == shaped
    begun = going_on_from(shaped, "scenes-tiny")
    assert recipe_from_json(TrainRecipe, recipe_to_json(begun)) == begun


def test_checkpoints_are_found_after_a_stage_that_adds_adapters(tmp_path: Path) -> None:
    train(tuned_recipe(STAGES[2:]), tmp_path)
    newest = latest_checkpoint(tmp_path / "checkpoints")
    assert newest is not None
    assert any(".lora_" in name for name in load_file(newest / "model.safetensors"))

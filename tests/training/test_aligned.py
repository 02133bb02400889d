"""A recipe with a released model: trained in two stages, resumed, saved and asked."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from released import release
from tiny import tiny_recipe

from deixis.errors import ModelError
from deixis.inference import load
from deixis.recipes.overrides import apply_overrides
from deixis.training import TrainRecipe, train
from deixis.training.build import build_model

NEW = ("region_encoder", "pixel_decoder", "proposal_head", "box_decoder", "mask_decoder")


def recipe_on(folder: Path, canvas: int | None = None) -> TrainRecipe:
    recipe = apply_overrides(
        tiny_recipe(),
        [
            f"model.aligned={folder}",
            f"model.aligned_canvas={'none' if canvas is None else canvas}",
            "model.tokens_from=encoder",
            "stages.0.steps=2",
        ],
    )
    first = replace(recipe.stages[0], trainable=NEW)
    second = replace(recipe.stages[0], name="both", trainable=(*NEW, "language_model"))
    return replace(recipe, stages=(first, second))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "canvas"), [("llava", None), ("qwen2_vl", 64)])
def test_a_run_trains_the_parts_of_its_stages_and_resumes(
    kind: str, canvas: int | None, tmp_path: Path
) -> None:
    release(kind, tmp_path / "released")
    recipe = recipe_on(tmp_path / "released", canvas)
    torch.manual_seed(recipe.seed)
    begun = build_model(recipe)[0].state_dict()
    trained = train(recipe, tmp_path / "whole")
    for name, value in trained.state_dict().items():
        if name.startswith(("vision_encoder.", "projector.")):
            assert torch.equal(value, begun[name]), name
    head = "language_model.lm_head.weight"
    assert not torch.equal(trained.state_dict()[head], begun[head])
    train(replace(recipe, stages=recipe.stages[:1]), tmp_path / "cut")
    again = train(recipe, tmp_path / "cut", resume=True)
    for name, value in trained.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    saved = load(tmp_path / "whole", device="cpu")
    tied = saved.model.get_submodule("language_model")
    same = tied.get_input_embeddings().weight is tied.get_output_embeddings().weight  # type: ignore[operator]  # of transformers
    assert same == (kind == "qwen2_vl")
    for name, value in trained.state_dict().items():
        assert torch.equal(value.bfloat16().float(), saved.model.state_dict()[name]), name


def test_tokens_that_are_not_from_the_encoder_are_refused_with_a_hint(tmp_path: Path) -> None:
    recipe = apply_overrides(tiny_recipe(), [f"model.aligned={tmp_path}"])
    with pytest.raises(ModelError, match=r"tokens_from 'objects'(.|\n)*tokens_from=encoder"):
        build_model(recipe)

"""Unit decoders of a recipe: choice by name, overrides, and recipes of earlier versions."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from tiny import tiny_choice, tiny_model, tiny_recipe

from deixis.errors import ModelError, RecipeError
from deixis.models.decoders import DecoderConfig
from deixis.models.decoders.depth import DepthConfig
from deixis.models.decoders.keypoints import KeypointConfig
from deixis.models.decoders.location import LocationConfig
from deixis.models.decoders.prompted import PromptedConfig
from deixis.recipes import apply_overrides, load_recipe, recipe_from_json, recipe_to_json
from deixis.training.loop import _resolved, _with_defaults, check_units
from deixis.training.recipe import ModelChoice, SavedModel, SceneData, Stage, TrainRecipe

RECIPES = ("scenes_tiny", "pink_scenes", "ullava_scenes", "refvlm_scenes", "refvlm_code_scenes")


def decoders_of(recipe: TrainRecipe) -> dict[str, Any]:
    assert isinstance(recipe.model, ModelChoice)
    return dict(recipe.model.decoders)


def as_before(recipe: TrainRecipe) -> dict[str, Any]:
    """Return a recipe as saved by versions with one field for each unit type."""
    saved: dict[str, Any] = json.loads(recipe_to_json(recipe))
    decoders = saved["model"].pop("decoders")
    box = decoders.get("box", decoders.get("location"))
    mask = decoders.get("mask")
    if "segmenter" in decoders:
        prompted = dict(decoders["segmenter"])
        mask = {"source": prompted.pop("segmenter"), "prompted": prompted}
    for unit, fields in (
        ("box", box),
        ("mask", mask),
        ("keypoint", decoders.get("keypoint")),
        ("depth", decoders.get("depth")),
    ):
        saved["model"][f"{unit}_decoder"] = fields
    return saved


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_of_earlier_versions_are_read_and_resumed(name: str) -> None:
    recipe = load_recipe(name)
    saved = as_before(recipe)
    assert recipe_from_json(TrainRecipe, json.dumps(saved)) == recipe
    assert _with_defaults(saved, recipe) == _resolved(recipe)


def test_a_segmenter_of_earlier_versions_is_read() -> None:
    choice = replace(tiny_choice(), decoders={"segmenter": PromptedConfig(segmenter="sam")})
    recipe = tiny_recipe(model=choice)
    assert recipe_from_json(TrainRecipe, json.dumps(as_before(recipe))) == recipe


def test_saved_models_of_earlier_versions_are_read() -> None:
    recipe = tiny_recipe(model=SavedModel("scenes-tiny"))
    saved = json.loads(recipe_to_json(recipe))
    saved["model"] |= {"aligned": None, "aligned_canvas": None}
    assert recipe_from_json(TrainRecipe, json.dumps(saved)) == recipe


@pytest.mark.parametrize("name", RECIPES)
def test_decoders_round_trip_through_json(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe_from_json(TrainRecipe, recipe_to_json(recipe)) == recipe


def test_decoders_are_changed_added_and_removed_by_path() -> None:
    recipe = tiny_recipe()
    before = decoders_of(recipe)
    changed = decoders_of(apply_overrides(recipe, ["model.decoders.box.layers=3"]))
    assert changed == {**before, "box": replace(before["box"], layers=3)}
    changed = decoders_of(
        apply_overrides(recipe, ["model.decoders.box=none", "model.decoders.location.loss=code"])
    )
    assert changed == {"mask": before["mask"], "location": LocationConfig(loss="code")}
    changed = decoders_of(
        apply_overrides(recipe, ["model.decoders.segmenter.segmenter=folder/of/sam"])
    )
    assert changed["segmenter"] == PromptedConfig(segmenter="folder/of/sam")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.decoders.cuboid.layers=3", "unit decoder 'cuboid': expected one of"),
        ("model.decoders.box.colour=3", "DecoderConfig has no field 'colour'"),
        ("model.decoders.box.layers=many", "expected an integer, got 'many'"),
        ("model.decoders.depth=3", "DepthConfig is set field by field"),
        ("model.decoders=none", "set entry by entry; entries: box, mask"),
    ],
)
def test_invalid_overrides_of_a_decoder_are_refused(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        apply_overrides(tiny_recipe(), [override])


@pytest.mark.parametrize(
    ("decoders", "message"),
    [
        ({"cuboid": {}}, "recipe.model.decoders: unit decoder 'cuboid': expected one of"),
        ({"box": {"colour": 3}}, "recipe.model.decoders.box: DecoderConfig has no field 'colour'"),
        ([], "recipe.model.decoders: expected entries by name"),
    ],
)
def test_a_saved_recipe_with_wrong_decoders_is_refused(decoders: object, message: str) -> None:
    saved = json.loads(recipe_to_json(tiny_recipe()))
    saved["model"]["decoders"] = decoders
    with pytest.raises(RecipeError, match=message):
        recipe_from_json(TrainRecipe, json.dumps(saved))


def test_a_configuration_of_another_decoder_is_refused() -> None:
    with pytest.raises(RecipeError, match="decoder 'depth': expected DepthConfig, got Keypoint"):
        ModelChoice(decoders={"depth": KeypointConfig()})
    with pytest.raises(ModelError, match="unit decoder 'heat': expected one of"):
        ModelChoice(decoders={"heat": DecoderConfig()})


SHAPE: dict[str, Any] = {"width": 32, "heads": 2, "hidden": 48}


def with_depth(*stages: Stage) -> TrainRecipe:
    choice = tiny_choice()
    decoders = {**choice.decoders, "depth": DepthConfig(**SHAPE)}
    return tiny_recipe(model=replace(choice, decoders=decoders), stages=stages)


def stage(name: str, *tasks: str, **changes: Any) -> Stage:
    data = SceneData(tasks=tuple((task, 1.0) for task in tasks))
    return Stage(name=name, steps=1, data=data, **changes)


def test_a_decoder_that_cannot_learn_from_the_data_is_refused_before_the_first_step() -> None:
    model, _ = tiny_model(more={"depth": SHAPE})
    message = (
        r"depth_decoder \(DepthDecoder\) cannot learn units of type depth: expected a task that "
        "gives them in the data of first, second, got none"
    )
    with pytest.raises(RecipeError, match=message):
        check_units(with_depth(stage("first", "rec"), stage("second", "vqa")), model)
    # data in one stage is enough, and a frozen decoder needs none
    check_units(with_depth(stage("first", "rec"), stage("second", "rec", "depth")), model)
    check_units(with_depth(stage("first", "rec", trainable=("language_model",))), model)


def test_anchored_decoders_train_on_data_without_their_units() -> None:
    model, _ = tiny_model()
    check_units(tiny_recipe(stages=(stage("boxes", "rec"),)), model)
    plain, _ = tiny_model(anchored=False)
    with pytest.raises(RecipeError, match=r"mask_decoder .* cannot learn units of type mask"):
        check_units(tiny_recipe(stages=(stage("boxes", "rec"),)), plain)


def test_a_choice_is_plain_data() -> None:
    assert asdict(tiny_choice())["decoders"]["box"]["width"] == 32

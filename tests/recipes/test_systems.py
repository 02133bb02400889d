"""The recipes of the four systems, cut to a few steps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deixis.inference import load
from deixis.models.vision import SmallVisionConfig
from deixis.recipes import RECIPES, load_recipe, recipe_from_json, recipe_to_json
from deixis.structures import Description
from deixis.training import SceneData, TrainRecipe, train

SMALL: dict[str, Any] = {
    "hidden": 48,
    "layers": 2,
    "heads": 2,
    "intermediate": 64,
    "vocabulary": 400,
    "corpus": 10,
    "pixel_width": 8,
    "vision": SmallVisionConfig(
        image_size=64, widths=(8, 16, 32, 48), blocks=(1, 1), layers=1, heads=2
    ),
}


# sizes of the full-size recipe that are reduced in addition
SMALLER = {
    "refvlm_code_scenes": [
        f"model.decoders.{part}.{field}={value}"
        for part in ("box", "mask", "keypoint")
        for field, value in {"width": 16, "heads": 2, "hidden": 24, "num_queries": 12}.items()
    ]
    + ["model.pixel_decoder.width=32", "model.pixel_decoder.groups=8"],
}


def small(name: str) -> TrainRecipe:
    recipe = load_recipe(name, SMALLER.get(name, []))
    stages = tuple(
        replace(
            stage,
            steps=2,
            batch_size=4,
            data=replace(stage.data, long_side=64, turns=4)
            if isinstance(stage.data, SceneData)
            else stage.data,
        )
        for stage in recipe.stages
    )
    return replace(
        recipe,
        model=replace(recipe.model, **SMALL),
        stages=stages,
        precision="float32",
        workers=0,
        log_every=1,
    )


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_round_trips_through_json(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe_from_json(TrainRecipe, recipe_to_json(recipe)) == recipe


@pytest.mark.parametrize("name", sorted(RECIPES.keys() - {"scenes_tiny"}))
def test_a_system_trains_through_its_stages_and_answers(name: str, tmp_path: Path) -> None:
    recipe = small(name)
    rows: list[dict[str, float]] = []
    train(recipe, tmp_path / "run", report=rows.append)
    assert len(rows) == recipe.total_steps
    assert all(np.isfinite(list(row.values())).all() for row in rows if row)
    predictor = load(tmp_path / "run", device="cpu")
    # parts for training only are not released
    assert predictor.model.alignment is None
    image = np.zeros((48, 64, 3), np.uint8)
    answer = predictor.ask(image, ["Find ", Description("the red circle"), "."], max_new_tokens=8)
    assert answer.size.width == 64

"""Recipes by name, by file and function, or from the JSON file of a run."""

import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from deixis.errors import RecipeError
from deixis.recipes.overrides import apply_overrides, recipe_from_json
from deixis.recipes.scenes import scenes_tiny
from deixis.recipes.systems import (
    pink_scenes,
    refvlm_code_scenes,
    refvlm_scenes,
    tamp_scenes,
    ullava_scenes,
)
from deixis.training import TrainRecipe
from deixis.training.loop import damaged_recipe, kept_recipe

RECIPES: dict[str, Callable[[], TrainRecipe]] = {
    recipe.__name__: recipe
    for recipe in (
        scenes_tiny,
        pink_scenes,
        tamp_scenes,
        ullava_scenes,
        refvlm_scenes,
        refvlm_code_scenes,
    )
}


def load_recipe(name_or_file: str, overrides: Sequence[str] = ()) -> TrainRecipe:
    """Return a recipe with its overrides applied.

    Args:
        name_or_file: A name of `RECIPES`, ``file.py:function`` (the file is run), or a
            ``recipe.json`` that a run wrote.
        overrides: ``path=value`` strings; see `apply_overrides`.

    Raises:
        RecipeError: The recipe is unknown, the file does not return one, or an override is invalid.
    """
    return apply_overrides(_find(name_or_file), overrides)


def load_kept(out: Path) -> TrainRecipe:
    """Return the recipe of the run in a folder.

    Raises:
        CheckpointError: Its ``recipe.json`` is missing or damaged; a hint names the remedy.
    """
    text = json.dumps(kept_recipe(out))
    try:
        return recipe_from_json(TrainRecipe, text)
    except RecipeError as error:
        raise damaged_recipe(out, f"{out / 'recipe.json'}: damaged: {error}") from error


def _find(name_or_file: str) -> TrainRecipe:
    if name_or_file in RECIPES:
        return RECIPES[name_or_file]()
    path, colon, function = name_or_file.rpartition(":")
    if colon and path.endswith(".py"):
        return _from_python(Path(path), function)
    if name_or_file.endswith(".json"):
        return recipe_from_json(TrainRecipe, _text(Path(name_or_file)))
    raise RecipeError(
        f"unknown recipe {name_or_file!r}; expected one of {', '.join(RECIPES)}, "
        "file.py:function or a recipe.json"
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise RecipeError(f"recipe {path}: cannot be read: {error}") from error


def _from_python(path: Path, function: str) -> TrainRecipe:
    _text(path)
    name = f"deixis_recipe_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RecipeError(f"recipe {path}: is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses in the file look up their module by name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError, NameError) as error:
        raise RecipeError(f"recipe {path}: {type(error).__name__}: {error}") from error
    make = getattr(module, function, None)
    if not callable(make):
        raise RecipeError(f"recipe {path}: has no function {function!r}")
    recipe = make()
    if not isinstance(recipe, TrainRecipe):
        raise RecipeError(
            f"recipe {path}:{function}: returns {type(recipe).__name__}, expected TrainRecipe"
        )
    return recipe

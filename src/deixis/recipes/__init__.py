"""Named recipes; each is a function that returns frozen dataclasses."""

from deixis.recipes.overrides import apply_overrides, recipe_from_json, recipe_to_json
from deixis.recipes.registry import RECIPES, load_kept, load_recipe
from deixis.recipes.scenes import scenes_tiny

__all__ = [
    "RECIPES",
    "apply_overrides",
    "load_kept",
    "load_recipe",
    "recipe_from_json",
    "recipe_to_json",
    "scenes_tiny",
]

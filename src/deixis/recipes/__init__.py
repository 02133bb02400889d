"""Named recipes; each is a function that returns frozen dataclasses."""

from collections.abc import Callable

from deixis.recipes.scenes import scenes_tiny
from deixis.training import TrainRecipe

RECIPES: dict[str, Callable[[], TrainRecipe]] = {"scenes_tiny": scenes_tiny}

__all__ = ["RECIPES", "scenes_tiny"]

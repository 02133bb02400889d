"""Stages, the training loop and checkpoints."""

from deixis.training.loop import train
from deixis.training.recipe import (
    BuiltData,
    ModelChoice,
    Optimizer,
    SceneData,
    Stage,
    TrainRecipe,
    on_built_data,
)

__all__ = [
    "BuiltData",
    "ModelChoice",
    "Optimizer",
    "SceneData",
    "Stage",
    "TrainRecipe",
    "on_built_data",
    "train",
]

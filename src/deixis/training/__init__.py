"""Stages, the training loop and checkpoints."""

from deixis.training.loop import train
from deixis.training.recipe import (
    BuiltData,
    LiveData,
    ModelChoice,
    Optimizer,
    SceneData,
    Stage,
    TrainRecipe,
    on_built_data,
    on_live_data,
)

__all__ = [
    "BuiltData",
    "LiveData",
    "ModelChoice",
    "Optimizer",
    "SceneData",
    "Stage",
    "TrainRecipe",
    "on_built_data",
    "on_live_data",
    "train",
]

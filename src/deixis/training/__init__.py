"""Stages, the training loop and checkpoints."""

from deixis.training.loop import train
from deixis.training.recipe import (
    BuiltData,
    EncoderChoice,
    LiveData,
    ModelChoice,
    Optimizer,
    SavedModel,
    SceneData,
    Stage,
    TrainRecipe,
    going_on_from,
    on_built_data,
    on_live_data,
    with_moved_index,
)

__all__ = [
    "BuiltData",
    "EncoderChoice",
    "LiveData",
    "ModelChoice",
    "Optimizer",
    "SavedModel",
    "SceneData",
    "Stage",
    "TrainRecipe",
    "going_on_from",
    "on_built_data",
    "on_live_data",
    "train",
    "with_moved_index",
]

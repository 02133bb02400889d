"""Stages, the training loop and checkpoints."""

from deixis.training.loop import train
from deixis.training.recipe import (
    ModelChoice,
    Optimizer,
    SceneData,
    Stage,
    TrainRecipe,
)

__all__ = ["ModelChoice", "Optimizer", "SceneData", "Stage", "TrainRecipe", "train"]

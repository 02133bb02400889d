"""Asking a model: generation, decoding of references, answers in source pixels."""

from deixis.inference.generation import Generated, generate
from deixis.inference.load import load, shipped_models
from deixis.inference.pointing_answer import PointingAnswer
from deixis.inference.predictor import Predictor

__all__ = ["Generated", "PointingAnswer", "Predictor", "generate", "load", "shipped_models"]

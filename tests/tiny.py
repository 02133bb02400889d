"""A random tiny model and its processor."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from types import MappingProxyType
from typing import Any

import torch

from deixis.models.config import PointingVLMConfig
from deixis.models.decoders import DecoderConfig
from deixis.models.pointing import PointingVLM
from deixis.models.vision import SmallVisionConfig
from deixis.processing.build import build_processor
from deixis.processing.processor import Processor
from deixis.processing.tokenizer import MarkedTokenizer, train_tokenizer
from deixis.training.build import model_config
from deixis.training.recipe import ModelChoice, SceneData, Stage, TrainRecipe

TEXTS = (
    "Where is the red circle on the left?",
    "Segment every star.",
    "The red circle. box,mask [0] [1] ( ) There is no blue square.",
)


def tiny_choice(*, anchored: bool = True) -> ModelChoice:
    decoder = DecoderConfig(
        width=32, heads=2, hidden=48, layers=2, anchored=anchored, num_queries=24
    )
    return ModelChoice(
        hidden=48,
        layers=2,
        heads=2,
        intermediate=64,
        vocabulary=400,
        corpus=10,
        vision=SmallVisionConfig(
            image_size=64, widths=(8, 16, 32, 48), blocks=(1, 1), layers=1, heads=2
        ),
        decoders={"box": decoder, "mask": decoder},
        pixel_width=8,
    )


def tiny_decoders(*names: str) -> dict[str, dict[str, Any]]:
    """Return some of the tiny model's decoders as configuration."""
    return {name: asdict(tiny_choice().decoders[name]) for name in names}


@cache
def tiny_tokenizer() -> MarkedTokenizer:
    return train_tokenizer(TEXTS * 20, size=400)


def tiny_model(
    *,
    anchored: bool = True,
    seed: int = 0,
    more: Mapping[str, dict[str, Any]] = MappingProxyType({}),
    **changes: Any,
) -> tuple[PointingVLM, Processor]:
    """Build a model; ``changes`` are fields of its configuration, ``more`` are further decoders."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    config = model_config(tiny_choice(anchored=anchored), tokenizer, ["circle", "red"])
    if changes or more:
        fields = {**config.to_dict(), **changes}
        fields["decoders"] = {**fields["decoders"], **more}
        config = PointingVLMConfig(**fields)
    model = PointingVLM(config)
    model.eval()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    return model, build_processor(config, tokenizer)


def tiny_recipe(**changes: object) -> TrainRecipe:
    data = SceneData(seed=5, long_side=64, turns=4, row_tokens=128)
    stage = Stage(name="all", steps=6, batch_size=2, data=data)
    settings: dict[str, object] = {
        "name": "tiny",
        "model": tiny_choice(),
        "stages": (stage,),
        "precision": "float32",
        "workers": 0,
        "log_every": 1,
        "checkpoint_every": 2,
    }
    return TrainRecipe(**{**settings, **changes})  # type: ignore[arg-type]  # checked by beartype

"""Models, rows and gradients of single steps, for tests of one process and of several."""

from dataclasses import replace

import numpy as np
import torch
from tiny import tiny_choice, tiny_recipe

from deixis.batch import Batch
from deixis.data.scenes import draw_scene, scene_sample
from deixis.data.tasks import sample_turns
from deixis.models.pointing import PointingVLM
from deixis.models.regions import ConnectorConfig
from deixis.models.regions.alignment import AlignmentConfig
from deixis.processing.batch import Row, collate
from deixis.processing.processor import Processor
from deixis.structures import Conversation
from deixis.training.build import build_model
from deixis.training.recipe import RegionChoice, TextEncoderShape


def aligned_model(**alignment: object) -> tuple[PointingVLM, Processor]:
    """Build a model whose connector reads descriptions with the language model's tokens."""
    choice = replace(
        tiny_choice(),
        tokens_from="encoder",
        regions=RegionChoice(
            (("task", ConnectorConfig(width=16)),), (("text", "task"), ("box", "task"))
        ),
        describer=TextEncoderShape(16, 1, 2, 24),
        alignment=AlignmentConfig(**alignment),  # type: ignore[arg-type]  # checked by beartype
    )
    torch.manual_seed(0)
    model, processor = build_model(tiny_recipe(model=choice))
    return model.train(mode=False), processor


def rows(processor: Processor, count: int, *tasks: str) -> list[Row]:
    made = []
    for index in range(count):
        sample = scene_sample(draw_scene(4, index, level="plain", split="train", long_side=64))
        turns = sample_turns(sample, np.random.default_rng(index), count=4, tasks=list(tasks))
        conversation = Conversation(sample.id, sample.image, sample.size, turns, independent=True)
        made.append(processor.row(conversation, instances=sample.instances))
    return made


def pieces_of(processor: Processor, made: list[Row], size: int) -> list[Batch]:
    pad = processor.tokenizer.pad_id
    return [collate(made[at : at + size], pad_id=pad) for at in range(0, len(made), size)]


def gradients(model: PointingVLM) -> dict[str, torch.Tensor]:
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }

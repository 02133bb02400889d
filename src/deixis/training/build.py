"""From a recipe's model choice to a model and its processor."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from transformers import LlamaConfig

from deixis.data.scenes import draw_scene, scene_sample
from deixis.data.tasks import sample_turns
from deixis.errors import ModelError
from deixis.models.config import PointingVLMConfig
from deixis.models.pointing import PointingVLM
from deixis.notation import Marker, Triplets
from deixis.processing.build import build_processor
from deixis.processing.processor import Processor
from deixis.processing.tokenizer import MarkedTokenizer, train_tokenizer
from deixis.structures import GroundedText
from deixis.training.aligned import attach_aligned
from deixis.training.recipe import ModelChoice, TrainRecipe


def build_model(recipe: TrainRecipe) -> tuple[PointingVLM, Processor]:
    """Build a fresh model; weights follow the global random state, the tokenizer the recipe.

    Raises:
        ModelError: The model to attach to is of another family, or what is new does not fit it.
        CheckpointError: Its files are missing or damaged.
    """
    seed, corpus = recipe.seed, recipe.model.corpus
    concepts = scene_concepts(seed, corpus) if recipe.model.concepts else []
    if recipe.model.aligned is not None:
        return build_aligned(recipe.model, recipe.model.aligned, concepts)
    tokenizer = train_tokenizer(scene_texts(seed, corpus), size=recipe.model.vocabulary)
    config = model_config(recipe.model, tokenizer, concepts)
    return PointingVLM(config), build_processor(config, tokenizer)


def build_aligned(
    choice: ModelChoice, folder: str, concepts: list[str]
) -> tuple[PointingVLM, Processor]:
    """Attach what a choice describes to the released model in a folder.

    Raises:
        ModelError: The model is of another family, or what is new does not fit it.
        CheckpointError: Its files are missing or damaged.
    """
    if choice.tokens_from != "encoder":
        raise ModelError(
            f"tokens_from {choice.tokens_from!r}: an aligned model reads its encoder's tokens\n"
            "hint: --set model.tokens_from=encoder"
        )
    model, tokenizer = attach_aligned(
        Path(folder), image_size=choice.aligned_canvas, **new_fields(choice, concepts)
    )
    return model, build_processor(model.config, tokenizer)


def model_config(
    choice: ModelChoice, tokenizer: MarkedTokenizer, concepts: list[str]
) -> PointingVLMConfig:
    """The Hugging Face configuration of a model choice."""
    text = LlamaConfig(
        vocab_size=len(tokenizer.tokenizer),
        hidden_size=choice.hidden,
        intermediate_size=choice.intermediate,
        num_hidden_layers=choice.layers,
        num_attention_heads=choice.heads,
        num_key_value_heads=choice.heads,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        initializer_range=choice.language_init,
        bos_token_id=tokenizer.begin_id,
        eos_token_id=tokenizer.end_id,
        pad_token_id=tokenizer.pad_id,
    )
    return PointingVLMConfig(
        text_config=text,
        vision=asdict(choice.vision),
        marker_ids={marker.value: index for marker, index in tokenizer.marker_ids.items()},
        **new_fields(choice, concepts),
    )


def new_fields(choice: ModelChoice, concepts: list[str]) -> dict[str, Any]:
    """Fields of the configuration for all but encoder, language model and tokenizer."""
    more = {"keypoint": choice.keypoint_decoder, "depth": choice.depth_decoder}
    return {
        "box_decoder": asdict(choice.box_decoder),
        "mask_decoder": asdict(choice.mask_decoder),
        "pixel_width": choice.pixel_width,
        "region_tokens": choice.region_tokens,
        "notation": choice.notation,
        "concepts": concepts,
        "proposals": choice.proposals,
        "tokens_from": choice.tokens_from,
        "loss_weights": dict(choice.loss_weights),
        "decoders": {name: asdict(shape) for name, shape in more.items() if shape is not None},
    }


def scene_concepts(seed: int, count: int) -> list[str]:
    """Categories and attributes of things in training scenes."""
    words: set[str] = set()
    for index in range(count):
        scene = draw_scene(seed, index, level="standard", split="train", long_side=64)
        for instance in scene_sample(scene).instances:
            words |= {instance.category, *instance.attributes}
    return sorted(words)


def scene_texts(seed: int, count: int) -> Iterator[str]:
    """Questions and answers about training scenes, to learn a vocabulary from."""
    triplets = Triplets()
    for index in range(count):
        scene = draw_scene(seed, index, level="standard", split="train", long_side=64)
        sample = scene_sample(scene)
        rng = np.random.default_rng([seed, index, 0x746F6B])
        for turn in sample_turns(sample, rng, count=12):
            yield from (part for part in turn.question if isinstance(part, str))
            answer = turn.answer if turn.answer is not None else GroundedText("")
            pieces = triplets.encode(answer, sample.size).pieces
            yield from (piece for piece in pieces if not isinstance(piece, Marker))

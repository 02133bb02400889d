"""Build a model and its processor from the model choice of a recipe."""

import logging
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import LlamaConfig, PreTrainedConfig, PreTrainedModel

from deixis.data.scenes import draw_scene, scene_sample
from deixis.data.tasks import sample_turns
from deixis.errors import CheckpointError, ModelError
from deixis.inference import load
from deixis.models.config import PointingVLMConfig
from deixis.models.language import find_language, grow_vocabulary, load_language, set_token_ids
from deixis.models.pointing import PointingVLM
from deixis.models.published import load_imported
from deixis.models.vision.kinds import VisionEncoder, write_vision
from deixis.models.vision.loading import load_encoder
from deixis.models.vision.pyramid import PYRAMID_PRESETS, load_pyramid
from deixis.models.vision.small import SmallVisionConfig
from deixis.notation import Marker, Triplets, notation_named
from deixis.processing.build import build_processor
from deixis.processing.processor import Processor
from deixis.processing.tokenizer import (
    ASSISTANT,
    USER,
    MarkedTokenizer,
    add_markers,
    read_tokenizer,
    train_tokenizer,
)
from deixis.structures import GroundedText
from deixis.training.aligned import aligned_tokenizer, attach_aligned
from deixis.training.choices import (
    decoder_fields,
    load_parts,
    reference_offset,
    region_fields,
)
from deixis.training.recipe import EncoderChoice, ModelChoice, SavedModel, TrainRecipe


def build_model(recipe: TrainRecipe) -> tuple[PointingVLM, Processor]:
    """Build the model that a recipe trains.

    Weights that are not read from files are random and follow the global random state. A tokenizer
    without files is trained with the recipe's seed.

    Raises:
        ModelError: A model or encoder is unknown or does not fit.
        CheckpointError: Its files are damaged.
    """
    choice = recipe.model
    if isinstance(choice, SavedModel):
        saved = load(choice.name, device="cpu", dtype="float32")
        return saved.model, saved.processor
    dtype = torch.float32 if choice.load_in == "float32" else torch.bfloat16
    concepts = scene_concepts(recipe.seed, choice.corpus) if choice.concepts else []
    if choice.aligned is not None:
        return build_aligned(choice, choice.aligned, concepts, dtype=dtype)
    language, encoder = None, None
    if choice.language is None:
        texts = scene_texts(recipe.seed, choice.corpus)
        spelling = notation_named(choice.notation).spelling
        tokenizer = train_tokenizer(texts, size=choice.vocabulary, spelling=spelling)
    else:
        language, tokenizer = load_marked_language(
            choice.language, dtype=dtype, notation=choice.notation
        )
    if not isinstance(choice.vision, SmallVisionConfig):
        encoder = load_vision(choice.vision, dtype=dtype)
    config = model_config(
        choice,
        tokenizer,
        concepts,
        # a configuration loses its attention implementation when it becomes part of another
        text=None if language is None else deepcopy(language.config),
        encoder=encoder,
    )
    model = PointingVLM(config, vision_encoder=encoder, language_model=language)
    if choice.imported is not None:
        turns = {USER: tokenizer.user_id, ASSISTANT: tokenizer.assistant_id}
        for loaded in load_imported(
            model,
            Path(choice.imported),
            vocabulary=tokenizer.tokenizer.get_vocab(),
            turns=turns,
        ):
            stay = f", {len(loaded.stay)} of the model's stay" if loaded.stay else ""
            lost = f", no row for the tokens {list(loaded.no_row)}" if loaded.no_row else ""
            logger.info("%s: %d tensors%s%s", loaded.part, loaded.taken, stay, lost)
    return model, build_processor(config, tokenizer, load_parts(choice, model))


def align_memory(model: nn.Module) -> None:
    """Copy weights that are mapped from a file into memory that torch allocates.

    A mapped weight starts at an arbitrary byte of its file. Kernels of the processor choose the
    order of their sums by the alignment of their input, so the same weights, once read and once
    restored from a checkpoint, would give results that differ in the last bits.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu" and tensor.data_ptr() % ALIGNMENT:
            tensor.data = tensor.data.clone()


def load_marked_language(
    name: str, *, dtype: torch.dtype, notation: str = "triplets"
) -> tuple[PreTrainedModel, MarkedTokenizer]:
    """Read a language model and its tokenizer, and add the markers of a notation to both.

    Raises:
        NotationError: The notation is unknown.
        ModelError: The model is unknown or unsupported.
        CheckpointError: Its files are damaged or missing.
    """
    folder = find_language(name)
    try:
        bare = read_tokenizer(folder)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"tokenizer of language model {name}: {reason}") from error
    known = set(bare.get_vocab().values())
    tokenizer = add_markers(bare, notation_named(notation).spelling)
    model = load_language(folder, dtype=dtype)
    added = set(tokenizer.tokenizer.get_vocab().values()) - known
    grow_vocabulary(model, len(tokenizer), added)
    set_token_ids(model, pad=tokenizer.pad_id, begin=tokenizer.begin_id, end=tokenizer.end_id)
    return model, tokenizer


def load_vision(choice: EncoderChoice | str, *, dtype: torch.dtype) -> VisionEncoder:
    """Read a pretrained vision encoder with all of its parameters trainable.

    Raises:
        ModelError: The encoder is unknown or unsupported.
        CheckpointError: Its weights are missing, damaged or incomplete.
    """
    if isinstance(choice, str):
        choice = EncoderChoice(choice)
    encoder: VisionEncoder
    if choice.source in PYRAMID_PRESETS:
        encoder = load_pyramid(
            choice.source, vit=choice.vit, convolution=choice.convolution, dtype=dtype
        )
    else:
        encoder = load_encoder(
            choice.source, image_size=choice.image_size, layer=choice.layer, dtype=dtype
        )
    # the stage freezes parts
    encoder.requires_grad_(True)
    return encoder


def build_aligned(
    choice: ModelChoice, folder: str, concepts: list[str], *, dtype: torch.dtype
) -> tuple[PointingVLM, Processor]:
    """Add the parts of a model choice to the released model in a folder.

    Raises:
        ModelError: The model is of another family, or the new parts do not fit it.
        CheckpointError: Its files are missing or damaged.
    """
    if choice.tokens_from != "encoder":
        raise ModelError(
            f"tokens_from {choice.tokens_from!r}: an aligned model reads its encoder's tokens\n"
            "hint: --set model.tokens_from=encoder"
        )
    known, _ = aligned_tokenizer(Path(folder), choice.notation)
    model, tokenizer = attach_aligned(
        Path(folder),
        image_size=choice.aligned_canvas,
        dtype=dtype,
        **new_fields(choice, concepts, known),
    )
    return model, build_processor(model.config, tokenizer, load_parts(choice, model))


def model_config(
    choice: ModelChoice,
    tokenizer: MarkedTokenizer,
    concepts: list[str],
    *,
    text: PreTrainedConfig | None = None,
    encoder: VisionEncoder | None = None,
) -> PointingVLMConfig:
    """Return the Hugging Face configuration of a model choice.

    ``text`` is the configuration of a language model that was read from files, ``encoder`` a vision
    encoder that was; None for those built from scratch.
    """
    if encoder is not None:
        vision = write_vision(encoder.config)
    elif isinstance(choice.vision, SmallVisionConfig):
        vision = asdict(choice.vision)
    else:
        raise ModelError(f"vision {choice.vision!r}: expected its loaded encoder, got none")
    text = text or LlamaConfig(
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
        vision=vision,
        marker_ids={marker.value: index for marker, index in tokenizer.marker_ids.items()},
        projector=PROJECTORS[choice.projector] if choice.tokens_from == "encoder" else {},
        **new_fields(choice, concepts, tokenizer),
    )


logger = logging.getLogger(__name__)

ALIGNMENT = 64
"""Alignment in bytes of memory that torch allocates on the processor."""

PROJECTORS: dict[str, dict[str, Any]] = {
    "mlp": {},
    "linear": {"layers": 1, "bias": False},
    "linear_bias": {"layers": 1},
}
"""Configuration of a projector by its name: of TAMP and REF-VLM, of Pink, of u-LLaVA."""


def new_fields(
    choice: ModelChoice, concepts: list[str], tokenizer: MarkedTokenizer
) -> dict[str, Any]:
    """Return configuration fields of the parts other than encoder, projector and language model."""
    return {
        "decoders": decoder_fields(choice),
        "pixel_width": choice.pixel_width,
        "mask_target": choice.mask_target,
        "region_tokens": choice.region_tokens,
        "notation": choice.notation,
        "offset": reference_offset(choice),
        "concepts": concepts,
        "proposals": choice.proposals,
        "tokens_from": choice.tokens_from,
        "loss_weights": dict(choice.loss_weights),
        "regions": region_fields(choice, tokenizer),
        "pixel_decoder": None if choice.pixel_decoder is None else asdict(choice.pixel_decoder),
        "video": None if choice.video is None else asdict(choice.video),
        "alignment": None if choice.alignment is None else asdict(choice.alignment),
    }


def scene_concepts(seed: int, count: int) -> list[str]:
    """Return the categories and attributes of instances in the first ``count`` training scenes."""
    words: set[str] = set()
    for index in range(count):
        scene = draw_scene(seed, index, level="standard", split="train", long_side=64)
        for instance in scene_sample(scene).instances:
            words |= {instance.category, *instance.attributes}
    return sorted(words)


def scene_texts(seed: int, count: int) -> Iterator[str]:
    """Yield questions and answers about training scenes, to train a tokenizer on."""
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

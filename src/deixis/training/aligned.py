"""Add region encoders and decoders to a released vision-language model."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from deixis.errors import CheckpointError
from deixis.models.aligned import read_aligned
from deixis.models.config import PointingVLMConfig
from deixis.models.language import grow_vocabulary
from deixis.models.pointing import PointingVLM
from deixis.notation import notation_named
from deixis.processing.tokenizer import MarkedTokenizer, add_markers, read_tokenizer

ALIGNED_PARTS = ("vision_encoder", "projector", "language_model")
"""Parts that the released model provides."""

BEFORE_IMAGES = "<|vision_start|>"
"""The token before an image in Qwen-VL, which has no token for the start of a sequence."""


def attach_aligned(
    folder: Path,
    *,
    image_size: int | None = None,
    notation: str = "triplets",
    dtype: torch.dtype = torch.float32,
    **fields: Any,
) -> tuple[PointingVLM, MarkedTokenizer]:
    """Add region encoders and decoders to a model of the LLaVA or Qwen-VL families.

    The released model provides the image tokens, their positions and the language model. Its parts
    are frozen; a training stage selects which of them train.

    Args:
        folder: The released model in the Hugging Face layout, with its tokenizer.
        image_size: Side of the canvas in pixels; by default the size of the encoder, or 448.
        notation: The notation of grounded text, a name of `deixis.notation.NOTATIONS`.
        dtype: Precision of the released weights. New parts are float32; use autocast where the two
            differ.
        **fields: Fields of `PointingVLMConfig` for the new parts.

    Raises:
        ModelError: The model is of another family, or the new parts cannot be built.
        CheckpointError: Files are missing, damaged or inconsistent.
    """
    parts = read_aligned(folder, image_size=image_size, dtype=dtype)
    tokenizer, new = aligned_tokenizer(folder, notation)
    grow_vocabulary(parts.language_model, len(tokenizer.tokenizer), new)
    config = PointingVLMConfig(
        **fields,
        notation=notation,
        # a configuration loses its attention implementation when it becomes part of another
        **deepcopy(parts.fields),
        marker_ids={marker.value: index for marker, index in tokenizer.marker_ids.items()},
    )
    model = PointingVLM(config, **parts.given())
    for name in ALIGNED_PARTS:
        model.get_submodule(name).requires_grad_(requires_grad=False)
    return model, tokenizer


def aligned_tokenizer(
    folder: Path, notation: str = "triplets"
) -> tuple[MarkedTokenizer, frozenset[int]]:
    """Return the tokenizer of a released model with our markers, and the ids that were added.

    Raises:
        NotationError: The notation is unknown.
        CheckpointError: Files of the tokenizer are missing or damaged.
    """
    try:
        known = read_tokenizer(folder)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise CheckpointError(f"tokenizer {folder}: {str(error).splitlines()[0]}") from error
    if known.bos_token_id is None and BEFORE_IMAGES in known.get_vocab():
        known.add_special_tokens({"bos_token": BEFORE_IMAGES})
    before = set(known.get_vocab().values())
    tokenizer = add_markers(known, notation_named(notation).spelling)
    return tokenizer, frozenset(tokenizer.tokenizer.get_vocab().values()) - before

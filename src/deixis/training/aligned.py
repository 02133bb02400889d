"""From a released vision-language model to one that points."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from deixis.errors import CheckpointError
from deixis.models.aligned import read_aligned
from deixis.models.config import PointingVLMConfig
from deixis.models.pointing import PointingVLM
from deixis.notation import Marker
from deixis.processing.tokenizer import ASSISTANT, BEGIN, END, PAD, USER, MarkedTokenizer

ALIGNED_PARTS = ("vision_encoder", "projector", "language_model")
"""Parts that come from the other model."""

BEFORE_IMAGES = "<|vision_start|>"
"""What stands before an image in Qwen-VL, whose sequences begin with nothing else."""


def attach_aligned(
    folder: Path,
    *,
    image_size: int | None = None,
    dtype: torch.dtype = torch.float32,
    **fields: Any,
) -> tuple[PointingVLM, MarkedTokenizer]:
    """Put our region encoder and decoders on a model of the LLaVA or Qwen-VL families.

    Image tokens, their positions and the language model are that model's. Its parts are frozen;
    a training stage says which of them train. Rows of the vocabulary that the markers need begin
    as the mean of all others.

    Args:
        folder: The released model, as Hugging Face has it, with its tokenizer.
        image_size: Side of the canvas in pixels; by default the encoder's own, or 448.
        dtype: Precision of the released weights; what is new is float32, and the two together take
            autocast where they differ.
        **fields: Fields of `PointingVLMConfig` for what is new.

    Raises:
        ModelError: The model is of another family, or the new parts cannot be built.
        CheckpointError: Files are missing or damaged, or do not fit one another.
    """
    parts = read_aligned(folder, image_size=image_size, dtype=dtype)
    try:
        known: Any = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"tokenizer {folder}: {str(error).splitlines()[0]}") from error
    tokenizer = add_vocabulary(known, parts.language_model)
    config = PointingVLMConfig(
        **fields,
        **parts.fields,
        marker_ids={marker.value: index for marker, index in tokenizer.marker_ids.items()},
    )
    model = PointingVLM(config, **parts.given())
    for name in ALIGNED_PARTS:
        model.get_submodule(name).requires_grad_(requires_grad=False)
    return model, tokenizer


@torch.no_grad()
def add_vocabulary(
    tokenizer: PreTrainedTokenizerBase, language_model: PreTrainedModel
) -> MarkedTokenizer:
    """Teach a tokenizer our markers, and make room for them in the language model."""
    before = len(tokenizer)
    ends = {
        "pad_token": (tokenizer.pad_token_id, PAD),
        "bos_token": (
            tokenizer.bos_token_id,
            BEFORE_IMAGES if BEFORE_IMAGES in tokenizer.get_vocab() else BEGIN,
        ),
        "eos_token": (tokenizer.eos_token_id, END),
    }
    tokenizer.add_special_tokens(
        {name: text for name, (index, text) in ends.items() if index is None}
    )
    tokenizer.add_special_tokens(
        {"extra_special_tokens": [USER, ASSISTANT, *(marker.value for marker in Marker)]},
        replace_extra_special_tokens=False,
    )
    model: Any = language_model
    if len(tokenizer) > len(model.get_input_embeddings().weight):
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    for table in (model.get_input_embeddings(), model.get_output_embeddings()):
        mean = table.weight[:before].float().mean(0)
        table.weight[before : len(tokenizer)] = mean.to(table.weight.dtype)
    return MarkedTokenizer(tokenizer)

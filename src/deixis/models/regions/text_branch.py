"""A Hugging Face text encoder that encodes descriptions as vectors (TAMP 2.2)."""

from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForTextEncoding, PreTrainedConfig, PreTrainedModel

from deixis.errors import ModelError
from deixis.models.weight_files import check_folder

Summary = Literal["first", "mean", "last"]

# fields about the files and their precision, which do not describe the model
_NOT_SHAPE = ("_name_or_path", "dtype", "torch_dtype", "transformers_version", "architectures")


def read_text_config(folder: Path) -> dict[str, Any]:
    """Read the configuration of a text encoder, as a part of another configuration.

    Raises:
        ModelError: The folder has no text encoder.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"no text encoder in {folder}: {str(error).splitlines()[0]}") from error
    return {key: value for key, value in config.to_dict().items() if key not in _NOT_SHAPE}


class TextBranch(nn.Module):
    """Encode descriptions as token states and a summary vector.

    The summary is the state of the ``first`` token ([CLS] of BERT), of the ``last`` token (causal
    encoders), or the ``mean``. Tokens are moved to the left before encoding, so padding on either
    side has no effect.

    Raises:
        ModelError: The configuration is not that of a text encoder.
    """

    def __init__(self, config: dict[str, Any], *, summary: Summary = "first") -> None:
        super().__init__()
        self.summary = summary
        self.encoder = _fresh_encoder(config)
        self.width = int(self.encoder.config.hidden_size)

    def forward(
        self, ids: Int[Tensor, "n t"], mask: Bool[Tensor, "n t"]
    ) -> tuple[Float[Tensor, "n t w"], Bool[Tensor, "n t"], Float[Tensor, "n w"]]:
        """Return token states (packed to the left), the mask of text tokens, and summaries.

        Raises:
            ModelError: A description has no tokens.
        """
        lengths = mask.sum(1)
        if not bool(lengths.all()):
            raise ModelError(f"description {int(lengths.argmin())} is empty: expected text")
        order = mask.logical_not().int().argsort(dim=1, stable=True)
        ids, mask = ids.gather(1, order), mask.gather(1, order)
        states = self.encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        match self.summary:
            case "first":
                summary = states[:, 0]
            case "last":
                summary = states[torch.arange(len(states), device=states.device), lengths - 1]
            case _:
                kept = states * mask[..., None]
                summary = kept.sum(1) / lengths[:, None]
        return states, mask, summary

    def load(self, folder: Path) -> None:
        """Load weights from the folder of a text encoder of the same shape.

        Raises:
            ModelError: The folder has no text encoder, or one of another shape.
            CheckpointError: Its weights are damaged.
        """
        check_folder(folder, f"text encoder in {folder}")
        try:
            found = AutoModelForTextEncoding.from_pretrained(
                folder, local_files_only=True, use_safetensors=True
            )
            _without_pooler(found)
            self.encoder.load_state_dict(found.state_dict())
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"text encoder in {folder}: {str(error).splitlines()[0]}") from error


def _fresh_encoder(config: dict[str, Any]) -> PreTrainedModel:
    fields = dict(config)
    kind = fields.pop("model_type", None)
    try:
        shape: PreTrainedConfig = AutoConfig.for_model(kind, **fields)
        encoder = AutoModelForTextEncoding.from_config(shape)
    except (ValueError, TypeError) as error:
        message = str(error).splitlines()[0][:120]
        raise ModelError(f"text_encoder of model_type {kind!r}: {message}") from error
    return _without_pooler(encoder)


def _without_pooler(encoder: PreTrainedModel) -> PreTrainedModel:
    """Drop BERT's pooler: the summary does not use it, so it would not train."""
    if isinstance(getattr(encoder, "pooler", None), nn.Module):
        setattr(encoder, "pooler", None)  # noqa: B010  # torch types it as a module
    return encoder


def pool_by_slots(
    slots: Float[Tensor, "k d"], states: Float[Tensor, "n t d"], mask: Bool[Tensor, "n t"]
) -> Float[Tensor, "n k d"]:
    """Return a weighted mean of a text's tokens for each slot, with attention weights."""
    queries = slots.to(states.dtype).expand(len(states), *slots.shape)
    return functional.scaled_dot_product_attention(queries, states, states, mask[:, None])

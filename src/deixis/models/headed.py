"""Language models that transformers provides only as parts of other models, with a head added."""

import inspect
from typing import Any

from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

GRID_LANGUAGE_MODELS = frozenset({"qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text"})
"""Model types with two-dimensional positions of image tokens (see `GridPositions`).

Transformers has no causal language model class for them.
"""


class HeadedLanguageModel(PreTrainedModel):
    """The language model of Qwen-VL with an output head, as a causal language model."""

    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012  # of the base

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.model = AutoModel.from_config(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]  # transformers leaves it untyped

    def forward(self, **inputs: Any) -> Any:
        """Return logits of the next tokens; inputs are those of the model without a head."""
        return self.lm_head(self.model(**inputs).last_hidden_state)


def build_language_model(config: PreTrainedConfig) -> PreTrainedModel:
    """Build a causal language model with random weights, from transformers or from this module."""
    if config.model_type in GRID_LANGUAGE_MODELS:
        return HeadedLanguageModel(config)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


def cache_argument(decoder: nn.Module) -> str:
    """Return the name of the argument that takes a language model's key-value cache.

    Transformers 5.24 renamed ``past_key_values`` to ``cache`` in some models; both versions are
    supported.
    """
    names = inspect.signature(decoder.forward).parameters
    return "cache" if "cache" in names else "past_key_values"

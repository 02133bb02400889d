"""Language models that transformers has without a head, because they are part of another model."""

import inspect
from typing import Any

from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

GRID_LANGUAGE_MODELS = frozenset({"qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text"})
"""Model types that see where an image token stands in two dimensions (see `GridPositions`).

Transformers has them without a head.
"""


class HeadedLanguageModel(PreTrainedModel):
    """The language model of a Qwen-VL with its head, as other causal language models have it."""

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
        """Give logits of the next tokens; inputs are those of the model without its head."""
        return self.lm_head(self.model(**inputs).last_hidden_state)


def build_language_model(config: PreTrainedConfig) -> PreTrainedModel:
    """Make a causal language model with random weights: any of transformers, or one of these."""
    if config.model_type in GRID_LANGUAGE_MODELS:
        return HeadedLanguageModel(config)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


def cache_argument(decoder: nn.Module) -> str:
    """The name under which a language model takes its key-value cache.

    Transformers renamed ``past_key_values`` to ``cache`` in 5.24, model by model; both are in range.
    """
    names = inspect.signature(decoder.forward).parameters
    return "cache" if "cache" in names else "past_key_values"

"""Random tiny models of the aligned families, saved like released ones."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerFast

WORDS = ("Where is the red circle on the left?", "There is no blue square.", "Segment every star.")
TEXT: dict[str, Any] = {
    "vocab_size": 302,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
    "head_dim": 16,
}
CLIP: dict[str, Any] = {
    "model_type": "clip_vision_model",
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "patch_size": 8,
    "image_size": 32,
}
SIGLIP = {**CLIP, "model_type": "siglip_vision_model", "image_size": 36, "vision_use_head": False}
MERGING: dict[str, Any] = {
    "depth": 3,
    "num_heads": 2,
    "patch_size": 8,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}

RELEASED: dict[str, dict[str, Any]] = {
    "llava": {
        "vision_config": CLIP,
        "text_config": {**TEXT, "model_type": "llama"},
        "image_token_index": 3,
    },
    "llava_next": {
        "vision_config": CLIP,
        "text_config": {**TEXT, "model_type": "mistral"},
        "image_token_index": 3,
        "image_grid_pinpoints": [[64, 64]],
    },
    "llava_onevision": {
        "vision_config": SIGLIP,
        "text_config": {**TEXT, "model_type": "qwen2", "tie_word_embeddings": True},
        "image_token_index": 3,
        "image_grid_pinpoints": [[72, 72]],
    },
    "qwen2_vl": {
        "vision_config": {**MERGING, "embed_dim": 24, "hidden_size": 32, "mlp_ratio": 2},
        "text_config": {**TEXT, "vocab_size": 400, "rope_parameters": ROPE},
        "tie_word_embeddings": True,
    },
    "qwen2_5_vl": {
        "vision_config": {
            **MERGING,
            "hidden_size": 24,
            "intermediate_size": 32,
            "out_hidden_size": 32,
            "window_size": 32,
            "fullatt_block_indexes": [1],
        },
        "text_config": {**TEXT, "vocab_size": 400, "rope_parameters": ROPE},
    },
    "qwen3_vl": {
        "vision_config": {
            **MERGING,
            "hidden_size": 24,
            "intermediate_size": 32,
            "out_hidden_size": 32,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0, 1],
        },
        "text_config": {
            **TEXT,
            "vocab_size": 400,
            "rope_parameters": {**ROPE, "mrope_interleaved": True},
        },
        "tie_word_embeddings": True,
    },
}
"""Configurations by model type."""

CLASSES = {
    "llava": "LlavaForConditionalGeneration",
    "llava_next": "LlavaNextForConditionalGeneration",
    "llava_onevision": "LlavaOnevisionForConditionalGeneration",
    "qwen2_vl": "Qwen2VLForConditionalGeneration",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
}
IMAGE_ID = 3
"""Token id of the image placeholder."""


def released_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """Return a byte-level vocabulary with the special tokens of the family."""
    qwen = kind.startswith("qwen")
    special = (
        ["<|endoftext|>", "<|im_end|>", "<|vision_start|>", "<|image_pad|>"]
        if qwen
        else ["<pad>", "</s>", "<s>", "<image>"]
    )
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(WORDS * 20, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=special[0],
        eos_token=special[1],
        bos_token=None if qwen else special[2],
        extra_special_tokens=special[2 if qwen else 3 :],
    )


def release(kind: str, folder: Path, *, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """Save a random model of a family and return it."""
    torch.manual_seed(seed)
    fields = {**RELEASED[kind], **changes}
    config = AutoConfig.for_model(kind, **fields)
    for name in ("image_token_id", "video_token_id"):
        if kind.startswith("qwen"):
            setattr(config, name, IMAGE_ID if name == "image_token_id" else 399)
    model: PreTrainedModel = getattr(transformers, CLASSES[kind])(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # initial biases and norms have no effect
            scale = 0.3 if "layers" in name or "blocks" in name else 0.1
            parameter.add_(scale * torch.randn_like(parameter))
    model.eval()
    model.save_pretrained(folder)
    released_tokenizer(kind).save_pretrained(folder)
    if kind != "llava":
        mean, std = [0.4, 0.5, 0.6], [0.3, 0.25, 0.2]
        described = {"image_mean": mean, "image_std": std}
        (folder / "preprocessor_config.json").write_text(json.dumps(described))
    return model

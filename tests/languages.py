"""Small language models in folders, as saved by transformers, each with its tokenizer."""

import json
from pathlib import Path
from typing import Any

import torch
from tiny import TEXTS
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    ByT5Tokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

KINDS = ("llama", "qwen2", "qwen3", "bytes")
_SHAPE: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def language_folder(kind: str, folder: Path, *, seed: int = 0) -> Path:
    """Write a model of a kind: ``bytes`` is a Llama whose tokenizer is written in Python."""
    tokenizer = {"llama": _sentence_piece, "bytes": ByT5Tokenizer}.get(kind, _byte_level)()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    model = _model(kind, tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            # initially all rows of an embedding have a mean of zero
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


def _model(kind: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    words = len(tokenizer)
    if kind == "qwen2":
        # as released, with spare rows
        return Qwen2ForCausalLM(Qwen2Config(vocab_size=words + 9, **_SHAPE))
    if kind == "qwen3":
        config = Qwen3Config(vocab_size=words, head_dim=12, tie_word_embeddings=True, **_SHAPE)
        return Qwen3ForCausalLM(config)
    return LlamaForCausalLM(LlamaConfig(vocab_size=words, **_SHAPE))


def _byte_level() -> PreTrainedTokenizerBase:
    """Like Qwen's: bytes, chat markers, no token for the start."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(TEXTS * 20, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    # added, and not a special token of the library
    tokenizer.add_tokens(["<tool_call>"])
    return tokenizer


def _sentence_piece() -> PreTrainedTokenizerBase:
    """Like Llama's: a blank before each text, byte fallback, no token for padding."""
    byte_tokens = [f"<0x{value:02X}>" for value in range(256)]
    bpe = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bpe.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=360, special_tokens=["<unk>", "<s>", "</s>", *byte_tokens], show_progress=False
    )
    bpe.train_from_iterator(TEXTS * 20, trainer)
    fields = json.loads(bpe.to_str())
    fields["added_tokens"] = fields["added_tokens"][:3]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(fields)),
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
    )

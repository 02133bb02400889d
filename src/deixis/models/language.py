"""Pretrained language models: any causal one of transformers, from safetensors only."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, PreTrainedModel

from deixis.errors import CheckpointError, ModelError
from deixis.models.hub import checked_name, download, is_hub_id
from deixis.models.weight_files import check_folder

NEW_ROW_NOISE = 0.1
"""Standard deviation of new embedding rows, as a share of that of the existing rows."""


def find_language(name: str) -> Path:
    """Return the folder of a language model: a local folder, or a download for ``owner/name``.

    Raises:
        ModelError: The model is unknown, or its type is not part of transformers.
    """
    folder = Path(checked_name(name, "language model"))
    if not (folder / "config.json").is_file():
        if folder.exists():
            raise ModelError(f"language model {name}: expected a folder with config.json")
        if not is_hub_id(name):
            raise ModelError(f"unknown language model {name!r}; expected a folder or a hub id")
        patterns = ["*.json", "*.safetensors", "tokenizer.model", "merges.txt", "vocab.txt"]
        folder = download(name, patterns, what="language model")
    try:
        kind = json.loads((folder / "config.json").read_text()).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"language model {name}: config.json is damaged: {error}") from error
    if kind not in CONFIG_MAPPING:
        raise ModelError(
            f"language model {name}: type {kind!r}: expected a type that transformers includes"
        )
    return folder


def load_language(folder: Path, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Read a causal language model with its weights.

    Raises:
        ModelError: The model cannot be part of the composite model.
        CheckpointError: Its weights are missing, damaged, incomplete or not safetensors.
    """
    check_folder(folder, f"language model {folder}")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"language model {folder}: {str(error).splitlines()[0]}") from error
    model: PreTrainedModel
    model, report = loaded
    absent = sorted(report["missing_keys"])
    if absent:
        raise CheckpointError(
            f"language model {folder}: {len(absent)} weights are missing, among them {absent[0]}"
        )
    check_language(model)
    return model


def check_language(model: PreTrainedModel) -> None:
    """Check that a language model can be part of the composite model.

    Raises:
        ModelError: It is not a causal model of text alone, or its attention does not use sdpa,
            which takes boolean masks.
    """
    name = type(model).__name__
    if model.get_output_embeddings() is None or model.config.get_text_config() is not model.config:
        raise ModelError(f"{name}: expected a causal language model of text alone")
    way = model.config._attn_implementation  # noqa: SLF001  # transformers' own word for it
    if way != "sdpa":
        raise ModelError(f"{name}: expected attention by sdpa, got {way}")


@torch.no_grad()
def grow_vocabulary(model: PreTrainedModel, rows: int, new: Collection[int]) -> None:
    """Resize both embeddings to ``rows`` tokens and initialise the rows of ``new`` ones.

    A new row is the mean of the existing rows plus a little noise in proportion to their spread. So
    new tokens differ from each other, have average probability before training, and barely change
    the probabilities of others. A matrix with spare rows, such as Qwen's, keeps its size; spare
    rows of ``new`` ids are initialised too, since they were never trained.

    Raises:
        ModelError: There is no existing row to average.
    """
    if rows > len(model.get_input_embeddings().get_parameter("weight")):
        model.resize_token_embeddings(rows, mean_resizing=False)
    if not new:
        return
    index = torch.tensor(sorted(new))
    tables = [model.get_input_embeddings(), model.get_output_embeddings()]
    made: set[int] = set()
    for table in tables:
        for parameter in table.parameters(recurse=False):
            if id(parameter) not in made:
                _make_rows(parameter, index, rows)
                made.add(id(parameter))


def _make_rows(table: Tensor, new: Tensor, rows: int) -> None:
    known = torch.ones(rows, dtype=torch.bool)
    known[new] = False
    if not bool(known.any()):
        raise ModelError("all tokens of the vocabulary are new: expected some existing ones")
    old = table[:rows][known.to(table.device)].float()
    noise = torch.randn(len(new), *old.shape[1:], device=table.device)
    made = old.mean(0) + NEW_ROW_NOISE * old.std(0, correction=0) * noise
    table[new.to(table.device)] = made.to(table.dtype)


def set_token_ids(model: nn.Module, *, pad: int, begin: int | None, end: int) -> None:
    """Set the token ids of a language model's configuration to those of its tokenizer."""
    config = getattr(model, "config")  # noqa: B009  # torch types it as a module
    config.pad_token_id, config.bos_token_id, config.eos_token_id = pad, begin, end

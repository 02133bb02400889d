"""Language models with their weights: any causal one of transformers; safetensors only."""

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
"""Spread of new rows around the mean of the old ones, as a share of the old rows' own."""


def find_language(name: str) -> Path:
    """The folder of a language model: the name itself, or what the hub gives for ``owner/name``.

    Raises:
        ModelError: There is none, or it is of no type that transformers has itself.
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
            f"language model {name}: type {kind!r}: expected one that transformers has itself"
        )
    return folder


def load_language(folder: Path, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Read a causal language model with its weights.

    Raises:
        ModelError: The folder holds none that the composite could use.
        CheckpointError: Its weights are missing, damaged, incomplete or no safetensors.
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
    """See that a language model can read what the composite gives it.

    Raises:
        ModelError: It is none of one vocabulary, or its attention takes no masks of true and
            false.
    """
    name = type(model).__name__
    if model.get_output_embeddings() is None or model.config.get_text_config() is not model.config:
        raise ModelError(f"{name}: expected a causal language model of text alone")
    way = model.config._attn_implementation  # noqa: SLF001  # transformers' own word for it
    if way != "sdpa":
        raise ModelError(f"{name}: expected attention by sdpa, got {way}")


@torch.no_grad()
def grow_vocabulary(model: PreTrainedModel, rows: int, new: Collection[int]) -> None:
    """Have room for ``rows`` tokens in both embeddings, and make the rows of the ``new`` ones.

    A new row is the mean of the known ones, so that before training a new token is neither likelier
    nor stranger than an average one and the chances of all others hardly change, and a little noise
    of their spread, so that new tokens differ. A matrix with spare rows, as Qwen's, keeps its
    size; ids that are ``new`` among them are made as well: nothing ever trained those.

    Raises:
        ModelError: Nothing would be left to take the mean of.
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
        raise ModelError("a vocabulary of new tokens alone: expected some that are known")
    old = table[:rows][known.to(table.device)].float()
    noise = torch.randn(len(new), *old.shape[1:], device=table.device)
    made = old.mean(0) + NEW_ROW_NOISE * old.std(0, correction=0) * noise
    table[new.to(table.device)] = made.to(table.dtype)


def set_token_ids(model: nn.Module, *, pad: int, begin: int | None, end: int) -> None:
    """Have a language model's configuration name the tokens that its tokenizer does."""
    config = getattr(model, "config")  # noqa: B009  # torch types it as a module
    config.pad_token_id, config.bos_token_id, config.eos_token_id = pad, begin, end

"""What training has changed of a saved model, kept without the model: a few megabytes of many.

A folder of changes holds ``changes.safetensors`` (adapters, LoRA, and each other weight that is
not as it was) and ``changes.json`` (what was put into which part, and which weights this belongs
to). Like whole models, changes are kept in bfloat16.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from deixis.errors import CheckpointError
from deixis.models.tuning import note_tuning, plain_name, restore_tuning, tuned_state, write_tuning
from deixis.models.weight_files import read_weights
from deixis.storage import sha256_of_files

WEIGHTS = "changes.safetensors"
DESCRIPTION = "changes.json"
FORMAT = "deixis-changes-1"


@dataclass(frozen=True, slots=True)
class Changes:
    """What `DESCRIPTION` says: the saved model's name and digest, and what was put into it."""

    base: str
    digest: str
    tuning: dict[str, Any]


def save_changes(model: PreTrainedModel, base: Path, folder: Path, *, name: str) -> int:
    """Write into a folder what distinguishes a model from the saved one in ``base``; gives its number of tensors.

    Args:
        model: The model after training, with or without adapters and LoRA.
        base: The folder that it was loaded from.
        folder: Where to write; it exists.
        name: What the base is called.

    Raises:
        CheckpointError: The base lacks a weight that is not of adapters or LoRA.
        OSError: A file cannot be written.
    """
    state = {key: tensor.detach().cpu().to(torch.bfloat16) for key, tensor in _own(model)}
    inserted = tuned_state(model).keys()
    before = dict(_stored(base))
    kept = {}
    for key, tensor in state.items():
        place = before.get(key, before.get(plain_name(key)))
        if place is None and key not in inserted:
            raise CheckpointError(f"{base} has no weight {key}: expected the model it came from")
        if place is None or not torch.equal(_read(place, key).to(torch.bfloat16), tensor):
            kept[key] = tensor.contiguous().clone()
    save_file(kept, folder / WEIGHTS)
    described = {
        "format": FORMAT,
        "base": {"name": name, "sha256": weight_files_digest(base)},
        "tuning": write_tuning(model),
    }
    (folder / DESCRIPTION).write_text(json.dumps(described, indent=1) + "\n")
    return len(kept)


def read_changes(folder: Path) -> Changes:
    """Read what a folder of changes says of itself.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    try:
        fields = json.loads((folder / DESCRIPTION).read_text())
        if fields["format"] != FORMAT:
            raise ValueError(f"format {fields['format']!r}")  # noqa: TRY301
        base = fields["base"]
        return Changes(str(base["name"]), str(base["sha256"]), dict(fields["tuning"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"changes {folder}: {str(error).splitlines()[0]}") from error


@torch.no_grad()
def load_changes(model: PreTrainedModel, base: Path, folder: Path) -> None:
    """Change a model that was loaded from ``base`` to what `save_changes` was given.

    Raises:
        CheckpointError: Files are missing or damaged, or belong to other weights.
        ModelError: The model has no parts for what was put in.
    """
    changes = read_changes(folder)
    if weight_files_digest(base) != changes.digest:
        raise CheckpointError(
            f"changes {folder} belong to other weights than those of {base}: expected "
            f"{changes.base} of sha256 {changes.digest[:12]}"
        )
    tensors = read_weights(folder / WEIGHTS, f"changes {folder}")
    before = tuned_state(model).keys()
    restore_tuning(model, changes.tuning)
    note_tuning(model)
    state = model.state_dict()
    needed = tuned_state(model).keys() - before
    for key in sorted(needed | tensors.keys()):
        there = tuple(state[key].shape) if key in state else None
        given = tuple(tensors[key].shape) if key in tensors else None
        if there != given:
            raise CheckpointError(f"changes {folder}: {key}: expected {there}, got {given}")
    for key, tensor in tensors.items():
        state[key].copy_(tensor)


def weight_files_digest(folder: Path) -> str:
    """SHA-256 over the safetensors files of a folder, by name."""
    return sha256_of_files(sorted(folder.glob("*.safetensors")))


def _own(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """State by name, without the second names of weights that are shared."""
    shared = set(model.all_tied_weights_keys)
    return ((key, tensor) for key, tensor in model.state_dict().items() if key not in shared)


def _stored(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118  # it is no mapping
                    yield key, path
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: {str(error).splitlines()[0]}") from error


def _read(path: Path, key: str) -> Tensor:
    with safe_open(path, framework="pt") as file:
        return file.get_tensor(key if key in file.keys() else plain_name(key))  # noqa: SIM118

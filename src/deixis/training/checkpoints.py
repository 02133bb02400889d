"""Training checkpoints: whole or not there, and nothing in them can run code."""

import json
import os
import shutil
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from deixis.errors import CheckpointError, StorageError
from deixis.training.optimizers import OptimizerSet

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Where a run stands: global step over all stages, and the stage that it is in."""

    step: int
    stage: int


def save_checkpoint(
    folder: Path,
    state: TrainingState,
    model: nn.Module,
    optimizer: OptimizerSet,
    *,
    keep: int,
) -> Path:
    """Write ``folder/step-N`` by way of a staging folder; older ones past ``keep`` are removed.

    Raises:
        StorageError: The folder cannot be written; earlier checkpoints are untouched.
    """
    target = folder / f"step-{state.step:08d}"
    staging = folder / f".staging-{state.step:08d}"
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        save_file(contiguous(model.state_dict()), staging / "model.safetensors")
        save_file(optimizer.tensors(), staging / "optimizer.safetensors")
        save_file(_random_state(), staging / "random.safetensors")
        files = {path.name: _digest(path) for path in sorted(staging.iterdir())}
        manifest = {"format": 1, "step": state.step, "stage": state.stage, "files": files}
        with (staging / MANIFEST).open("w") as file:
            json.dump(manifest, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise StorageError(f"checkpoint {target}: cannot write: {error}") from error
    complete = sorted(folder.glob("step-*"))
    for old in complete[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def load_checkpoint(path: Path, model: nn.Module, optimizer: OptimizerSet | None) -> None:
    """Restore model, optimizer and random state from a checkpoint.

    Raises:
        CheckpointError: A file is missing, damaged, or does not fit the model.
    """
    read_manifest(path)
    try:
        tensors = load_file(path / "model.safetensors")
        model.load_state_dict(tensors, strict=True)
        if optimizer is not None:
            optimizer.restore(load_file(path / "optimizer.safetensors"))
        random = load_file(path / "random.safetensors")
        torch.set_rng_state(random["torch"])
        if "cuda" in random and torch.cuda.is_available():
            torch.cuda.set_rng_state(random["cuda"])
    except (OSError, SafetensorError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"checkpoint {path}: {str(error).splitlines()[0]}") from error


def read_state(path: Path) -> TrainingState:
    """Where the run stood that a checkpoint was saved from.

    Raises:
        CheckpointError: The manifest or a file is missing, or a digest differs.
    """
    manifest = read_manifest(path)
    return TrainingState(int(manifest["step"]), int(manifest["stage"]))


def read_manifest(path: Path) -> dict[str, int]:
    """Check a checkpoint's files against their digests and return its manifest.

    Raises:
        CheckpointError: The manifest or a file is missing, or a digest differs.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        files = dict(manifest["files"])
        for name, digest in files.items():
            if _digest(path / name) != digest:
                raise CheckpointError(f"checkpoint {path}: {name} is not what was written")
        return {"step": int(manifest["step"]), "stage": int(manifest["stage"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"checkpoint {path}: incomplete: {error}") from error


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint; leftovers of an interrupted save are removed."""
    for leftover in folder.glob(".staging-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            read_manifest(path)
        except CheckpointError:
            continue
        return path
    return None


def contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors wants them; tied weights are written once under each name."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def _random_state() -> dict[str, Tensor]:
    """The states that chance in training comes from, such as dropout's."""
    state = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _digest(path: Path) -> str:
    # in blocks: weights may be larger than memory
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()

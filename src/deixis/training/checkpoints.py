"""Training checkpoints: written atomically, verified when read, without executable content.

A checkpoint is a folder ``step-N`` with the model, the optimizer, the random state and the recipe
of its run. ``manifest.json`` holds the SHA-256 of each of these files and of its own content.
``docs/resuming.md`` describes the checks and the handling of damaged checkpoints.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from deixis.errors import CheckpointError
from deixis.storage import discard, is_sealed, rename, seal, sha256_of, storing, whole_folder
from deixis.training.optimizers import OptimizerSet

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
RECIPE = "recipe.json"
FORMAT = 2

_TENSORS = ("model.safetensors", "optimizer.safetensors", "random.safetensors")
_FILES = {1: {*_TENSORS}, FORMAT: {*_TENSORS, RECIPE}}
"""Files of a checkpoint by the number of its format, without the manifest."""

_LONGEST_MANIFEST = 2**20


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Progress of a run.

    Args:
        step: Completed steps, over all stages.
        stage: Index of the next stage; the number of stages after the last one.
        quarantined: Rows so far whose damaged sample was replaced by another.
        data: Digest of the stage's data set; empty for data without one.
    """

    step: int
    stage: int
    quarantined: int = 0
    data: str = ""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A verified checkpoint; ``recipe`` is None in checkpoints of earlier versions."""

    path: Path
    state: TrainingState
    recipe: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The newest valid checkpoint of a run, and the problem of each newer one by its path."""

    newest: Checkpoint | None = None
    damaged: Mapping[Path, str] = field(default_factory=dict)


def save_checkpoint(
    folder: Path,
    state: TrainingState,
    model: nn.Module,
    optimizer: OptimizerSet,
    *,
    keep: int,
    recipe: Mapping[str, Any],
) -> Path:
    """Write ``folder/step-N`` atomically and remove all but the ``keep`` newest checkpoints.

    Raises:
        StorageError: The folder cannot be written; earlier checkpoints are untouched.
    """
    target = folder / f"step-{state.step:08d}"
    with (
        storing(f"checkpoint {target}", SafetensorError),
        whole_folder(target, replace=True) as draft,
    ):
        for name, tensors in zip(
            _TENSORS,
            (contiguous(model.state_dict()), optimizer.tensors(), _random_state()),
            strict=True,
        ):
            save_file(tensors, draft / name)
        (draft / RECIPE).write_text(json.dumps(recipe, indent=1))
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "step": state.step,
            "stage": state.stage,
            "quarantined": state.quarantined,
            "data": state.data,
            "files": {path.name: sha256_of(path) for path in sorted(draft.iterdir())},
        }
        (draft / MANIFEST).write_text(json.dumps(seal(manifest), indent=1))
    # newer checkpoints are damaged: a run that resumes from an older one writes them again
    done = [path for path in _by_step(folder) if _step_of(path) <= state.step]
    for old in done[:-keep]:
        discard(old)
    return target


def load_checkpoint(path: Path, model: nn.Module, optimizer: OptimizerSet | None) -> None:
    """Restore model, optimizer and random state from a checkpoint found by `find_checkpoint`.

    Raises:
        CheckpointError: A file is missing, damaged, or does not fit the model.
    """
    try:
        tensors = load_file(path / "model.safetensors")
        model.load_state_dict(tensors, strict=True)
        if optimizer is not None:
            optimizer.restore(load_file(path / "optimizer.safetensors"))
        random = load_file(path / "random.safetensors")
        torch.set_rng_state(random["torch"])
        if "cuda" in random and torch.cuda.is_available():
            torch.cuda.set_rng_state(random["cuda"])
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"checkpoint {path}: {_reason(error)}") from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Verify every file of a checkpoint and read the progress of its run.

    A checkpoint of an earlier version has no digest of its manifest; a warning is logged.

    Raises:
        CheckpointError: The manifest is missing, damaged or holds an invalid value; or a file is
            missing, unlisted or changed.
    """
    manifest = _manifest(path)
    number = manifest["format"]
    found = {one.name for one in path.iterdir() if not one.name.startswith(".")} - {MANIFEST}
    for problem, names in (
        ("missing", _FILES[number] - found),
        ("not part of a checkpoint", found - _FILES[number]),
    ):
        if names:
            raise CheckpointError(f"checkpoint {path}: {min(names)} is {problem}")
    for name, digest in manifest["files"].items():
        if _digest(path / name) != digest:
            raise CheckpointError(f"checkpoint {path}: {name} has changed since it was written")
    state = TrainingState(
        manifest["step"],
        manifest["stage"],
        manifest.get("quarantined", 0),
        manifest.get("data", ""),
    )
    if number == FORMAT:
        return Checkpoint(path, state, read_recipe(path / RECIPE))
    logger.warning(
        "checkpoint %s: written by an earlier version without a digest of the manifest: "
        "changes of its step or stage cannot be detected",
        path,
    )
    return Checkpoint(path, state)


def find_checkpoint(
    folder: Path, check: Callable[[Checkpoint], None] = lambda _found: None
) -> Found:
    """Find the newest valid checkpoint under a folder.

    Args:
        folder: The folder that `save_checkpoint` writes to; it need not exist.
        check: Raises CheckpointError for a checkpoint that does not belong to the run.
    """
    damaged: dict[Path, str] = {}
    for path in reversed(_by_step(folder)):
        try:
            checkpoint = read_checkpoint(path)
            check(checkpoint)
        except CheckpointError as error:
            damaged[path] = str(error).removeprefix(f"checkpoint {path}: ")
            continue
        return Found(checkpoint, damaged)
    return Found(None, damaged)


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the path of the newest valid checkpoint under a folder, or None."""
    newest = find_checkpoint(folder).newest
    return None if newest is None else newest.path


def set_aside(path: Path) -> Path:
    """Rename a damaged checkpoint, so that it is no longer found but is not lost.

    Raises:
        StorageError: It cannot be renamed.
    """
    aside = path.with_name(f"damaged-{path.name}")
    discard(aside)
    rename(path, aside)
    return aside


def read_recipe(path: Path) -> dict[str, Any]:
    """Read the recipe of a run as JSON and check that its stages have names and steps.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    try:
        recipe = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged: {_reason(error)}") from error
    if isinstance(recipe, dict) and recipe.get("stages"):
        stages = recipe["stages"]
        if isinstance(stages, list) and all(
            isinstance(stage, dict) and _is_count(stage.get("steps"), 1) for stage in stages
        ):
            return recipe
    raise CheckpointError(f"{path}: damaged: expected a recipe with stages and their steps")


def contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous copies for safetensors; tied weights are stored under each name."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def _manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of a checkpoint and check each of its values."""

    def refused(expected: str, got: object) -> CheckpointError:
        shown = repr(got)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        return CheckpointError(f"checkpoint {path}: {MANIFEST}: expected {expected}, got {shown}")

    try:
        with (path / MANIFEST).open("rb") as file:
            text = file.read(_LONGEST_MANIFEST + 1)
        if len(text) > _LONGEST_MANIFEST:
            raise refused(f"at most {_LONGEST_MANIFEST} bytes", "more")
        manifest = json.loads(text, object_pairs_hook=_each_key_once)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"checkpoint {path}: incomplete: {_reason(error)}") from error
    if not isinstance(manifest, dict):
        raise refused("a JSON object", manifest)
    number = manifest.get("format")
    if type(number) is not int or number not in _FILES:
        raise refused(f"format {' or '.join(map(str, _FILES))}", number)
    keys = {"format", "step", "stage", "files"}
    if number == FORMAT:
        keys |= {"quarantined", "data", "digest"}
        if not is_sealed(manifest):
            raise CheckpointError(f"checkpoint {path}: {MANIFEST} has changed since it was written")
    if manifest.keys() != keys:
        raise refused(f"the fields {sorted(keys)}", sorted(manifest))
    for name in ("step", "stage", "quarantined"):
        if not _is_count(manifest.get(name, 0), 0):
            raise refused(f"{name}: a whole number from 0 on", manifest[name])
    if manifest["step"] != _step_of(path):
        raise refused(f"step {_step_of(path)}, as the folder is named", manifest["step"])
    if not isinstance(manifest.get("data", ""), str):
        raise refused("data: text", manifest["data"])
    files = manifest["files"]
    if not isinstance(files, dict) or files.keys() != _FILES[number]:
        raise refused(f"files: digests of {sorted(_FILES[number])}", files)
    for name, digest in files.items():
        if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
            raise refused(f"files: a SHA-256 of {name}", digest)
    return manifest


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is repeated")
    return found


def _is_count(value: object, least: int) -> bool:
    return type(value) is int and value >= least


def _step_of(path: Path) -> int:
    found = re.fullmatch(r"step-(\d{8,18})", path.name)
    return int(found[1]) if found else -1


def _by_step(folder: Path) -> list[Path]:
    return sorted((p for p in folder.glob("step-*") if _step_of(p) >= 0), key=_step_of)


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        name, folder = path.name, path.parent
        raise CheckpointError(f"checkpoint {folder}: {name}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return an error as one line: the text of the system, or the message of a library."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    words = " ".join(str(error).split())
    return words if len(words) <= 300 else f"{words[:297]}..."


def _random_state() -> dict[str, Tensor]:
    """Return the states of the random generators that training uses, such as for dropout."""
    state = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state

"""Save a trained model as a folder: weights, tokenizer and provenance."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError

from deixis.errors import CheckpointError
from deixis.inference.load import find_model
from deixis.models.changes import save_changes
from deixis.models.pointing import PointingVLM
from deixis.models.tuning import TuningReport, fold_tuning
from deixis.processing.processor import Processor
from deixis.storage import storing, whole_folder
from deixis.training.data import TurnCounts
from deixis.training.recipe import SavedModel, TrainRecipe


def save_model(
    model: PointingVLM,
    processor: Processor,
    recipe: TrainRecipe,
    folder: Path,
    *,
    steps: int,
    seconds: float,
    trained: Mapping[str, TuningReport] | None = None,
    turns: Mapping[str, TurnCounts] | None = None,
    quarantined: int = 0,
) -> None:
    """Write the release of a recipe in bfloat16 with its provenance, atomically.

    A ``merged`` release modifies the model itself. ``trained``, ``turns`` and ``quarantined`` go
    into the provenance: trained parameters and turn counts by stage, and the number of rows whose
    damaged sample was replaced.

    Raises:
        StorageError: The folder cannot be written.
    """
    with storing(f"model {folder}", SafetensorError), whole_folder(folder, replace=True) as draft:
        # alignment heads are used in training only
        model.alignment, model.config.alignment = None, None
        record = provenance(recipe, steps=steps, seconds=seconds)
        record["quarantined"] = quarantined
        if trained:
            record["trained"] = {
                name: report.describe().splitlines() for name, report in trained.items()
            }
        if turns:
            record["turns"] = {name: asdict(counts) for name, counts in turns.items()}
        if recipe.release == "merged":
            stayed = fold_tuning(model)
            record["not_merged"] = {name: choice.method for name, choice in stayed.items()}
        record["parameters"] = sum(p.numel() for p in model.parameters())
        if recipe.release == "changes" and isinstance(recipe.model, SavedModel):
            name = recipe.model.name
            save_changes(model, find_model(name), draft, name=name)
        else:
            state = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
            model.save_pretrained(draft, state_dict=state)
            processor.save(draft)
        (draft / "provenance.json").write_text(json.dumps(record, indent=1) + "\n")


def provenance(recipe: TrainRecipe, *, steps: int, seconds: float) -> dict[str, object]:
    """Return the origin of weights: recipe, seed, steps, wall time, commit, versions, hardware."""
    return {
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "seed": recipe.seed,
        "steps": steps,
        "wall_seconds": round(seconds),
        "commit": _commit(),
        "deixis": version("deixis"),
        "torch": torch.__version__,
        "hardware": hardware(),
    }


def read_turns(folder: Path) -> dict[str, TurnCounts]:
    """Return the counts of training turns by stage; empty if the provenance has none.

    Raises:
        CheckpointError: Its ``provenance.json`` is missing or damaged.
    """
    try:
        record = json.loads((folder / "provenance.json").read_text())
        return {name: TurnCounts(**counts) for name, counts in record.get("turns", {}).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"model {folder}: provenance.json: {error}") from error


def hardware() -> str:
    """Return the name of the accelerator, or of the processor with its number of cores."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        pass
    return f"{name}, {os.cpu_count()} cores"


def _commit() -> str:
    try:
        return subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 - whichever git the user has
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"

"""Models by name: shipped, in a folder, or on the hub."""

import re
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError

from deixis.errors import CheckpointError, ModelError
from deixis.inference.predictor import Predictor
from deixis.models.config import PointingVLMConfig
from deixis.models.decoders.grounding import open_detector, open_pose
from deixis.models.pointing import PointingVLM
from deixis.processing.tokenizer import MarkedTokenizer

WEIGHTS = Path(__file__).parent.parent / "models" / "weights"


def shipped_models() -> tuple[str, ...]:
    """Names of the models inside the package."""
    return tuple(sorted(path.name for path in WEIGHTS.glob("*") if (path / "config.json").exists()))


def load(
    name: str | Path,
    *,
    device: str | None = None,
    second_look: bool = True,
    detector: str | Path | None = None,
    pose: str | Path | None = None,
) -> Predictor:
    """Load a model and what it takes to ask it.

    Args:
        name: A shipped model's name, a folder that training wrote, or a hub id ``owner/name``.
        device: Torch device; the accelerator where there is one, else the processor.
        second_look: Check by what is seen whether there is anything to point at, where the
            language model is in doubt (see `deixis.inference.second_look`).
        detector: A folder with a GroundingDINO of transformers, which is asked where answers are
            fused (see `Predictor.ask`).
        pose: A folder with a ViTPose of transformers, which gives the keypoints that references
            ask for, where the model has no decoder for them.

    Raises:
        ModelError: There is no such model, or it decodes keypoints and a pose model is given.
        CheckpointError: Its files are damaged or do not fit one another.
    """
    folder = _find(str(name))
    try:
        config = PointingVLMConfig.from_pretrained(folder)
        loaded: Any = PointingVLM.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
        )
        tokenizer = MarkedTokenizer.load(folder)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"model {name}: {str(error).splitlines()[0]}") from error
    # the class promises a model; with output_loading_info it gives a report beside it
    model, report = loaded
    wrong = {key: sorted(report[key]) for key in ("missing_keys", "unexpected_keys") if report[key]}
    if wrong:
        raise CheckpointError(f"model {name}: weights do not fit the configuration: {wrong}")
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return Predictor(
        model.to(device).eval(),
        tokenizer,
        name=str(name),
        second_look=second_look,
        detector=None if detector is None else open_detector(Path(detector), device),
        pose=None if pose is None else open_pose(Path(pose), device),
    )


def _find(name: str) -> Path:
    shipped = WEIGHTS / name
    if name in shipped_models():
        return shipped
    folder = Path(name)
    if (folder / "config.json").is_file():
        return folder
    if (folder / "model" / "config.json").is_file():
        return folder / "model"
    if folder.exists():
        raise ModelError(f"model {name}: folder without config.json; expected a saved deixis model")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return _download(name)
    raise ModelError(
        f"unknown model {name!r}; expected one of {list(shipped_models())}, a folder or a hub id"
    )


def _download(name: str) -> Path:
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(f"model {name!r} is no folder, and the hub did not give it") from error

"""Models by name: shipped, in a folder, or on the hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers.utils import logging

from deixis.errors import CheckpointError, ModelError
from deixis.inference.foreign import check_own, refuse_path
from deixis.inference.placement import choose_device, choose_precision
from deixis.inference.predictor import Predictor
from deixis.models.changes import DESCRIPTION, load_changes, read_changes
from deixis.models.config import PointingVLMConfig
from deixis.models.decoders.grounding import open_detector, open_pose
from deixis.models.hub import checked_name, download, is_hub_id
from deixis.models.pointing import PointingVLM
from deixis.models.weight_files import check_folder
from deixis.notation import notation_named
from deixis.processing.describer import FOLDER as DESCRIBER
from deixis.processing.describer import TextEncoderTokenizer
from deixis.processing.tokenizer import MarkedTokenizer

_READ_ERRORS = (
    *(OSError, ValueError, TypeError, AttributeError, LookupError, RuntimeError),
    SafetensorError,
)
"""Exceptions that transformers raises for damaged files."""

WEIGHTS = Path(__file__).parent.parent / "models" / "weights"


def shipped_models() -> tuple[str, ...]:
    """Names of the models inside the package."""
    return tuple(sorted(path.name for path in WEIGHTS.glob("*") if (path / "config.json").exists()))


def load(
    name: str | Path,
    *,
    adapters: str | Path | None = None,
    device: str | None = None,
    dtype: str = "auto",
    second_look: bool = True,
    detector: str | Path | None = None,
    pose: str | Path | None = None,
) -> Predictor:
    """Load a model as a predictor.

    Args:
        name: A shipped model's name, a folder that training wrote, or a hub id ``owner/name``. A
            folder of changes to a model loads the base model that the folder names, and the
            changes.
        adapters: A folder that holds changes to the model: adapters, LoRA, other weights (see
            `deixis.models.changes`).
        device: Torch device, such as ``cuda:1`` or ``mps``; by default CUDA if it is available,
            else the processor. Questions and answers are moved automatically.
        dtype: Type of weights and states: ``float32``, ``bfloat16`` or ``float16``; ``auto`` is
            bfloat16 on an accelerator and float32 on the processor. Weights are read in this type
            one by one, so that a model is never held in a wider type. Boxes, scores and mask logits
            are always float32, and so are the detector and the pose model.
        second_look: If the language model is in doubt, check with the vision features whether the
            image has an instance to point at (see `deixis.inference.second_look`).
        detector: A folder with a GroundingDINO of transformers, which gives boxes for fused answers
            (see `Predictor.ask`).
        pose: A folder with a ViTPose of transformers, which gives the keypoints that references
            ask for; only for models without a decoder for keypoints.

    Raises:
        ModelError: The model, device or dtype is unknown, the path is not a deixis model, or the
            model decodes keypoints and a pose model is given.
        CheckpointError: The model's files are damaged or do not fit one another.
    """
    place = choose_device(device)
    precision = choose_precision(dtype, place)
    folder = find_model(str(name))
    changes = None if adapters is None else find_model(str(adapters))
    if (folder / DESCRIPTION).is_file():
        if changes is not None:
            raise ModelError(
                f"model {name}: holds only changes; expected the model that they belong to"
            )
        folder, changes = find_model(read_changes(folder).base), folder
    model: Any
    with _without_bars():
        model, tokenizer = _read(folder, str(name), precision)
    if changes is not None:
        load_changes(model, folder, changes)
    describer = None
    if (folder / DESCRIBER).is_dir():
        describer = TextEncoderTokenizer.load(folder / DESCRIBER)
    return Predictor(
        model.to(place).eval(),
        tokenizer,
        name=str(name),
        second_look=second_look,
        describer=describer,
        detector=None if detector is None else open_detector(Path(detector), str(place)),
        pose=None if pose is None else open_pose(Path(pose), str(place)),
    )


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep the progress bars of transformers off stderr, which belongs to the caller."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _read(folder: Path, name: str, dtype: torch.dtype) -> tuple[PointingVLM, MarkedTokenizer]:
    check_own(folder, name)
    kinds = check_folder(folder, f"model {name}")
    try:
        config = PointingVLMConfig.from_pretrained(folder)
        loaded: Any = PointingVLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            # mismatched sizes are refused below, by name
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
        spelling = notation_named(config.notation).spelling
        tokenizer = MarkedTokenizer.load(folder, spelling)
    except _READ_ERRORS as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"model {name}: {reason}") from error
    # with output_loading_info, from_pretrained returns a report beside the model
    model, report = loaded
    wrong = {
        kind: sorted(map(str, report[kind]))
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
        if report.get(kind)
    }
    if wrong:
        raise CheckpointError(f"model {name}: weights do not fit the configuration: {wrong}")
    _check_fit(model, tokenizer, kinds, name)
    return model, tokenizer


def _check_fit(
    model: PointingVLM, tokenizer: MarkedTokenizer, kinds: dict[str, str], name: str
) -> None:
    """Check that valid files belong together."""
    for key, tensor in model.state_dict().items():
        kind = kinds.get(key, "F32")
        if tensor.is_floating_point() != ("F" in kind):
            raise CheckpointError(f"model {name}: {key}: expected {tensor.dtype}, got {kind}")
    rows = len(model.get_input_embeddings().get_parameter("weight"))
    if len(tokenizer) > rows:
        raise CheckpointError(
            f"model {name}: tokenizer of {len(tokenizer)} tokens, expected at most the {rows} of "
            "the model"
        )
    ids = {marker.value: index for marker, index in tokenizer.marker_ids.items()}
    known = {marker: index for marker, index in model.config.marker_ids.items() if marker in ids}
    if known != ids:
        raise CheckpointError(
            f"model {name}: markers of the tokenizer are not those of the model: expected {known}, "
            f"got {ids}"
        )


def find_model(name: str) -> Path:
    """The folder of a model or of changes to one: shipped, given as a path, or from the hub.

    Raises:
        ModelError: No model has this name.
    """
    checked_name(name)
    shipped = WEIGHTS / name
    if name in shipped_models():
        return shipped
    folder = Path(name)
    for place in (folder, folder / "model"):
        if any((place / file).is_file() for file in ("config.json", DESCRIPTION)):
            return place
    if folder.exists():
        raise refuse_path(folder, name)
    if is_hub_id(name):
        patterns = ["*.json", "*.safetensors", "*.txt", "*.model", f"{DESCRIBER}/*"]
        return download(name, patterns)
    raise ModelError(
        f"unknown model {name!r}; expected one of {list(shipped_models())}, a folder or a hub id"
    )

"""Models for commands, loaded without output of other libraries on stderr."""

from pathlib import Path

from transformers.utils import logging

from deixis.inference import Predictor
from deixis.inference.load import load


def quiet_libraries() -> None:
    """Silence warnings and progress bars of transformers for the whole process."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def load_quietly(
    name: str,
    *,
    device: str | None = None,
    dtype: str = "auto",
    second_look: bool = True,
    detector: Path | None = None,
    pose: Path | None = None,
) -> Predictor:
    """Load a model by its name, folder or hub id; the others are folders (see `load`).

    Raises:
        ModelError: The model, device or dtype is unknown, or the model takes no pose model.
        CheckpointError: Its files are damaged.
    """
    quiet_libraries()
    return load(
        name,
        device=device,
        dtype=dtype,
        second_look=second_look,
        detector=detector,
        pose=pose,
    )

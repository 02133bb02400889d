"""Models for commands, quietly: stderr belongs to the command's own messages."""

from pathlib import Path

from transformers.utils import logging

from deixis.inference import Predictor
from deixis.inference.load import load


def quiet_libraries() -> None:
    """Keep the warnings and progress bars of transformers from stderr, for the whole process."""
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
        ModelError: There is no such model, device or dtype, or it takes no pose model.
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

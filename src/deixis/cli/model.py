"""Load a model for a command: quietly, since stderr belongs to the command's own messages."""

from transformers.utils import logging

from deixis.inference import Predictor, load


def load_quietly(name: str, *, second_look: bool = True) -> Predictor:
    """Load a model by its name, folder or hub id.

    Raises:
        ModelError: There is no such model.
        CheckpointError: Its files are damaged.
    """
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return load(name, second_look=second_look)

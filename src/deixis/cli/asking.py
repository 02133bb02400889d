"""The model of commands that ask many questions in several processes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from deixis.cli.model import load_quietly
from deixis.data.bootstrap.round_trip import Question
from deixis.evaluation import record_predictor
from deixis.inference import PointingAnswer, Predictor
from deixis.processing.images import read_image
from deixis.structures import ImageArray


class OneThread:
    """A predictor that computes on one thread of the processor.

    The last digits of a sum depend on the number of threads; with one thread in each process, the
    numbers do not depend on the number of processes.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def ask_many(self, questions: Sequence[Question], /) -> list[PointingAnswer]:
        """Answer each question, all in one batch."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return self.predictor.ask_many(questions, batch_size=max(1, len(questions)))
        finally:
            torch.set_num_threads(threads)


@dataclass
class OpenModel:
    """Opens a model by name; each process loads it once."""

    name: str
    _loaded: OneThread | None = field(default=None, compare=False)

    def __call__(self) -> OneThread:
        """Load the model.

        Raises:
            ModelError: The model is unknown.
            CheckpointError: Its files are damaged.
        """
        if self._loaded is None:
            self._loaded = OneThread(load_quietly(self.name))
        return self._loaded

    def record(self) -> dict[str, str]:
        """Return the name of the model, the hash of its weights and its decoding."""
        found = record_predictor(self().predictor)
        weights = {} if found.weights_sha256 is None else {"weights_sha256": found.weights_sha256}
        return {"name": found.name, "decoding": found.decoding, **weights}

    def __getstate__(self) -> dict[str, Any]:
        # weights are not pickled: every process reads them itself
        return {"name": self.name, "_loaded": None}


def read_pixels(path: Path) -> ImageArray:
    """The pixels of an image file, upright.

    Raises:
        ImageError: The file cannot be read.
    """
    return read_image(path).array

"""A model for commands that ask many questions on several processes."""

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

    How a sum is cut into threads shows in its last digits; on one thread each, processes give the
    same numbers, however many there are.
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
    """Opens a model by name, here or in another process; it is loaded once in each."""

    name: str
    _loaded: OneThread | None = field(default=None, compare=False)

    def __call__(self) -> OneThread:
        """Load the model.

        Raises:
            ModelError: There is no such model.
            CheckpointError: Its files are damaged.
        """
        if self._loaded is None:
            self._loaded = OneThread(load_quietly(self.name))
        return self._loaded

    def record(self) -> dict[str, str]:
        """Name the model, its weights and how it chooses words."""
        found = record_predictor(self().predictor)
        weights = {} if found.weights_sha256 is None else {"weights_sha256": found.weights_sha256}
        return {"name": found.name, "decoding": found.decoding, **weights}

    def __getstate__(self) -> dict[str, Any]:
        # weights do not travel: every process reads them itself
        return {"name": self.name, "_loaded": None}


def read_pixels(path: Path) -> ImageArray:
    """The pixels of an image file, upright.

    Raises:
        ImageError: It cannot be read.
    """
    return read_image(path).array

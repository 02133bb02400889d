"""What can be evaluated: anything that answers questions about images."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from deixis.structures import Answer, ImageArray, QuestionPart, Sample

Question = tuple[Path | ImageArray, tuple[QuestionPart, ...]]
"""An image and the parts of a prompt about it."""


@runtime_checkable
class BatchPredictor(Protocol):
    """Answers many questions at once, one answer for each, in order."""

    def ask_many(self, questions: Sequence[Question], /) -> Sequence[Answer]:
        """Answer each question; units are in the pixels of its image."""


@runtime_checkable
class FusingPredictor(Protocol):
    """Answers many questions at once, and says where the box of each reference comes from."""

    @property
    def detector(self) -> object | None:
        """What is asked for boxes beside the model; None where nothing is."""

    def ask_many(self, questions: Sequence[Question], /, *, fuse: str) -> Sequence[Answer]:
        """Answer each question with fused boxes; see `deixis.inference.fusion.fuse_boxes`."""


@runtime_checkable
class SamplePredictor(Protocol):
    """Answers from the annotation itself: a trivial baseline, or an oracle."""

    def answer_sample(self, sample: Sample, question: tuple[QuestionPart, ...], /) -> Answer:
        """Answer one question about one sample."""


AnyPredictor = BatchPredictor | SamplePredictor


@dataclass(frozen=True, slots=True)
class PredictorRecord:
    """Who answered, as a result records it.

    ``weights_sha256`` is None where there are no weights; ``decoding`` says how text was chosen.
    """

    name: str
    weights_sha256: str | None = None
    decoding: str = "the predictor's default"


def record_predictor(predictor: object) -> PredictorRecord:
    """Describe a predictor, or a detector beside one, by its ``name``, ``decoding`` and the weights of its ``model``.

    An attribute that it does not have gets the default: the name of its class, no weights.
    """
    model = getattr(predictor, "model", None)
    return PredictorRecord(
        name=str(getattr(predictor, "name", "") or type(predictor).__name__),
        weights_sha256=hash_weights(model) if hasattr(model, "state_dict") else None,
        decoding=str(getattr(predictor, "decoding", PredictorRecord("").decoding)),
    )


def hash_weights(model: Any) -> str:
    """Return the SHA-256 of a torch module's state: names, shapes and values as float32.

    It does not depend on the file format, the device or the order of the state.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().cpu().float().contiguous().numpy()
        digest.update(f"{name} {list(values.shape)}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()

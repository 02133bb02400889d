"""Interfaces of predictors that can be evaluated, and the record of who answered."""

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
    """Answers many questions at once and records the sources of the box of each reference."""

    @property
    def detector(self) -> object | None:
        """The detector that is asked for boxes beside the model, if any."""

    def ask_many(self, questions: Sequence[Question], /, *, fuse: str) -> Sequence[Answer]:
        """Answer each question with fused boxes; see `deixis.inference.fusion.fuse_boxes`."""


@runtime_checkable
class SamplePredictor(Protocol):
    """Answers from the annotation itself, as a trivial baseline or an oracle does."""

    def answer_sample(self, sample: Sample, question: tuple[QuestionPart, ...], /) -> Answer:
        """Answer one question about one sample."""


AnyPredictor = BatchPredictor | SamplePredictor


@dataclass(frozen=True, slots=True)
class PredictorRecord:
    """The predictor that answered, as a result records it.

    ``weights_sha256`` is `hash_weights` of its model, None without weights; ``decoding`` says how
    text was generated.
    """

    name: str
    weights_sha256: str | None = None
    decoding: str = "the predictor's default"


def record_predictor(predictor: object) -> PredictorRecord:
    """Describe a predictor or detector by its ``name``, ``decoding`` and ``model``'s weights.

    Missing attributes get defaults: the name of the class, no weights.
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

"""Captioners of cut-outs: a deixis model, a Hugging Face model in a folder, or an endpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from PIL import Image

from deixis.data.bootstrap.round_trip import Asker, Question, region_question
from deixis.data.salient.cutout import Cutout
from deixis.data.salient.endpoint import Endpoint
from deixis.data.wording import REGION_SLOT
from deixis.errors import CheckpointError

MAX_NEW_TOKENS = 60


@runtime_checkable
class Captioner(Protocol):
    """Describes cut-outs in words."""

    @property
    def record(self) -> Mapping[str, str]:
        """The captioner and its prompt, for the provenance of descriptions."""

    def describe(self, cutouts: Sequence[Cutout], /) -> Sequence[str]:
        """Return one description for each cut-out, in order; empty without a description."""


@dataclass(frozen=True)
class ModelCaptioner:
    """A deixis model that answers a prompt about the box on the whole cut-out, or about a crop.

    Args:
        asker: The model.
        model: The record of the model.
        prompt: The prompt. ``<region>`` in it is replaced by the box of the instance; without it,
            the model sees the crop.
    """

    asker: Asker
    model: Mapping[str, str]
    prompt: str = f"What is {REGION_SLOT}?"

    @property
    def record(self) -> Mapping[str, str]:
        """The model and the prompt."""
        return {"kind": "deixis", "prompt": self.prompt, **self.model}

    def describe(self, cutouts: Sequence[Cutout], /) -> Sequence[str]:
        """Describe all cut-outs in one call of the model."""
        return [answer.text for answer in self.asker.ask_many(list(map(self._asked, cutouts)))]

    def _asked(self, cutout: Cutout) -> Question:
        if REGION_SLOT in self.prompt:
            return cutout.image, region_question(self.prompt, cutout.box)
        return cutout.cropped(), (self.prompt,)


@dataclass
class FolderCaptioner:
    """A Hugging Face image-to-text model in a folder, such as BLIP; code in the folder never runs.

    Args:
        folder: The folder of configuration, weights (safetensors) and processor.
        prompt: The beginning of the caption; empty for a plain caption.
        device: The device of the model.

    Raises:
        CheckpointError: The first call does not find such a model in the folder.
    """

    folder: Path
    prompt: str = ""
    device: str = "cpu"
    _loaded: tuple[Any, Any] | None = field(default=None, repr=False)

    @property
    def record(self) -> Mapping[str, str]:
        """The folder's name, the model class and the prompt."""
        model, _ = self._open()
        return {
            "kind": "hugging face",
            "name": self.folder.name,
            "class": type(model).__name__,
            "prompt": self.prompt,
        }

    def describe(self, cutouts: Sequence[Cutout], /) -> Sequence[str]:
        """Caption the crops in one batch with greedy decoding."""
        # transformers takes seconds to import, and only this captioner needs it
        import torch  # noqa: PLC0415

        model, processor = self._open()
        images = [Image.fromarray(cutout.cropped()) for cutout in cutouts]
        texts = {"text": [self.prompt] * len(images), "padding": True} if self.prompt else {}
        inputs = processor(images=images, return_tensors="pt", **texts).to(self.device)
        with torch.inference_mode():
            made = model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        words: list[str] = processor.batch_decode(made, skip_special_tokens=True)
        return [text.strip() for text in words]

    def _open(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import (  # noqa: PLC0415
                AutoModelForImageTextToText,
                AutoProcessor,
            )

            # transformers runs code in the folder only on request, which is not made here
            safely = {"local_files_only": True}
            try:
                model: Any = AutoModelForImageTextToText.from_pretrained(
                    self.folder, use_safetensors=True, dtype="float32", **safely
                )
                processor = AutoProcessor.from_pretrained(self.folder, **safely)
            except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
                raise CheckpointError(
                    f"captioner {self.folder}: {str(error).splitlines()[0]}"
                ) from error
            self._loaded = model.to(self.device).eval(), processor
        return self._loaded


@dataclass(frozen=True)
class EndpointCaptioner:
    """A model behind an OpenAI-compatible endpoint, which describes one crop at a time."""

    endpoint: Endpoint
    prompt: str = "Describe the thing in this picture in one sentence. Begin with what it is."

    @property
    def record(self) -> Mapping[str, str]:
        """The address, the model's name and the prompt."""
        return {
            "kind": "endpoint",
            "address": self.endpoint.url,
            "name": self.endpoint.model,
            "prompt": self.prompt,
        }

    def describe(self, cutouts: Sequence[Cutout], /) -> Sequence[str]:
        """Describe the crops one after the other."""
        return [self.endpoint.ask(cutout.cropped(), self.prompt) for cutout in cutouts]

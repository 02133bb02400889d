"""Who describes cut-outs: a deixis model, a captioner in a folder, or an endpoint."""

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
    """Says in words what is left of pictures."""

    @property
    def record(self) -> Mapping[str, str]:
        """Who it is and how it is asked, for the provenance of what it says."""

    def describe(self, cutouts: Sequence[Cutout], /) -> Sequence[str]:
        """Describe each cut-out, in order; empty where there is nothing to say."""


@dataclass(frozen=True)
class ModelCaptioner:
    """A deixis model: asked about the thing's box on the whole cut-out, or about a crop.

    Args:
        asker: The model.
        model: What is recorded of it.
        prompt: What it is asked; with ``<region>`` in it the box stands there.
    """

    asker: Asker
    model: Mapping[str, str]
    prompt: str = f"What is {REGION_SLOT}?"

    @property
    def record(self) -> Mapping[str, str]:
        """The model and the prompt."""
        return {"kind": "deixis", "prompt": self.prompt, **self.model}

    def describe(self, cutouts: Sequence[Cutout], /) -> Sequence[str]:
        """Ask about all of them at once."""
        return [answer.text for answer in self.asker.ask_many(list(map(self._asked, cutouts)))]

    def _asked(self, cutout: Cutout) -> Question:
        if REGION_SLOT in self.prompt:
            return cutout.image, region_question(self.prompt, cutout.box)
        return cutout.cropped(), (self.prompt,)


@dataclass
class FolderCaptioner:
    """A Hugging Face image-to-text model in a folder, such as BLIP; no code of the folder is run.

    Args:
        folder: Where configuration, weights (safetensors) and processor are.
        prompt: Words that the caption goes on from; empty for a plain caption.
        device: Where it runs.

    Raises:
        CheckpointError: The folder holds no such model, when it is first asked.
    """

    folder: Path
    prompt: str = ""
    device: str = "cpu"
    _loaded: tuple[Any, Any] | None = field(default=None, repr=False)

    @property
    def record(self) -> Mapping[str, str]:
        """The folder's name, the class of the model and the prompt."""
        model, _ = self._open()
        return {
            "kind": "hugging face",
            "name": self.folder.name,
            "class": type(model).__name__,
            "prompt": self.prompt,
        }

    def describe(self, cutouts: Sequence[Cutout], /) -> Sequence[str]:
        """Caption the crops together, greedily."""
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

            # code that a folder holds is run only where one asks for it, which nobody does
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
    """A model behind an OpenAI-compatible endpoint, asked about one crop at a time."""

    endpoint: Endpoint
    prompt: str = "Describe the thing in this picture in one sentence. Begin with what it is."

    @property
    def record(self) -> Mapping[str, str]:
        """The address, the name of the model and the prompt."""
        return {
            "kind": "endpoint",
            "address": self.endpoint.url,
            "name": self.endpoint.model,
            "prompt": self.prompt,
        }

    def describe(self, cutouts: Sequence[Cutout], /) -> Sequence[str]:
        """Ask one question after another."""
        return [self.endpoint.ask(cutout.cropped(), self.prompt) for cutout in cutouts]

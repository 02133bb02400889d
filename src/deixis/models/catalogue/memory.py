"""Memory of whole models at the papers' shapes, computed on tensors without values.

``python -m deixis.models.catalogue.memory`` prints the tables of ``docs/parts.md``.
"""

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, LlamaConfig

from deixis.batch import Regions
from deixis.models.catalogue import shapes
from deixis.models.catalogue.meter import held_bytes
from deixis.models.config import PointingVLMConfig
from deixis.models.decoders import DecoderConfig
from deixis.models.decoders.interface import EncodedImages, Features
from deixis.models.decoders.keypoints import KeypointConfig
from deixis.models.decoders.prompted import PromptedMaskDecoder
from deixis.models.pointing import PointingVLM
from deixis.models.references import LatentReferences
from deixis.models.regions import MASK_REGIONS, RegionContext
from deixis.models.regions.encoders import RegionEncodersConfig
from deixis.models.vision.kinds import write_vision
from deixis.notation import Marker
from deixis.notation.markers import spellings

TEXT_TOKENS = 256
"""Text tokens of a question, besides those of image and regions."""

BATCH = 4
"""Images of a batch, for steps that also encode a single image."""

REGIONS = REFERENCES = 4
"""Regions of a question, and references of its answer."""

_KNOWN, _WORD = 32_000, 1_000
_MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class PartMemory:
    """The size of a part.

    Args:
        part: Its name in the model.
        parameters: Its number of parameters.
    """

    part: str
    parameters: int

    def weights(self, dtype: torch.dtype) -> int:
        """Return the bytes of its parameters in a dtype."""
        return self.parameters * dtype.itemsize


@dataclass(frozen=True, slots=True)
class Step:
    """A step of an answer, computed by a model on ``meta``.

    Args:
        part: The part that computes it; ``whole`` for all steps in sequence.
        what: A description of the step and its input.
        run: The computation. A step that generates a token extends the cache that it gets.
    """

    part: str
    what: str
    run: Callable[[], object]

    def held(self) -> int:
        """Return the peak bytes besides weights and inputs (see `held_bytes`)."""
        return held_bytes(self.run)


def ullava() -> PointingVLM:
    """Build u-LLaVA on ``meta``: CLIP ViT-L/14 at 336 px, Vicuna 7B, SAM ViT-H, locations."""
    return _built(
        vision=write_vision(shapes.clip(336)),
        notation="tokens",
        decoders={"location": {}, "segmenter": {"segmenter": shapes.sam_huge().to_dict()}},
    )


def refvlm() -> PointingVLM:
    """Build REF-VLM by its public code on ``meta``: CLIP, ConvNeXt, Vicuna 7B, three decoders."""
    return _built(
        vision=write_vision(shapes.pyramid()),
        notation="triplets",
        decoders={
            "box": asdict(DecoderConfig.refvlm("box", "code")),
            "mask": asdict(DecoderConfig.refvlm("mask", "code")),
            "keypoint": asdict(KeypointConfig.refvlm("code")),
        },
        pixel_decoder={"cells": "coarsest"},
        pixel_width=256,
        regions=RegionEncodersConfig({"mask": MASK_REGIONS["code"]}).to_json(),
    )


def part_memory(model: PointingVLM) -> list[PartMemory]:
    """Return the parts of a model, the largest first, then the model as a ``whole``."""
    parts = [
        PartMemory(name, sum(parameter.numel() for parameter in part.parameters()))
        for name, part in model.named_children()
    ]
    whole = PartMemory("whole", sum(part.parameters for part in parts))
    return [*sorted(parts, key=lambda part: -part.parameters), whole]


def memory_tables() -> str:
    """Return tables of the parts and steps of both models as Markdown; sizes are in MiB."""
    return "\n".join(
        f"### {title}\n\n{weights_table(model)}\n{steps_table(model)}"
        for title, model in (("u-LLaVA", ullava()), ("REF-VLM", refvlm()))
    )


def weights_table(model: PointingVLM) -> str:
    """Return a table with a row for each part of a model."""
    rows = [
        f"| `{part.part}` | {part.parameters:,} | {_mebibytes(part.weights(torch.bfloat16))} "
        f"| {_mebibytes(part.weights(torch.float32))} |\n"
        for part in part_memory(model)
    ]
    head = "| part | parameters | in bfloat16 | in float32 |\n|---|---|---|---|\n"
    return head + "".join(rows)


def steps_table(model: PointingVLM) -> str:
    """Return a table with a row for each step of an answer."""
    weights = {part.part: part.weights(torch.bfloat16) for part in part_memory(model)}
    rows = []
    for step in steps(model):
        held = step.held()
        rows.append(
            f"| `{step.part}` | {step.what} | {_mebibytes(held)} "
            f"| {_mebibytes(weights[step.part] + held)} |\n"
        )
    return "| part | step | held | peak |\n|---|---|---|---|\n" + "".join(rows)


def steps(model: PointingVLM) -> list[Step]:
    """Return the steps of an answer, one by one, and then all of them as one step."""
    with torch.no_grad():
        features = model.vision_encoder(_canvas(model, 1))
        maps = model.pixel_decoder(features.pyramid)
    regions = RegionContext(maps.cells, features.tokens, model.projector)
    length, width = _prompt(model).shape[1], model.config.text_config.hidden_size
    found = [
        Step("vision_encoder", _images(n), partial(model.vision_encoder, _canvas(model, n)))
        for n in (1, BATCH)
    ]
    found += [
        Step("pixel_decoder", _images(1), partial(model.pixel_decoder, features.pyramid)),
        Step(
            "projector",
            f"{features.tokens.shape[1]} tokens",
            partial(model.projector, features.tokens),
        ),
        Step(
            "region_encoder",
            f"{REGIONS} regions",
            partial(model.region_encoder.tokens, regions, _regions(model)),
        ),
        Step(
            "language_model",
            f"{length} tokens read",
            lambda: _read(model, _numbers(1, length, width), _cache(model)),
        ),
        Step(
            "language_model",
            "one token written after them",
            partial(_read, model, _numbers(1, 1, width), _cache(model, length)),
        ),
    ]
    segmenter, framed = model.decoders.get("mask"), None
    if isinstance(segmenter, PromptedMaskDecoder):
        found += _encoding(model, segmenter)
        prompts = segmenter.segmenter.config.prompt_encoder_config
        side = prompts.image_embedding_size
        framed = EncodedImages(_numbers(1, prompts.hidden_size, side, side))
    given = Features(maps, images=framed, pyramid=features.pyramid)
    for unit, decoder in model.decoders.items():
        part = f"{unit}_decoder"
        decode = partial(decoder, _references(width), given)
        # tables of positions are computed once and cached
        held_bytes(decode)
        found.append(Step(part, f"{REFERENCES} references decoded", decode))
    whole = "a question read, one token written, its references decoded"
    return [*found, Step("whole", whole, partial(_answer, model))]


def _mebibytes(size: int) -> str:
    return f"{size / _MEBIBYTE:,.1f}"


def _built(**fields: Any) -> PointingVLM:
    markers = [marker.value for marker in spellings()]
    # the tokens for padding and for the start of a turn are new too
    first = _KNOWN + 3
    text = LlamaConfig(vocab_size=first + len(markers))
    config = PointingVLMConfig(
        text_config=text.to_dict(),
        marker_ids={marker: first + place for place, marker in enumerate(markers)},
        **fields,
    )
    with torch.device("meta"):
        model = PointingVLM(config)
    model.eval()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    return model.bfloat16()


def _encoding(model: PointingVLM, segmenter: PromptedMaskDecoder) -> list[Step]:
    """Return steps of a segmenter that encodes a batch image by image, its default, and at once."""
    with torch.device("meta"):
        at_once = PromptedMaskDecoder(
            replace(segmenter.config, images_at_once=BATCH),
            segmenter.segmenter,
            model.config.text_config.hidden_size,
        )
    return [
        Step(
            "mask_decoder",
            f"{_images(count)} encoded{how}",
            partial(decoder.see, _framed(segmenter, count)),
        )
        for how, count, decoder in (
            ("", 1, segmenter),
            (", one by one", BATCH, segmenter),
            (", at once", BATCH, at_once),
        )
    ]


def _answer(model: PointingVLM) -> object:
    """Ask about an image, keeping the same tensors between steps as `generate`."""
    tokens, cache = _prompt(model), _cache(model)
    segmenter = model.decoders.get("mask")
    framed = _framed(segmenter, 1) if isinstance(segmenter, PromptedMaskDecoder) else None
    seen = model.see(_canvas(model, 1), framed)
    fed = model.embed(tokens, seen, _regions(model))
    chosen = _read(model, fed, cache).argmax(-1)
    more = model.language_model.get_input_embeddings()(chosen)
    states = _read(model, more[:, None], cache)
    references = _references(model.config.text_config.hidden_size)
    return fed, states, model.decode(references, seen)


def _read(model: PointingVLM, embeddings: Tensor, cache: DynamicCache) -> Tensor:
    """Read the tokens after the cache; return the logits of each next token."""
    begin, count = cache.get_seq_length(), embeddings.shape[1]
    positions = torch.arange(begin, begin + count)[None]
    states = model.read(embeddings, positions, None, cache=cache)
    return model.language_model.get_output_embeddings()(states[:, -1])


def _prompt(model: PointingVLM) -> Tensor:
    """Return the token ids of a question with one image and some regions."""
    known, (form,) = model.config.marker_ids, set(model.config.region_forms.values())
    images = [known[Marker.IMAGE.value]] * model.config.image_tokens
    regions = [known[Marker.REGION.value]] * REGIONS * form.num_tokens
    return torch.tensor([images + regions + [_WORD] * TEXT_TOKENS])


def _references(width: int) -> LatentReferences:
    return LatentReferences(
        _numbers(1, REFERENCES, width),
        torch.ones(1, REFERENCES, dtype=torch.bool),
        torch.ones(1, REFERENCES, dtype=torch.long),
    )


def _regions(model: PointingVLM) -> Regions:
    masks = torch.ones(REGIONS, model.config.pixel_grid, model.config.pixel_grid)
    return Regions.drawn(masks, torch.zeros(REGIONS, dtype=torch.long))


def _cache(model: PointingVLM, length: int = 0) -> DynamicCache:
    """Return a key-value cache of earlier tokens."""
    config = model.config.text_config
    cache = DynamicCache(config=config)
    size = 1, config.num_key_value_heads, length, config.head_dim
    for layer in range(config.num_hidden_layers if length else 0):
        cache.update(_numbers(*size), _numbers(*size), layer)
    return cache


def _framed(segmenter: PromptedMaskDecoder, count: int) -> Tensor:
    return _numbers(count, 3, segmenter.frame.side, segmenter.frame.side)


def _canvas(model: PointingVLM, count: int) -> Tensor:
    return _numbers(count, 3, model.config.canvas, model.config.canvas)


def _numbers(*size: int) -> Tensor:
    return torch.zeros(size, dtype=torch.bfloat16, device="meta")


def _images(count: int) -> str:
    return f"{count} image" if count == 1 else f"{count} images"


if __name__ == "__main__":
    sys.stdout.write(memory_tables())

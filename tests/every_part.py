"""Every model part at tiny size with its inputs, for any device and precision.

States (features, hidden states, queries) go in with the precision of the weights; geometry (boxes,
masks of regions, truth) stays in float32, as in the model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from typing import Any

import torch
from encoders import canvases, small_encoder
from models.decoders.cases import CASES, Case
from models.decoders.small import LANGUAGE, PIXELS, WIDTH, features, references
from region_batches import TEXT_ENCODERS, context, mixed_regions, texts
from released import RELEASED
from torch import Tensor, nn
from transformers import AutoConfig

from deixis.batch import Regions, RegionTruth
from deixis.models.adapters import adapters_of, insert_adapters
from deixis.models.decoders import (
    PixelDecoder,
    ProposalHead,
)
from deixis.models.decoders.interface import Features
from deixis.models.decoders.location import StateProjector
from deixis.models.decoders.maskformer_pixel import MaskFormerPixelDecoder
from deixis.models.headed import build_language_model
from deixis.models.losses.contrastive import SimilarityScale
from deixis.models.projector import CellProjector, ObjectProjector, Projector
from deixis.models.regions import (
    MASK_REGIONS,
    ConnectorConfig,
    MaskGuidedAggregation,
    MaskRegionConfig,
    RegionAlignment,
    RegionConnector,
    RegionContext,
    RegionEncoder,
    RegionEncoders,
    RegionEncodersConfig,
)
from deixis.models.regions.aggregation import PRESETS
from deixis.models.regions.alignment import AlignmentConfig
from deixis.models.regions.encoders import RegionEncoderConfig
from deixis.models.regions.text_branch import TextBranch
from deixis.models.tuning import LoraChoice, insert_lora
from deixis.models.vision import SmallVisionConfig, SmallVisionEncoder, VisionFeatures
from deixis.models.vision.merging import MergingEncoder, merging_config
from deixis.models.vision.normalisation import CLIP
from deixis.models.vision.pyramid import join_encoders
from deixis.structures import RegionType

Outputs = dict[str, Tensor]
"""Outputs of a part. Names that start with ``exact`` are geometry, scores and losses."""


@dataclass(frozen=True)
class Given:
    """Device of the inputs, and precision of states."""

    place: Callable[[Tensor], Tensor] = lambda tensor: tensor
    dtype: torch.dtype = torch.float32

    def states(self, value: Any) -> Any:
        """Move the tensors of a structure, floats in the precision of the weights."""
        return self._mapped(value, lambda t: t.to(self.dtype) if t.is_floating_point() else t)

    def exact(self, value: Any) -> Any:
        """Move the tensors of a structure."""
        return self._mapped(value, lambda tensor: tensor)

    def features(self, given: Features) -> Features:
        """Convert maps like states; boxes and scores of proposals keep their precision."""
        proposals = given.proposals
        if proposals is not None:
            embeddings = self.states(proposals.embeddings)
            proposals = replace(self.exact(proposals), embeddings=embeddings)
        return Features(
            self.states(given.maps),
            proposals,
            self.states(given.images),
            self.states(given.pyramid),
        )

    def _mapped(self, value: Any, cast: Callable[[Tensor], Tensor]) -> Any:
        if isinstance(value, Tensor):
            return self.place(cast(value))
        if isinstance(value, tuple):
            return tuple(self._mapped(each, cast) for each in value)
        if is_dataclass(value) and not isinstance(value, type):
            named = {f.name: self._mapped(getattr(value, f.name), cast) for f in fields(value)}
            return replace(value, **named)
        return value


@dataclass(frozen=True)
class Run:
    """A part with its inputs and outputs; ``parts`` are the classes that it exercises."""

    build: Callable[[], nn.Module]
    call: Callable[[Any, Given], Outputs]
    parts: tuple[type[nn.Module], ...]

    def built(self) -> nn.Module:
        """Return the part with the same random weights each time."""
        torch.manual_seed(0)
        return self.build().eval()


def _vision(features: VisionFeatures) -> Outputs:
    levels = {f"level {number}": level for number, level in enumerate(features.pyramid)}
    deep = {f"deep {number}": each for number, each in enumerate(features.deep)}
    return {"tokens": features.tokens, **levels, **deep}


def _encoder(build: Callable[[], Any], size: int, part: type[nn.Module] | None = None) -> Run:
    def call(encoder: Any, given: Given) -> Outputs:
        # canvases are float32, for any precision of the weights
        return _vision(encoder(given.exact(canvases(2, size))))

    return Run(build, call, (part or type(build()),))


def _small_vision() -> SmallVisionEncoder:
    shape = SmallVisionConfig(64, (8, 16, 24, 32), (1, 1), 1, 2)
    return SmallVisionEncoder(shape)


def _merging() -> MergingEncoder:
    config = AutoConfig.for_model("qwen3_vl", **RELEASED["qwen3_vl"])
    return MergingEncoder(merging_config(config.vision_config, image_size=32))


def _pyramid() -> nn.Module:
    convolution = small_encoder("convnext", normalisation=CLIP)
    return join_encoders(small_encoder("clip_vision_model"), convolution, index=(0, 1, 2, 4))


def _with_adapters() -> nn.Module:
    encoder = small_encoder("clip_vision_model")
    insert_adapters(encoder)
    with torch.no_grad():
        for adapter in adapters_of(encoder).values():
            adapter.up.weight.normal_()
    return encoder


def _with_lora() -> nn.Module:
    encoder = small_encoder("clip_vision_model")
    insert_lora(encoder, LoraChoice())
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return encoder


def _language(model: Any, given: Given) -> Outputs:
    embeddings = given.states(torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(1)))
    positions = given.exact(torch.arange(7).expand(3, 2, 7).contiguous())
    return {"logits": model(inputs_embeds=embeddings, position_ids=positions)}


def _numbers(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _maps(module: Any, given: Given) -> Outputs:
    levels = [given.states(_numbers(2, 6, side, side)) for side in (16, 8, 4)]
    made = module(levels)
    return {"cells": made.cells, "pixels": made.pixels}


def _proposals(module: Any, given: Given) -> Outputs:
    made = module(given.states(_numbers(2, WIDTH, 4, 4)))
    exact = {"boxes": made.boxes, "objectness": made.objectness, "overlaps": made.overlaps}
    return {"embeddings": made.embeddings, **{f"exact {name}": x for name, x in exact.items()}}


def _objects(module: Any, given: Given) -> Outputs:
    seen = given.features(features(2, proposals=True))
    return {"tokens": module(seen.maps.cells, seen.proposals)}


def _context(given: Given) -> RegionContext:
    made = context(16, cell_width=WIDTH)
    return RegionContext(given.states(made.cells), given.states(made.tokens))


def _drawn(count: int = 6) -> Regions:
    made = mixed_regions(count)
    return made.select((made.types != RegionType.TEXT.number).nonzero()[:, 0])


def _aggregation(module: Any, given: Given) -> Outputs:
    drawn = given.exact(_drawn())
    return {"tokens": module(_context(given).cells, drawn.masks, drawn.rows)}


def _regions(module: Any, given: Given, *, drawn: bool = False) -> Outputs:
    regions = _drawn() if drawn else mixed_regions(10)
    shared = _context(given)
    found = module.encode if hasattr(module, "encode") else lambda *x: module(*x).vectors
    return {"tokens": found(shared, given.exact(regions))}


class _Aligned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.connector = _connector("mlp")
        self.alignment = RegionAlignment(16, AlignmentConfig())


def _alignment(module: Any, given: Given) -> Outputs:
    ids, mask = texts(10, seed=4)
    boxes = torch.tensor([[0.1, 0.2, 0.5, 0.6]]).expand(10, 4)
    truth = given.exact(RegionTruth(boxes, torch.ones(10, dtype=torch.bool), ids, mask))
    regions = given.exact(mixed_regions(10))
    found = module.alignment(module.connector, _context(given), regions, truth)
    return {"exact location": found.location, "loss semantic": found.semantic}


def _connector(box_encoder: str, **changes: Any) -> RegionConnector:
    config = ConnectorConfig(
        width=16,
        box_encoder=box_encoder,  # type: ignore[arg-type]  # checked by the configuration
        text_encoder=TEXT_ENCODERS["bert"],
        **changes,
    )
    return RegionConnector(16, LANGUAGE, config)


def _text(module: Any, given: Given) -> Outputs:
    ids, mask = given.exact(texts(4))
    states, _, summary = module(ids, mask)
    return {"states": states, "summary": summary}


def _mix() -> RegionEncoders:
    encoders: dict[str, RegionEncoderConfig] = {
        "task": _connector("mlp").config,
        "masks": MaskRegionConfig(4),
    }
    routes = {"text": "task", "box": "task", "mask": "masks", "scribble": "masks", "point": "masks"}
    return RegionEncoders(
        RegionEncodersConfig(encoders, routes),
        cell_width=WIDTH,
        visual_width=16,
        language_width=LANGUAGE,
    )


def _unit_decoder(case: Case, module: Any, given: Given) -> Outputs:
    asked, seen = references([3, 2]), given.features(case.features(2))
    asked = replace(given.exact(asked), states=given.states(asked.states))
    truth = given.exact(case.truth(5))
    decoded = module(asked, seen)
    members = given.exact(torch.tensor([[0, 1, 2], [3, 4, -1]]))
    outputs = {
        f"exact {number}": output
        for number, output in enumerate(case.outputs(decoded, asked.filled))
    }
    loss = module.losses(decoded, truth, asked.filled)
    costs = module.costs(decoded, truth, asked.filled, members)[0]
    return {**outputs, "exact costs": costs, "loss": loss.loss, **loss.measures}


def _case_run(case: Case) -> Run:
    return Run(case.build, partial(_unit_decoder, case), (type(case.build()),))


_WIDTHS: dict[str, Any] = {"cell_level": 1, "pixel_level": 0, "cell_width": 8, "pixel_width": 8}

RUNS: Mapping[str, Run] = {
    "clip": _encoder(lambda: small_encoder("clip_vision_model"), 32),
    "convnext": _encoder(lambda: small_encoder("convnext"), 64),
    "siglip2": _encoder(lambda: small_encoder("siglip2_vision_model"), 32),
    "small vision": _encoder(_small_vision, 64),
    "pyramid": _encoder(_pyramid, 64),
    "qwen vision": _encoder(_merging, 32),
    "adapters": _encoder(_with_adapters, 32),
    "lora": _encoder(_with_lora, 32),
    "language with a head": Run(
        lambda: build_language_model(
            AutoConfig.for_model("qwen2_vl", **RELEASED["qwen2_vl"]).text_config
        ),
        _language,
        (),
    ),
    "projector": Run(
        lambda: Projector(16, LANGUAGE),
        lambda module, given: {"tokens": module(given.states(_numbers(2, 5, 16)))},
        (Projector,),
    ),
    "cell projector": Run(
        lambda: CellProjector(WIDTH, LANGUAGE),
        lambda module, given: {"tokens": module(given.states(_numbers(2, WIDTH, 4, 4)))},
        (CellProjector,),
    ),
    "object projector": Run(
        lambda: ObjectProjector(WIDTH, LANGUAGE, cell_grid=4, objects=3),
        _objects,
        (ObjectProjector,),
    ),
    **{
        f"aggregation {name}": Run(
            partial(
                MaskGuidedAggregation,
                1 if name == "code_legacy" else 4,
                width=WIDTH,
                variant=replace(PRESETS[name], patch=4 if name == "code_legacy" else 2),
            ),
            _aggregation,
            (MaskGuidedAggregation,),
        )
        for name in PRESETS
    },
    "regions deixis": Run(
        lambda: RegionEncoder(WIDTH, LANGUAGE, MASK_REGIONS["deixis"]),
        partial(_regions, drawn=True),
        (RegionEncoder,),
    ),
    **{
        f"connector {name}": Run(partial(_connector, name), _regions, (RegionConnector,))
        for name in ("mlp", "sincos", "sincos_linear")
    },
    "connector of tokens": Run(
        partial(_connector, "mlp", text_queries="tokens", num_region_tokens=2, residual=True),
        _regions,
        (RegionConnector,),
    ),
    "text branch": Run(lambda: TextBranch(TEXT_ENCODERS["bert"]), _text, (TextBranch,)),
    "mix of regions": Run(_mix, _regions, (RegionEncoders,)),
    "alignment": Run(_Aligned, _alignment, (RegionAlignment, SimilarityScale)),
    "pixel decoder": Run(lambda: PixelDecoder([6, 6, 6], **_WIDTHS), _maps, (PixelDecoder,)),
    "maskformer pixel decoder": Run(
        lambda: MaskFormerPixelDecoder([6, 6, 6], **_WIDTHS, width=8, groups=2),
        _maps,
        (MaskFormerPixelDecoder,),
    ),
    "proposal head": Run(lambda: ProposalHead(WIDTH, PIXELS), _proposals, (ProposalHead,)),
    "state projector": Run(
        lambda: StateProjector(LANGUAGE, 16),
        lambda module, given: {"states": module(given.states(_numbers(4, LANGUAGE)))},
        (StateProjector,),
    ),
    **{f"unit {name}": _case_run(case) for name, case in CASES.items()},
}
"""Every part by name."""

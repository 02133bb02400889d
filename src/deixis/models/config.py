"""Configuration of the composite model, as Hugging Face saves it."""

from collections.abc import Mapping
from dataclasses import asdict
from math import isqrt
from typing import Any, ClassVar, Literal

from transformers import AutoConfig, PreTrainedConfig

from deixis.batch import TruthReader
from deixis.errors import ModelError
from deixis.models.decoders.prompted import ImageFrame
from deixis.models.decoders.registry import NamedDecoder, TruthGrids
from deixis.models.headed import GRID_LANGUAGE_MODELS
from deixis.models.losses.scoring import UNIT_WEIGHTS
from deixis.models.positions import GridPositions
from deixis.models.projector import CellProjector, ObjectProjector
from deixis.models.references import read_offset
from deixis.models.regions.alignment import AlignmentConfig
from deixis.models.regions.choices import build_config
from deixis.models.regions.encoders import RegionEncodersConfig
from deixis.models.regions.masked import MaskRegionConfig
from deixis.models.vision import SmallVisionConfig
from deixis.models.vision.kinds import VisionConfig, VisionSizes, read_vision, vision_sizes
from deixis.models.vision.merging import MergingVisionConfig
from deixis.models.vision.video import VideoPooling
from deixis.notation import RegionForm, notation_named


class PointingVLMConfig(PreTrainedConfig):
    """Everything that `PointingVLM` is built from.

    Args:
        text_config: Configuration of any causal language model.
        vision: Fields of the vision encoder's configuration; ``kind`` selects another encoder than
            the small one (see `deixis.models.vision.kinds`).
        decoders: Unit decoders: names of `deixis.models.decoders.registry.DECODERS` with the fields
            of their configurations. Only one decoder per unit type.
        pixel_width: Channels of the map from which masks are computed.
        region_tokens: Tokens per region; a square number.
        regions: Region encoders, as `RegionEncodersConfig.to_json` returns them; None for one
            encoder that pools the cells under a mask into ``region_tokens``.
        notation: How grounded phrases are written; a name of `deixis.notation.NOTATIONS`.
        marker_ids: Token ids of the markers, by their text.
        concepts: Words that an auxiliary head predicts from each cell of the feature map (see
            `concept_loss`); empty for a model without that head.
        proposals: Whether each cell proposes a box and a mask for the instance that it shows, from
            which anchored decoders start (see `ProposalHead`).
        tokens_from: The source of image tokens: the vision ``encoder``, the pixel decoder's
            ``cells``, two by two (see `CellProjector`), or the most likely ``objects`` and the
            whole image (see `ObjectProjector`), which needs ``proposals``.
        objects: Number of instances that become tokens if ``tokens_from`` is ``objects``.
        projector: ``layers``, ``bias`` and ``activation`` of the projector of the encoder's tokens,
            if they differ from the defaults of `Projector`: two layers in TAMP and REF-VLM, one in
            Pink (without a bias) and u-LLaVA.
        pixel_decoder: Fields of MaskFormer's pixel decoder; None for a lighter one. ``cells``
            selects the pyramid's map that references attend to: the second coarsest (``second``)
            or, as in MaskFormer and REF-VLM, the ``coarsest``.
        video: How frames become tokens, a `VideoPooling` as a dict; None for images only.
        alignment: How a connector is aligned before the language model learns (TAMP's stage 1), an
            `AlignmentConfig` as a dict; None for models without that stage or after it.
        mask_target: The resolution at which masks are learned: the ``grid`` of the pixel map or, as
            in REF-VLM, the whole ``canvas``, with predictions interpolated to it.
        loss_weights: Weights of the losses by name.
        offset: Which hidden state represents a reference (see `deixis.models.references.Offset`).
        tuning: Adapters and LoRA that have been added to parts, by the part's name (see
            `deixis.models.tuning.write_tuning`).
    """

    model_type = "deixis-pointing"
    sub_configs: ClassVar[dict[str, Any]] = {"text_config": AutoConfig}

    def __init__(
        self,
        text_config: dict[str, Any] | PreTrainedConfig | None = None,
        vision: dict[str, Any] | None = None,
        decoders: dict[str, dict[str, Any]] | None = None,
        pixel_width: int = 32,
        region_tokens: int = 1,
        notation: str = "triplets",
        marker_ids: dict[str, int] | None = None,
        concepts: list[str] | None = None,
        loss_weights: dict[str, float] | None = None,
        *,
        proposals: bool = False,
        tokens_from: Literal["encoder", "cells", "objects"] = "encoder",
        objects: int = 16,
        regions: dict[str, Any] | None = None,
        projector: dict[str, Any] | None = None,
        pixel_decoder: dict[str, Any] | None = None,
        video: dict[str, Any] | None = None,
        alignment: dict[str, Any] | None = None,
        mask_target: Literal["grid", "canvas"] = "grid",
        tuning: dict[str, dict[str, Any]] | None = None,
        offset: str = "at",
        **kwargs: Any,
    ) -> None:
        if isinstance(text_config, dict):
            text_config = AutoConfig.for_model(**text_config)
        self.text_config = text_config
        self.vision = vision if vision is not None else asdict(SmallVisionConfig())
        self.decoders = decoders if decoders is not None else {}
        self.pixel_width = pixel_width
        self.region_tokens = region_tokens
        self.regions = regions
        self.pixel_decoder = pixel_decoder
        self.video = video
        self.alignment = alignment
        self.mask_target = mask_target
        if video is not None and tokens_from != "encoder":
            raise ModelError(f"videos: expected tokens_from encoder, got {tokens_from}")
        # report errors now, not at the first video
        _ = self.video_pooling
        self.notation = notation
        self.marker_ids = marker_ids if marker_ids is not None else {}
        self.concepts = concepts if concepts is not None else []
        self.proposals = proposals
        self.tokens_from = tokens_from
        self.objects = objects
        self.projector = projector if projector is not None else {}
        self.tuning = tuning if tuning is not None else {}
        self.offset = read_offset(offset)
        units = dict.fromkeys([one.kind.unit for one in self.unit_decoders], UNIT_LOSS_WEIGHT)
        self.loss_weights = {**DEFAULT_LOSS_WEIGHTS, **units, **(loss_weights or {})}
        apart = sorted(kwargs.keys() & _APART)
        if apart:
            raise ModelError(f"{', '.join(apart)}: expected its fields as an entry of decoders")
        super().__init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Build a configuration from a dict that this version or an earlier one saved."""
        return super().from_dict(with_all_decoders(config_dict), **kwargs)

    @property
    def vision_config(self) -> VisionConfig:
        """The vision encoder's shape, typed."""
        return read_vision(self.vision)

    @property
    def vision_sizes(self) -> VisionSizes:
        """The sizes of the vision encoder's outputs."""
        return vision_sizes(self.vision_config)

    @property
    def regions_config(self) -> RegionEncodersConfig:
        """The region encoders, typed."""
        if self.regions is not None:
            return RegionEncodersConfig.from_json(self.regions)
        return RegionEncodersConfig({"mask": MaskRegionConfig(self.region_tokens)})

    @property
    def region_forms(self) -> dict[str, RegionForm]:
        """How a question represents regions of each type."""
        return self.regions_config.forms

    @property
    def reference_ids(self) -> tuple[int, ...]:
        """Ids of the tokens whose hidden states are decoded; empty if the notation is all text."""
        latents = notation_named(self.notation).latents
        return tuple(sorted(self.marker_ids[marker.value] for marker in latents))

    @property
    def video_pooling(self) -> VideoPooling | None:
        """How frames of videos become tokens, typed; None if the model takes no videos."""
        return None if self.video is None else build_config(VideoPooling, self.video)

    @property
    def alignment_config(self) -> AlignmentConfig | None:
        """How a connector is aligned, typed; None if the model is not aligned."""
        return None if self.alignment is None else build_config(AlignmentConfig, self.alignment)

    @property
    def aligns(self) -> bool:
        """Whether a connector is aligned before the language model learns."""
        return self.alignment is not None

    @property
    def canvas(self) -> int:
        """Side of the canvas, in pixels."""
        return self.vision_sizes.canvas

    @property
    def fill(self) -> tuple[int, int, int]:
        """Colour around an image on the canvas, red, green and blue."""
        return self.vision_sizes.fill

    @property
    def image_tokens(self) -> int:
        """Tokens per image."""
        if self.tokens_from == "objects":
            return self.objects + ObjectProjector.GRID**2
        if self.tokens_from == "cells":
            return (self.cell_grid // CellProjector.MERGE) ** 2
        return self.vision_sizes.num_tokens

    @property
    def image_positions(self) -> GridPositions | None:
        """Grid positions of image tokens; None if the language model reads them as a sequence."""
        if self.text_config is None or self.text_config.model_type not in GRID_LANGUAGE_MODELS:
            return None
        return None if self.tokens_from == "objects" else GridPositions(isqrt(self.image_tokens))

    @property
    def deep_layers(self) -> int:
        """Number of first layers after which visual features are added to the image tokens."""
        vision = self.vision_config
        return vision.deep_layers if isinstance(vision, MergingVisionConfig) else 0

    @property
    def pixel_grid(self) -> int:
        """Side of the map from which masks are computed: the pyramid's finest level."""
        sizes = self.vision_sizes
        return sizes.grids[sizes.pixel_level]

    @property
    def mask_grid(self) -> int:
        """Side at which masks are learned."""
        return self.canvas if self.mask_target == "canvas" else self.pixel_grid

    @property
    def cell_level(self) -> int:
        """The pyramid's level that references attend to."""
        sizes = self.vision_sizes
        coarsest = self.pixel_decoder is not None and self.pixel_decoder.get("cells") == "coarsest"
        return len(sizes.grids) - 1 if coarsest else sizes.cell_level

    @property
    def cell_grid(self) -> int:
        """Side of the map that references attend to."""
        return self.vision_sizes.grids[self.cell_level]

    @property
    def unit_decoders(self) -> tuple[NamedDecoder[Any], ...]:
        """The unit decoders with their configurations, typed; those of boxes and masks first.

        Raises:
            ModelError: A decoder or a field is unknown, or two decoders have the same unit type.
        """
        first = [name for name in ("box", "mask") if name in self.decoders]
        named = [*first, *(name for name in self.decoders if name not in first)]
        read: list[NamedDecoder[Any]]
        read = [NamedDecoder.read(name, self.decoders[name]) for name in named]
        parts: dict[str, str] = {}
        for one in read:
            if one.part in parts:
                raise ModelError(
                    f"decoder {one.name!r}: expected one {one.part}, the model already has "
                    f"{parts[one.part]!r}"
                )
            parts[one.part] = one.name
        return tuple(read)

    @property
    def cell_width(self) -> int | None:
        """Channels of the map that references attend to; None if no decoder sets them.

        Raises:
            ModelError: Decoders set different widths.
        """
        widths = {one.name: one.kind.cell_width(one.config) for one in self.unit_decoders}
        asked = {name: width for name, width in widths.items() if width is not None}
        if len(set(asked.values())) > 1:
            raise ModelError(f"decoders attend to one map: expected one width, got {asked}")
        return next(iter(asked.values()), None)

    @property
    def truth_readers(self) -> dict[str, TruthReader]:
        """Readers that turn units into the truth of decoders, by unit type."""
        grids = TruthGrids(self.pixel_grid, self.mask_grid)
        readers = {one.kind.unit: one.reader(grids) for one in self.unit_decoders}
        return {unit: reader for unit, reader in readers.items() if reader is not None}

    @property
    def image_frame(self) -> ImageFrame | None:
        """The frame of the decoder that encodes images itself; None if there is no such decoder."""
        frames = [one.kind.frame(one.config) for one in self.unit_decoders if one.kind.frame]
        return next(iter(frames), None)


def with_all_decoders(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return a saved configuration with all decoders under ``decoders``.

    Earlier versions saved box and mask decoders as ``box_decoder`` and ``mask_decoder``.
    """
    apart = {name: saved.get(f"{name}_decoder") for name in ("box", "mask")}
    first = {name: fields for name, fields in apart.items() if fields is not None}
    rest = {name: value for name, value in saved.items() if name not in _APART}
    return {**rest, "decoders": {**first, **(saved.get("decoders") or {})}}


_APART = frozenset({"box_decoder", "mask_decoder"})

UNIT_LOSS_WEIGHT = 0.5
"""Weight of the loss of a unit decoder."""

DEFAULT_LOSS_WEIGHTS = {
    "language": 1.0,
    "box": UNIT_LOSS_WEIGHT,
    "mask": UNIT_LOSS_WEIGHT,
    **UNIT_WEIGHTS,
    "concept": 0.5,
    "proposals": 0.5,
    "location": 1.0,
    "semantic": 1.0,
}
"""Weights of REF-VLM's public code; deixis adds quality, concepts and proposals."""

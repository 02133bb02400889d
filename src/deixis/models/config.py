"""Configuration of the composite model, as Hugging Face saves it."""

from dataclasses import asdict
from typing import Any, ClassVar, Literal

from transformers import AutoConfig, PreTrainedConfig

from deixis.models.decoders import DecoderConfig
from deixis.models.projector import ObjectProjector
from deixis.models.vision import SmallVisionConfig


class PointingVLMConfig(PreTrainedConfig):
    """Everything that `PointingVLM` is built from.

    Args:
        text_config: Configuration of any causal language model.
        vision: Shape of the vision encoder.
        box_decoder: Shape of the box decoder; None for a model without one.
        mask_decoder: Shape of the mask decoder; None for a model without one.
        pixel_width: Channels of the map that masks are cut from.
        region_tokens: Tokens that a region becomes; a square number.
        notation: How grounded phrases are written; a name of `deixis.processing.build.NOTATIONS`.
        marker_ids: Token ids of the markers, by their text.
        concepts: Words that an auxiliary head learns to tell from each cell of the feature map
            (see `concept_loss`); none for a model without that head.
        proposals: Whether each cell proposes a box and a mask for the thing that it shows, from
            which anchored decoders start (see `ProposalHead`).
        tokens_from: What becomes image tokens: what the vision ``encoder`` gives, the pixel
            decoder's ``cells``, two by two (see `CellProjector`), or the most likely ``objects``
            and the image as a whole (see `ObjectProjector`), which takes proposals.
        objects: Things that become tokens with the last.
        loss_weights: Weights of the losses by name.
    """

    model_type = "deixis-pointing"
    sub_configs: ClassVar[dict[str, Any]] = {"text_config": AutoConfig}

    def __init__(
        self,
        text_config: dict[str, Any] | PreTrainedConfig | None = None,
        vision: dict[str, Any] | None = None,
        box_decoder: dict[str, Any] | None = None,
        mask_decoder: dict[str, Any] | None = None,
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
        **kwargs: Any,
    ) -> None:
        if isinstance(text_config, dict):
            text_config = AutoConfig.for_model(**text_config)
        self.text_config = text_config
        self.vision = vision if vision is not None else asdict(SmallVisionConfig())
        self.box_decoder = box_decoder
        self.mask_decoder = mask_decoder
        self.pixel_width = pixel_width
        self.region_tokens = region_tokens
        self.notation = notation
        self.marker_ids = marker_ids if marker_ids is not None else {}
        self.concepts = concepts if concepts is not None else []
        self.proposals = proposals
        self.tokens_from = tokens_from
        self.objects = objects
        self.loss_weights = {**DEFAULT_LOSS_WEIGHTS, **(loss_weights or {})}
        super().__init__(**kwargs)

    @property
    def vision_config(self) -> SmallVisionConfig:
        """The vision encoder's shape, typed."""
        fields: dict[str, Any] = {
            # JSON has lists where the dataclass has tuples
            name: tuple(value) if isinstance(value, list) else value
            for name, value in self.vision.items()
        }
        return SmallVisionConfig(**fields)

    @property
    def canvas(self) -> int:
        """Side of the canvas, in pixels."""
        return self.vision_config.image_size

    @property
    def image_tokens(self) -> int:
        """Tokens that an image becomes."""
        if self.tokens_from == "objects":
            return self.objects + ObjectProjector.GRID**2
        return self.vision_config.grid**2

    @property
    def pixel_grid(self) -> int:
        """Side of the map that masks are cut from: the pyramid's finest, at stride 2."""
        return self.canvas // 2

    @property
    def cell_grid(self) -> int:
        """Side of the map that references attend to, at stride 8."""
        return self.canvas // 8

    @property
    def box_decoder_config(self) -> DecoderConfig | None:
        """The box decoder's shape, typed."""
        return None if self.box_decoder is None else DecoderConfig(**self.box_decoder)

    @property
    def mask_decoder_config(self) -> DecoderConfig | None:
        """The mask decoder's shape, typed."""
        return None if self.mask_decoder is None else DecoderConfig(**self.mask_decoder)


DEFAULT_LOSS_WEIGHTS = {
    "language": 1.0,
    "box": 0.5,
    "mask": 0.5,
    "l1": 5.0,
    "giou": 2.0,
    "focal": 20.0,
    "dice": 1.0,
    "quality": 0.25,
    "concept": 0.5,
    "proposals": 0.5,
}
"""REF-VLM's weights (public code); quality, concepts and proposals are ours."""

"""The mask region encoder: visual features under the mask of a region (REF-VLM IV-B)."""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from deixis.batch import Regions
from deixis.errors import ModelError
from deixis.models.positions import sine_positions
from deixis.models.projector import Projector
from deixis.models.regions.aggregation import PRESETS, Aggregation, MaskGuidedAggregation
from deixis.models.regions.choices import check_count, check_fields, values_of
from deixis.models.regions.inputs import RegionContext, RegionTokens
from deixis.structures import RegionType

Source = Literal["cells", "tokens"]
Owner = Literal["own", "image"]


@dataclass(frozen=True, slots=True)
class MaskRegionConfig:
    """Shape of a `RegionEncoder`.

    Args:
        blocks: Number of blocks of a mask, each a token; a square number.
        aggregation: How features are pooled.
        source: Features to pool: the ``cells`` that decoders attend to, or the vision encoder's
            ``tokens``.
        places: Whether to normalise features and add sine positions before pooling.
        projector: The encoder's ``own``, or that of the ``image`` tokens, as in the paper, which
            needs ``tokens``.
        projector_layers: Linear layers of an own projector.
    """

    blocks: int = 1
    aggregation: Aggregation = PRESETS["deixis"]
    source: Source = "cells"
    places: bool = True
    projector: Owner = "own"
    projector_layers: int = 2

    def __post_init__(self) -> None:
        check_fields(MaskRegionConfig, values_of(self))
        check_count("blocks", self.blocks)
        check_count("projector_layers", self.projector_layers)
        if self.projector == "image" and self.source != "tokens":
            raise ModelError("projector image: expected source tokens, whose width it takes")

    @property
    def num_tokens(self) -> int:
        """Number of tokens of a region."""
        return self.blocks + (self.aggregation.mask_code != "none")


def _published(name: str, *, blocks: int = 9) -> MaskRegionConfig:
    return MaskRegionConfig(blocks, PRESETS[name], source="tokens", places=False, projector="image")


MASK_REGIONS = MappingProxyType(
    {
        "deixis": MaskRegionConfig(),
        "paper": _published("paper"),
        "code": _published("code"),
        "code_mask_token": _published("code_mask_token"),
        "code_embedding": _published("code_embedding"),
        "code_legacy": MaskRegionConfig(
            1, PRESETS["code_legacy"], source="tokens", places=False, projector_layers=1
        ),
    }
)
"""The default encoder, that of REF-VLM's paper, and those of its public code."""


class RegionEncoder(nn.Module):
    """Encode regions as tokens: aggregation under the mask, then a projector."""

    def __init__(self, width: int, language_width: int, config: MaskRegionConfig) -> None:
        super().__init__()
        self.config = config
        self.num_tokens = config.num_tokens
        self.aggregate = MaskGuidedAggregation(
            config.blocks,
            width=width,
            code_width=language_width,
            variant=config.aggregation,
        )
        if config.projector == "own":
            self.projector = Projector(width, language_width, layers=config.projector_layers)

    def forward(
        self,
        cells: Float[Tensor, "b c h w"],
        masks: Float[Tensor, "r mh mw"],
        rows: Int[Tensor, " r"],
        project: Callable[[Tensor], Tensor] | None = None,
    ) -> Float[Tensor, "r n d"]:
        """Return ``num_tokens`` vectors for each region; ``rows`` is the image of each.

        Raises:
            ModelError: The encoder shares the projector of image tokens, and it is not given.
        """
        if self.config.places:
            positions = sine_positions(
                cells.shape[-1], cells.shape[1], device=cells.device, dtype=cells.dtype
            )
            # normalised, so that neither features nor positions dominate
            normed = nn.functional.layer_norm(cells.permute(0, 2, 3, 1), cells.shape[1:2])
            cells = normed.permute(0, 3, 1, 2) + positions.T.unflatten(1, cells.shape[-2:])
        project = self.projector if self.config.projector == "own" else project
        if project is None:
            raise ModelError(
                "regions share the projector of image tokens: expected that projector, got none"
            )
        tokens, code = self.aggregate.parts(cells, masks, rows)
        projected = project(tokens)
        # a mask code already has the width of the language model
        return projected if code is None else torch.cat([projected, code.to(projected.dtype)], 1)

    def encode(self, context: RegionContext, regions: Regions) -> Float[Tensor, "r n d"]:
        """Return the vectors of regions.

        Raises:
            ModelError: A region is a description, or has an empty mask.
        """
        if bool((regions.types == RegionType.TEXT.number).any()):
            raise ModelError("a region is described in words: expected one with a mask")
        cells = context.cells if self.config.source == "cells" else context.token_map()
        return self(cells, regions.masks, regions.rows, context.project)

    def tokens(self, context: RegionContext, regions: Regions) -> RegionTokens:
        """Return the output of `encode` for the placeholders of a batch."""
        counts = torch.full_like(regions.rows, self.num_tokens)
        return RegionTokens(self.encode(context, regions).flatten(0, 1), counts)

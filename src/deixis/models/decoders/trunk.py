"""The layers that refine references over the feature map, shared by several decoders."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from deixis.errors import ModelError
from deixis.models.decoders.layers import Anchor, DecoderLayer
from deixis.models.decoders.proposals import Proposals
from deixis.models.losses.anchors import Anchors
from deixis.models.positions import box_code, cell_boxes, sine_positions
from deixis.models.references import LatentReferences

Design = Literal["deixis", "detr"]
"""The layers of a decoder: those of deixis, or DETR's as in REF-VLM's public code."""


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Shape of a decoder of boxes or masks.

    The design ``detr`` has the layers of REF-VLM's public code (see `deixis.models.decoders.detr`),
    without anchors and optionally with ``dropout``. ``anchored`` adds the anchor (see `Anchor`) and
    its loss, weighted by ``anchor_weight``; without it, references have ``num_queries`` learned
    positions, and boxes are predicted from the decoded state only, as in DETR.

    Raises:
        ModelError: Fields do not fit the design.
    """

    width: int = 128
    heads: int = 4
    hidden: int = 256
    layers: int = 2
    anchored: bool = True
    anchor_weight: float = 1.0
    num_queries: int = 100
    design: Design = "deixis"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.design == "detr" and self.anchored:
            raise ModelError("a decoder of the design detr: expected anchored false, got true")
        if self.design == "detr" and self.width % 4:
            raise ModelError(
                f"a decoder of the design detr: expected a width divisible by 4, got {self.width}"
            )
        if self.design == "deixis" and self.dropout:
            raise ModelError(
                f"a decoder of the design deixis: expected dropout 0, got {self.dropout}"
            )

    @property
    def capacity(self) -> int | None:
        """The most references that a turn may have; None for any number."""
        return None if self.anchored else self.num_queries

    @classmethod
    def refvlm(
        cls, unit: Literal["box", "mask"], preset: Literal["paper", "code"] = "paper"
    ) -> "DecoderConfig":
        """Return REF-VLM's shape (public code): 6 layers, width 256, 100 box or 30 mask queries.

        The paper does not describe the layers; ``paper`` uses those of deixis.
        """
        queries = {"box": 100, "mask": 30}[unit]
        if preset == "code":
            return cls(256, 8, 2048, 6, False, 1.0, queries, "detr", 0.1)
        return cls(256, 8, 2048, 6, False, 1.0, queries)


@dataclass(frozen=True, slots=True)
class Refined:
    """States of references after the input and each layer, with the anchors of anchored decoders."""

    states: tuple[Float[Tensor, "b q d"], ...]
    anchors: tuple[Anchors, ...]


class ReferenceTrunk(nn.Module):
    """Refine latent references layer by layer.

    Without anchors, the n-th reference of a turn has the n-th learned position. ``unit`` is the
    unit type that errors name.

    Raises:
        ModelError: The trunk is not anchored, and a turn has more references than ``num_queries``.
    """

    def __init__(self, config: DecoderConfig, language_width: int, unit: str = "any") -> None:
        super().__init__()
        self.config = config
        self.unit = unit
        self.input = nn.Linear(language_width, config.width)
        self.input_norm = nn.LayerNorm(config.width)
        self.feature_norm = nn.LayerNorm(config.width)
        self.layers = nn.ModuleList(
            DecoderLayer(config.width, config.heads, config.hidden) for _ in range(config.layers)
        )
        if config.anchored:
            self.anchors = nn.ModuleList(Anchor(config.width) for _ in range(config.layers + 1))
            self.pooled = nn.Linear(config.width, config.width)
            self.place = nn.Linear(2, config.width)
        else:
            self.query_positions = nn.Parameter(
                torch.randn(config.num_queries, config.width) * 0.02
            )

    def forward(
        self,
        references: LatentReferences,
        cells: Float[Tensor, "b d h w"],
        proposals: Proposals | None = None,
    ) -> Refined:
        """Refine references over the cells.

        An anchored reference is updated with the position and features of the cell that it has
        elected so far; without proposals, with the means over its attention.
        """
        features = self.feature_norm(cells.flatten(2).transpose(1, 2))
        positions = sine_positions(
            cells.shape[-1], features.shape[-1], device=cells.device, dtype=features.dtype
        )
        together = self._together(references)
        state = self.input_norm(self.input(references.states))
        states: list[Tensor] = []
        anchors: list[Anchors] = []
        if not self.config.anchored:
            references.check_capacity(self.unit, self.config.num_queries)
            ranks = references.ranks.clamp(max=self.config.num_queries - 1)
            places = self.query_positions[ranks]
            states.append(state)
            for layer in self.layers:
                state = layer(state, places, features, positions, together)
                states.append(state)
            return Refined(tuple(states), ())
        grid = cells.shape[-1]
        boxes = cell_boxes(grid, device=cells.device) if proposals is None else proposals.boxes
        codes = box_code(boxes.detach())
        for step, anchor in enumerate(self.anchors):
            if anchors:
                places = self.place(anchors[-1].centres.to(state.dtype))
                state = self.layers[step - 1](state, places, features, positions, together)
            found = anchor(state, features, codes)
            if proposals is not None:
                found = self._elected(found, anchors, features, proposals)
            state = state + self.pooled(found.pooled)
            states.append(state)
            anchors.append(found)
        return Refined(tuple(states), tuple(anchors))

    @staticmethod
    def _elected(
        found: Anchors,
        before: list[Anchors],
        features: Float[Tensor, "b cells d"],
        proposals: Proposals,
    ) -> Anchors:
        """Add up the attention of all steps and read the cell that it elects."""
        logits = found.logits + before[-1].logits if before else found.logits
        elected, votes = proposals.elect(logits)
        boxes, _ = proposals.at(elected)
        looks = features.gather(1, elected[..., None].expand(-1, -1, features.shape[2]))
        return Anchors(logits, boxes[..., :2].detach(), looks, elected, votes)

    @staticmethod
    def _together(references: LatentReferences) -> Bool[Tensor, "b 1 q q"]:
        same = references.turns[:, :, None] == references.turns[:, None, :]
        seen = same & references.filled[:, None, :]
        # padding attends to itself: a fully masked row would be NaN
        alone = torch.eye(same.shape[1], dtype=torch.bool, device=same.device)
        return (seen | alone)[:, None]

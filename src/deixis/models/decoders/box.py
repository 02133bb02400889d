"""Boxes from latent references, in the way of DETR (REF-VLM III-D; DETR for the losses)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deixis.models.decoders.layers import Anchors, MultiLayerPerceptron, QualityHead
from deixis.models.decoders.proposals import Proposals
from deixis.models.decoders.trunk import DecoderConfig, ReferenceTrunk
from deixis.models.references import LatentReferences
from deixis.structures import UnitType


@dataclass(frozen=True, slots=True)
class BoxPredictions:
    """Boxes of each step (the last one counts), cxcywh in [0, 1] of the canvas.

    ``quality`` is the logit of the chance that the IoU with the truth is above 0.5.
    """

    steps: tuple[Float[Tensor, "b q 4"], ...]
    quality: Float[Tensor, "b q"]
    anchors: tuple[Anchors, ...]
    anchor_weight: float = 1.0

    @property
    def boxes(self) -> Float[Tensor, "b q 4"]:
        """The final boxes."""
        return self.steps[-1]


class BoxDecoder(nn.Module):
    """One box and one quality for each reference.

    With proposals, a box starts from what the elected cell proposes; anchored without
    them, from the expectation of the attention; else from nothing.
    """

    def __init__(self, config: DecoderConfig, language_width: int) -> None:
        super().__init__()
        self.config = config
        self.trunk = ReferenceTrunk(config, language_width, UnitType.BOX.value)
        self.norm = nn.LayerNorm(config.width)
        self.box = MultiLayerPerceptron(config.width, 4)
        self.quality = QualityHead(config.width)

    def start_from_proposals(self) -> None:
        """Let a fresh decoder give proposals as they are."""
        nn.init.zeros_(self.box.last.weight)
        nn.init.zeros_(self.box.last.bias)

    def forward(
        self,
        references: LatentReferences,
        cells: Float[Tensor, "b d h w"],
        proposals: Proposals | None = None,
    ) -> BoxPredictions:
        """Decode every reference; padding gets boxes that nobody reads."""
        refined = self.trunk(references, cells, proposals)
        normed = [self.norm(state) for state in refined.states]
        raw = [self.box(state).float() for state in normed]
        if not refined.anchors:
            steps = tuple(numbers.sigmoid() for numbers in raw[1:])
        elif proposals is None:
            steps = tuple(
                torch.cat(
                    [anchor.centres + numbers[..., :2], numbers[..., 2:].sub(1.5).sigmoid()], -1
                )
                for anchor, numbers in zip(refined.anchors, raw, strict=True)
            )
        else:
            steps = tuple(
                moved_boxes(proposals.at(anchor.elected)[0].detach(), numbers)
                for anchor, numbers in zip(refined.anchors, raw, strict=True)
            )
        quality = self.quality(normed[-1], refined.anchors)
        return BoxPredictions(steps, quality, refined.anchors, self.config.anchor_weight)


def moved_boxes(
    boxes: Float[Tensor, "b q 4"], numbers: Float[Tensor, "b q 4"]
) -> Float[Tensor, "b q 4"]:
    """Move boxes (cxcywh) by shares of their size, and scale them by at most a factor of 4."""
    centres = boxes[..., :2] + numbers[..., :2] * boxes[..., 2:]
    extents = boxes[..., 2:] * numbers[..., 2:].clamp(-1.4, 1.4).exp()
    return torch.cat([centres, extents], dim=-1)

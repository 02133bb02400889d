"""Masks from latent references, in the way of MaskFormer (REF-VLM III-D)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from deixis.models.decoders.layers import Anchors, MultiLayerPerceptron, QualityHead
from deixis.models.decoders.pixel import PixelFeatures
from deixis.models.decoders.proposals import Proposals, outside_penalty
from deixis.models.decoders.trunk import DecoderConfig, ReferenceTrunk
from deixis.models.positions import cell_centres
from deixis.models.references import LatentReferences
from deixis.structures import UnitType


@dataclass(frozen=True, slots=True)
class MaskPredictions:
    """Mask logits at the resolution of the pixel features.

    ``quality`` is the logit of the chance that the IoU with the truth is above 0.5.
    """

    logits: Float[Tensor, "b q h w"]
    quality: Float[Tensor, "b q"]
    anchors: tuple[Anchors, ...]
    anchor_weight: float = 1.0


class MaskDecoder(nn.Module):
    """One mask and one quality for each reference.

    A mask is the product of the reference's embedding with every pixel's. With proposals, the
    embedding is a change to what the elected cell proposes, and pixels lose by their
    distance from its box; anchored without them, by their distance from a learned bell around the
    anchor. Both keep look-alikes elsewhere out of the mask.
    """

    def __init__(self, config: DecoderConfig, language_width: int, pixel_width: int) -> None:
        super().__init__()
        self.config = config
        self.trunk = ReferenceTrunk(config, language_width, UnitType.MASK.value)
        self.norm = nn.LayerNorm(config.width)
        self.embedding = MultiLayerPerceptron(config.width, pixel_width + 1)
        self.bell = nn.Linear(config.width, 4) if config.anchored else None
        self.quality = QualityHead(config.width)

    def start_from_proposals(self) -> None:
        """Let a fresh decoder give proposals as they are."""
        self.bell = None
        nn.init.zeros_(self.embedding.last.weight)
        nn.init.zeros_(self.embedding.last.bias)

    def forward(
        self,
        references: LatentReferences,
        features: PixelFeatures,
        proposals: Proposals | None = None,
    ) -> MaskPredictions:
        """Decode every reference; padding gets masks that nobody reads."""
        refined = self.trunk(references, features.cells, proposals)
        state = self.norm(refined.states[-1])
        embedding = self.embedding(state)
        if proposals is not None and refined.anchors:
            boxes, proposed = proposals.at(refined.anchors[-1].elected)
            logits = mask_logits(embedding + proposed.detach(), features.pixels, boxes.detach())
        else:
            logits = mask_logits(embedding, features.pixels)
            if self.bell is not None:
                shape = self.bell(state).float()
                logits = logits - bell_penalty(refined.anchors[-1], shape, logits.shape[-1])
        quality = self.quality(state, refined.anchors)
        return MaskPredictions(logits, quality, refined.anchors, self.config.anchor_weight)


def bell_penalty(
    anchor: Anchors, shape: Float[Tensor, "b q 4"], grid: int
) -> Float[Tensor, "b q grid grid"]:
    """How much a mask logit loses by its distance from an anchor: a bell of a learned shape."""
    centre = anchor.centres + 0.25 * shape[..., :2].tanh()
    # exp of the negated size: a bell of at least 1/60 and at most about the whole canvas
    sharpness = (2.0 + shape[..., 2:].clamp(-3.0, 2.0)).exp()
    place = cell_centres(grid, device=shape.device)
    offset_x = (place[:, 0] - centre[..., 0:1]) * sharpness[..., 0:1]
    offset_y = (place[:, 1] - centre[..., 1:2]) * sharpness[..., 1:2]
    return (offset_x.square() + offset_y.square()).clamp(max=30.0).unflatten(2, (grid, grid))


def mask_logits(
    embeddings: Float[Tensor, "b q _p"],
    pixels: Float[Tensor, "b p h w"],
    boxes: Float[Tensor, "b q 4"] | None = None,
) -> Float[Tensor, "b q h w"]:
    """Product of embeddings (their last number is a bias) and pixels, kept near ``boxes``."""
    flat = embeddings[..., :-1] @ pixels.flatten(2)
    logits = (flat.float() + embeddings[..., -1:].float()).unflatten(2, pixels.shape[-2:])
    return logits if boxes is None else logits - outside_penalty(boxes, logits.shape[-1])

"""Masks from latent references, as in MaskFormer (REF-VLM III-D)."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from deixis.batch import Batch, UnitTruth
from deixis.geometry import Letterbox, Mask
from deixis.models.decoders.interface import Features, UnitLoss
from deixis.models.decoders.layers import MultiLayerPerceptron, QualityHead
from deixis.models.decoders.placed import PlacedTruth, read_masks
from deixis.models.decoders.placing import mask_at_source
from deixis.models.decoders.proposals import mask_logits
from deixis.models.decoders.trunk import DecoderConfig, ReferenceTrunk
from deixis.models.losses.anchors import Anchors, anchor_loss, reached
from deixis.models.losses.masks import mask_losses
from deixis.models.losses.scoring import UNIT_WEIGHTS, quality_loss, tied_zero, weighted_mean
from deixis.models.matching import pairwise_mask_cost
from deixis.models.positions import cell_centres, cells_of_images
from deixis.models.references import LatentReferences
from deixis.structures import UnitType

_PIXELS_AT_ONCE = 2**24
"""The most elements of a tensor of logits while masks are matched."""


@dataclass(frozen=True, slots=True)
class MaskPredictions:
    """Mask logits at the resolution of the pixel features.

    ``quality`` is the logit of the probability that the IoU with the truth is above 0.5.
    """

    logits: Float[Tensor, "b q h w"]
    quality: Float[Tensor, "b q"]
    anchors: tuple[Anchors, ...]


class MaskUnits(nn.Module):
    """The methods that all mask decoders share: everything except `forward`.

    Args:
        config: Shape of the decoder.
        weights: Weights of the losses ``focal``, ``dice`` and ``quality``.
    """

    unit = UnitType.MASK.value

    def __init__(self, config: DecoderConfig, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.config = config
        self.weights = weights
        self.capacity = config.capacity
        self.anchored = config.anchored

    def read_truth(self, batch: Batch) -> UnitTruth[PlacedTruth]:
        """Return the masks of references that ask for one; of all references if anchored."""
        return read_masks(batch, anchored=self.anchored)

    def costs(
        self,
        decoded: MaskPredictions,
        truth: PlacedTruth,
        filled: Bool[Tensor, "b q"],
        members: Int[Tensor, "g most"],
    ) -> Float[Tensor, "g most most"]:
        """Return ``focal`` · focal + ``dice`` · dice, plus the attention cost (REF-VLM IV-C).

        Truth is pooled to the resolution of the logits. Few groups are computed at a time, since
        every member has its own map.
        """
        index, logits = members.clamp(min=0), decoded.logits.detach()[filled]
        size = (logits.shape[-2], logits.shape[-1])
        slots = truth.slots[index]
        known = truth.known[index] & (slots >= 0) & (members >= 0)
        costs = logits.new_zeros(*members.shape, members.shape[1])
        at_once = max(1, _PIXELS_AT_ONCE // (members.shape[1] * size[0] * size[1]))
        for start in range(0, len(members) if len(truth.masks) else 0, at_once):
            some = slice(start, start + at_once)
            target = truth.masks[slots[some].clamp(min=0)].float()
            if tuple(target.shape[-2:]) != size:
                target = functional.adaptive_avg_pool2d(target, size)
            inside = cells_of_images(truth.extents[index[some, 0]], size[-1])
            pair = pairwise_mask_cost(
                logits[index[some]].flatten(2),
                target.flatten(2),
                inside.flatten(1),
                focal=self.weights["focal"],
                dice=self.weights["dice"],
            )
            costs[some] = pair * known[some][:, None]
        return costs + truth.attention_costs(decoded.anchors, filled, index)

    def losses(
        self, decoded: MaskPredictions, truth: PlacedTruth, filled: Bool[Tensor, "b q"]
    ) -> UnitLoss:
        """Compute focal loss, dice loss and quality of known masks, and attention of the anchors.

        Masks are compared at the resolution of the truth (see `mask_losses`).
        """
        tied = tied_zero(self)
        if not bool(truth.placed.any()):
            return UnitLoss(tied, {}, {"mask_iou": tied.detach()})
        known = truth.known & (truth.slots >= 0)
        scale = truth.weights[known]
        focal, dice, iou = mask_losses(
            decoded.logits[filled][known], truth.masks[truth.slots[known]], truth.extents[known]
        )
        coverage = truth.coverage(decoded.anchors)
        found = scale * reached(decoded.anchors[-1:], filled, coverage)[known]
        loss = weighted_mean(self.weights["focal"] * focal + self.weights["dice"] * dice, found)
        quality = quality_loss(decoded.quality[filled][known], iou, scale)
        anchor = anchor_loss(decoded.anchors, filled, coverage, truth.weights * truth.placed)
        loss = loss + self.weights["quality"] * quality + self.config.anchor_weight * anchor
        return UnitLoss(loss + tied, {}, {"mask_iou": weighted_mean(iou, scale)})

    def to_unit(
        self, decoded: MaskPredictions, row: int, position: int, letterbox: Letterbox
    ) -> Mask:
        """Return the mask of one reference at the size of its source image.

        Raises:
            GeometryError: The mask is empty.
        """
        return mask_at_source(decoded.logits[row, position], letterbox)


class MaskDecoder(MaskUnits):
    """Decode one mask and one quality for each reference.

    Mask logits are the products of the reference's embedding with the features of every pixel. With
    proposals, the reference changes the embedding that the elected cell proposes, and logits are
    lowered outside its box. Without proposals, an anchored decoder lowers logits by their distance
    from the anchor (see `bell_penalty`). Both keep similar instances elsewhere out of the mask.
    """

    def __init__(
        self,
        config: DecoderConfig,
        language_width: int,
        pixel_width: int,
        *,
        weights: Mapping[str, float] = UNIT_WEIGHTS,
    ) -> None:
        super().__init__(config, weights)
        self.trunk = ReferenceTrunk(config, language_width, self.unit)
        self.norm = nn.LayerNorm(config.width)
        self.embedding = MultiLayerPerceptron(config.width, pixel_width + 1)
        self.bell = nn.Linear(config.width, 4) if config.anchored else None
        self.quality = QualityHead(config.width)

    def start_from_proposals(self) -> None:
        """Initialise the embedding head so that it returns proposals unchanged."""
        self.bell = None
        nn.init.zeros_(self.embedding.last.weight)
        nn.init.zeros_(self.embedding.last.bias)

    def forward(self, references: LatentReferences, features: Features) -> MaskPredictions:
        """Decode every reference; masks of padding are undefined."""
        proposals, pixels = features.proposals, features.maps.pixels
        refined = self.trunk(references, features.maps.cells, proposals)
        state = self.norm(refined.states[-1])
        embedding = self.embedding(state)
        if proposals is not None and refined.anchors:
            boxes, proposed = proposals.at(refined.anchors[-1].elected)
            logits = mask_logits(embedding + proposed.detach(), pixels, boxes.detach())
        else:
            logits = mask_logits(embedding, pixels)
            if self.bell is not None:
                shape = self.bell(state).float()
                logits = logits - bell_penalty(refined.anchors[-1], shape, logits.shape[-1])
        quality = self.quality(state, refined.anchors)
        return MaskPredictions(logits, quality, refined.anchors)


def bell_penalty(
    anchor: Anchors, shape: Float[Tensor, "b q 4"], grid: int
) -> Float[Tensor, "b q grid grid"]:
    """Return what to subtract from mask logits, by distance from an anchor, with learned spread."""
    centre = anchor.centres + 0.25 * shape[..., :2].tanh()
    # exp of the negated size: a spread between 1/60 and about the whole canvas
    sharpness = (2.0 + shape[..., 2:].clamp(-3.0, 2.0)).exp()
    place = cell_centres(grid, device=shape.device)
    offset_x = (place[:, 0] - centre[..., 0:1]) * sharpness[..., 0:1]
    offset_y = (place[:, 1] - centre[..., 1:2]) * sharpness[..., 1:2]
    return (offset_x.square() + offset_y.square()).clamp(max=30.0).unflatten(2, (grid, grid))

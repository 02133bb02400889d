"""`BoxDecoder` and `MaskDecoder` as unit decoders.

Both stay what they are: the wrappers own no parameters, so weights keep their names. Their losses
are those of `deixis.models.objectives.unit_losses`, number for number.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from deixis.errors import GeometryError
from deixis.geometry import Box, ImageSize, Mask
from deixis.models.decoders.box import BoxDecoder, BoxPredictions
from deixis.models.decoders.interface import Features, UnitLoss
from deixis.models.decoders.layers import Anchors
from deixis.models.decoders.mask import MaskDecoder, MaskPredictions
from deixis.models.decoders.placing import box_at_source, map_at_source
from deixis.models.decoders.scoring import (
    anchor_loss,
    quality_loss,
    reached,
    tied_zero,
    weighted_mean,
)
from deixis.models.losses import box_loss, dice_loss, focal_loss, paired_iou, to_corners
from deixis.models.references import LatentReferences
from deixis.structures import UnitType


@dataclass(frozen=True, slots=True)
class BoxTruth:
    """Truth for each filled reference: boxes, cxcywh in [0, 1] of the canvas.

    ``coverage`` is where anchors should attend (see `box_coverage`), for the references whose
    place is ``placed``: known from whatever unit. Without it anchors learn from boxes only.
    """

    boxes: Float[Tensor, "n 4"]
    known: Bool[Tensor, " n"]
    weights: Float[Tensor, " n"]
    placed: Bool[Tensor, " n"]
    coverage: Float[Tensor, "n cells"] | None = None

    def take(self, order: Int[Tensor, " n"]) -> "BoxTruth":
        """The truth that each reference takes; weights stay with the references."""
        coverage = None if self.coverage is None else self.coverage[order]
        known, placed = self.known[order], self.placed[order]
        return BoxTruth(self.boxes[order], known, self.weights, placed, coverage)


@dataclass(frozen=True, slots=True)
class MaskTruth:
    """Truth for each filled reference: masks over the canvas, at the pixel features' resolution.

    ``placed`` and ``coverage`` are as in `BoxTruth`.
    """

    masks: Float[Tensor, "n h w"]
    known: Bool[Tensor, " n"]
    weights: Float[Tensor, " n"]
    placed: Bool[Tensor, " n"]
    coverage: Float[Tensor, "n cells"] | None = None

    def take(self, order: Int[Tensor, " n"]) -> "MaskTruth":
        """The truth that each reference takes; weights stay with the references."""
        coverage = None if self.coverage is None else self.coverage[order]
        known, placed = self.known[order], self.placed[order]
        return MaskTruth(self.masks[order], known, self.weights, placed, coverage)


@dataclass(frozen=True, slots=True)
class BoxUnits:
    """A box decoder as a unit decoder, with the weights of its losses (REF-VLM's)."""

    decoder: BoxDecoder
    l1: float = 5.0
    giou: float = 2.0
    quality: float = 0.25

    unit = UnitType.BOX.value

    def __call__(self, references: LatentReferences, features: Features) -> BoxPredictions:
        """Decode every reference."""
        decoded: BoxPredictions = self.decoder(references, features.maps.cells, features.proposals)
        return decoded

    def costs(
        self,
        decoded: BoxPredictions,
        truth: BoxTruth,
        filled: Bool[Tensor, "b q"],
        members: Int[Tensor, "g most"],
    ) -> Float[Tensor, "g most most"]:
        """L1 and 1 - generalized IoU of every pair (REF-VLM, equation 4), and attention."""
        index = members.clamp(min=0)
        predicted = decoded.boxes.detach()[filled][index][:, :, None]
        target = truth.boxes[index][:, None]
        overlap = paired_iou(to_corners(predicted), to_corners(target))[1]
        cost = self.l1 * (predicted - target).abs().sum(-1) + self.giou * (1 - overlap)
        cost = cost * truth.known[index][:, None]
        return cost + attention_costs(decoded.anchors, truth.coverage, filled, index)

    def losses(
        self, decoded: BoxPredictions, truth: BoxTruth, filled: Bool[Tensor, "b q"]
    ) -> UnitLoss:
        """L1 and 1 - generalized IoU of every step, quality of the last, and the anchors'."""
        tied = tied_zero(self.decoder)
        known, here, coverage = _only(truth.known, filled, truth.coverage)
        target, scale = truth.boxes[known], truth.weights[known]
        if not bool((known | truth.placed).any()):
            zero = tied.detach()
            return UnitLoss(tied, dict.fromkeys(("box", "anchor", "quality"), zero), {})
        steps = []
        for number, step in enumerate(decoded.steps):
            distance, overlap = box_loss(step[here], target)
            found = scale * reached(decoded.anchors[number : number + 1], here, coverage)
            steps.append(weighted_mean(self.l1 * distance + self.giou * overlap, found))
        iou = paired_iou(to_corners(decoded.boxes[here].detach()), to_corners(target))[0]
        parts = {
            "box": torch.stack(steps).mean(),
            "anchor": _anchor_part(decoded.anchors, truth, filled),
            "quality": quality_loss(decoded.quality[here], iou, scale),
        }
        loss = (
            parts["box"] + self.quality * parts["quality"] + decoded.anchor_weight * parts["anchor"]
        )
        measures = {
            "box_iou": weighted_mean(iou, scale),
            "box_at_half": weighted_mean((iou >= 0.5).float(), scale),
        }
        return UnitLoss(loss + tied, {k: v.detach() for k, v in parts.items()}, measures)

    def to_unit(self, decoded: BoxPredictions, row: int, position: int, size: ImageSize) -> Box:
        """The box of one reference, in pixels of its image, clipped to it.

        Raises:
            GeometryError: The box is not finite, is empty or lies outside the image.
        """
        return box_at_source(decoded.boxes[row, position], size)


@dataclass(frozen=True, slots=True)
class MaskUnits:
    """A mask decoder as a unit decoder, with the weights of its losses (REF-VLM's)."""

    decoder: MaskDecoder
    focal: float = 20.0
    dice: float = 1.0
    quality: float = 0.25

    unit = UnitType.MASK.value

    def __call__(self, references: LatentReferences, features: Features) -> MaskPredictions:
        """Decode every reference."""
        decoded: MaskPredictions = self.decoder(references, features.maps, features.proposals)
        return decoded

    def costs(
        self,
        decoded: MaskPredictions,
        truth: MaskTruth,
        filled: Bool[Tensor, "b q"],
        members: Int[Tensor, "g most"],
    ) -> Float[Tensor, "g most most"]:
        """Dice of every pair, and attention."""
        index = members.clamp(min=0)
        chance = decoded.logits.detach()[filled].flatten(1)[index].sigmoid()
        masks = truth.masks.flatten(1)[index]
        shared = 2 * chance @ masks.transpose(1, 2) + 1
        whole = chance.sum(-1)[:, :, None] + masks.sum(-1)[:, None] + 1
        cost = self.dice * (1 - shared / whole) * truth.known[index][:, None]
        return cost + attention_costs(decoded.anchors, truth.coverage, filled, index)

    def losses(
        self, decoded: MaskPredictions, truth: MaskTruth, filled: Bool[Tensor, "b q"]
    ) -> UnitLoss:
        """Focal loss, dice, quality, and the anchors'."""
        tied = tied_zero(self.decoder)
        known, here, coverage = _only(truth.known, filled, truth.coverage)
        masks, scale = truth.masks[known].flatten(1), truth.weights[known]
        if not bool((known | truth.placed).any()):
            zero = tied.detach()
            return UnitLoss(tied, dict.fromkeys(("mask", "anchor", "quality"), zero), {})
        logits = decoded.logits[here].flatten(1)
        found = scale * reached(decoded.anchors[-1:], here, coverage)
        each = self.focal * focal_loss(logits, masks) + self.dice * dice_loss(logits, masks)
        hard = (logits.detach() > 0).float()
        overlap = (hard * masks).sum(-1)
        iou = overlap / (hard.sum(-1) + masks.sum(-1) - overlap).clamp(min=1)
        parts = {
            "mask": weighted_mean(each, found),
            "anchor": _anchor_part(decoded.anchors, truth, filled),
            "quality": quality_loss(decoded.quality[here], iou, scale),
        }
        loss = (
            parts["mask"]
            + self.quality * parts["quality"]
            + decoded.anchor_weight * parts["anchor"]
        )
        measures = {"mask_iou": weighted_mean(iou, scale)}
        return UnitLoss(loss + tied, {k: v.detach() for k, v in parts.items()}, measures)

    def to_unit(self, decoded: MaskPredictions, row: int, position: int, size: ImageSize) -> Mask:
        """The mask of one reference at the size of its image.

        Raises:
            GeometryError: The mask is empty.
        """
        mask = Mask((map_at_source(decoded.logits[row, position], size) > 0).numpy())
        if mask.is_empty:
            raise GeometryError("mask is empty")
        return mask


def attention_costs(
    anchors: tuple[Anchors, ...],
    coverage: Float[Tensor, "n cells"] | None,
    filled: Bool[Tensor, "b q"],
    index: Int[Tensor, "g most"],
) -> Float[Tensor, "g most most"]:
    """Cross-entropy between where members attend and where each target lies."""
    if not anchors or coverage is None:
        return torch.zeros(*index.shape, index.shape[1], device=index.device)
    attention = functional.log_softmax(anchors[-1].logits.detach()[filled], dim=-1)
    return -(attention[index] @ coverage[index].transpose(1, 2))


def _only(
    which: Bool[Tensor, " n"],
    filled: Bool[Tensor, "b q"],
    coverage: Float[Tensor, "n cells"] | None,
) -> tuple[Bool[Tensor, " n"], Bool[Tensor, "b q"], Float[Tensor, "m cells"] | None]:
    """Some of the filled references, as they lie in the batch, and where their anchors should attend."""
    here = filled.clone()
    here[filled] = which
    return which, here, None if coverage is None else coverage[which]


def _anchor_part(
    anchors: tuple[Anchors, ...], truth: BoxTruth | MaskTruth, filled: Bool[Tensor, "b q"]
) -> Float[Tensor, ""]:
    placed, here, coverage = _only(truth.placed, filled, truth.coverage)
    return anchor_loss(anchors, here, coverage, truth.weights[placed])

"""Boxes from latent references, as in DETR (REF-VLM III-D; DETR for the losses)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from deixis.batch import Batch, UnitTruth
from deixis.geometry import Box, Letterbox
from deixis.models.decoders.interface import Features, UnitLoss
from deixis.models.decoders.layers import MultiLayerPerceptron, QualityHead
from deixis.models.decoders.placed import PlacedTruth, read_boxes
from deixis.models.decoders.placing import box_at_source
from deixis.models.decoders.trunk import DecoderConfig, ReferenceTrunk
from deixis.models.losses.anchors import Anchors, anchor_loss, reached
from deixis.models.losses.boxes import box_loss, paired_iou, to_corners
from deixis.models.losses.scoring import UNIT_WEIGHTS, quality_loss, tied_zero, weighted_mean
from deixis.models.matching import pairwise_box_cost
from deixis.models.references import LatentReferences
from deixis.structures import UnitType


@dataclass(frozen=True, slots=True)
class BoxPredictions:
    """Boxes of each step, cxcywh in [0, 1] of the canvas; the last step is the prediction.

    ``quality`` is the logit of the probability that the IoU with the truth is above 0.5.
    """

    steps: tuple[Float[Tensor, "b q 4"], ...]
    quality: Float[Tensor, "b q"]
    anchors: tuple[Anchors, ...]

    @property
    def boxes(self) -> Float[Tensor, "b q 4"]:
        """The final boxes."""
        return self.steps[-1]


class BoxUnits(nn.Module):
    """The methods that all box decoders share: everything except `forward`.

    Args:
        config: Shape of the decoder.
        weights: Weights of the losses ``l1``, ``giou`` and ``quality``.
    """

    unit = UnitType.BOX.value

    def __init__(self, config: DecoderConfig, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.config = config
        self.weights = weights
        self.capacity = config.capacity
        self.anchored = config.anchored

    def read_truth(self, batch: Batch) -> UnitTruth[PlacedTruth]:
        """Return the boxes of references that ask for one; of all references if anchored."""
        return read_boxes(batch, anchored=self.anchored)

    def costs(
        self,
        decoded: BoxPredictions,
        truth: PlacedTruth,
        filled: Bool[Tensor, "b q"],
        members: Int[Tensor, "g most"],
    ) -> Float[Tensor, "g most most"]:
        """Return ``l1`` · L1 + ``giou`` · (1 - GIoU), plus the attention cost (REF-VLM III-D)."""
        index = members.clamp(min=0)
        pair = pairwise_box_cost(
            decoded.boxes.detach()[filled][index],
            truth.boxes[index],
            l1=self.weights["l1"],
            giou=self.weights["giou"],
        )
        known = truth.known[index][:, None]
        return pair * known + truth.attention_costs(decoded.anchors, filled, index)

    def losses(
        self, decoded: BoxPredictions, truth: PlacedTruth, filled: Bool[Tensor, "b q"]
    ) -> UnitLoss:
        """Compute L1 and GIoU of every step, quality of the last, and attention of the anchors."""
        tied = tied_zero(self)
        if not bool(truth.placed.any()):
            zero = tied.detach()
            measures = dict.fromkeys(("box_iou", "box_at_half"), zero)
            return UnitLoss(tied, {"anchor": zero}, measures)
        scale = truth.weights * truth.known
        coverage = truth.coverage(decoded.anchors)
        steps = []
        for number, step in enumerate(decoded.steps):
            distance, overlap = box_loss(step[filled], truth.boxes)
            found = scale * reached(decoded.anchors[number : number + 1], filled, coverage)
            each = self.weights["l1"] * distance + self.weights["giou"] * overlap
            steps.append(weighted_mean(each, found))
        loss = torch.stack(steps).mean()
        iou = paired_iou(to_corners(decoded.boxes[filled]), to_corners(truth.boxes))[0].detach()
        loss = loss + self.weights["quality"] * quality_loss(decoded.quality[filled], iou, scale)
        anchor = anchor_loss(decoded.anchors, filled, coverage, truth.weights * truth.placed)
        measures = {
            "box_iou": weighted_mean(iou, scale),
            "box_at_half": weighted_mean((iou >= 0.5).float(), scale),
        }
        loss = loss + self.config.anchor_weight * anchor
        return UnitLoss(loss + tied, {"anchor": anchor.detach()}, measures)

    def to_unit(
        self, decoded: BoxPredictions, row: int, position: int, letterbox: Letterbox
    ) -> Box:
        """Return the box of one reference in pixels of its source image.

        Raises:
            GeometryError: The box is not finite, is empty or lies outside the image.
        """
        return box_at_source(decoded.boxes[row, position], letterbox)


class BoxDecoder(BoxUnits):
    """Decode one box and one quality for each reference.

    With proposals, a box starts from the proposal of the elected cell. Without proposals, an
    anchored decoder starts from the mean position of its attention. Without anchors, the box is
    predicted from the state.
    """

    def __init__(
        self,
        config: DecoderConfig,
        language_width: int,
        *,
        weights: Mapping[str, float] = UNIT_WEIGHTS,
    ) -> None:
        super().__init__(config, weights)
        self.trunk = ReferenceTrunk(config, language_width, self.unit)
        self.norm = nn.LayerNorm(config.width)
        self.box = MultiLayerPerceptron(config.width, 4)
        self.quality = QualityHead(config.width)

    def start_from_proposals(self) -> None:
        """Initialise the box head so that it returns proposals unchanged."""
        nn.init.zeros_(self.box.last.weight)
        nn.init.zeros_(self.box.last.bias)

    def forward(self, references: LatentReferences, features: Features) -> BoxPredictions:
        """Decode every reference; boxes of padding are undefined."""
        proposals = features.proposals
        refined = self.trunk(references, features.maps.cells, proposals)
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
        return BoxPredictions(steps, quality, refined.anchors)


def moved_boxes(
    boxes: Float[Tensor, "b q 4"], numbers: Float[Tensor, "b q 4"]
) -> Float[Tensor, "b q 4"]:
    """Return boxes (cxcywh), moved by shares of their size and scaled by a factor of at most 4."""
    centres = boxes[..., :2] + numbers[..., :2] * boxes[..., 2:]
    extents = boxes[..., 2:] * numbers[..., 2:].clamp(-1.4, 1.4).exp()
    return torch.cat([centres, extents], dim=-1)

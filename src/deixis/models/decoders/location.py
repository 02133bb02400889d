"""Boxes from hidden states alone, without image features (u-LLaVA 3.2 and 4.1).

The hidden state at `<LOC>` passes a projector and a small decoder, both MLPs: with a language width
of 4096, 4096 -> 4096 -> 256 and 256 -> 256 -> 128 -> 4.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from deixis.batch import Batch, UnitTruth
from deixis.geometry import Box, Letterbox
from deixis.models.decoders.interface import Features, UnitLoss
from deixis.models.decoders.layers import QualityHead
from deixis.models.decoders.placing import box_at_source
from deixis.models.losses.anchors import Anchors
from deixis.models.losses.boxes import paired_iou, to_corners
from deixis.models.losses.scoring import quality_loss, tied_zero, weighted_mean
from deixis.models.references import LatentReferences
from deixis.structures import UnitType


class StateProjector(nn.Module):
    """Project hidden states to a decoder's width: linear, ReLU, linear (u-LLaVA 4.1, LISA)."""

    def __init__(self, language_width: int, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(language_width, language_width)
        self.down = nn.Linear(language_width, width)

    def forward(self, states: Float[Tensor, "*n language"]) -> Float[Tensor, "*n width"]:
        """Project states."""
        return self.down(self.up(states).relu())


@dataclass(frozen=True, slots=True)
class LocationConfig:
    """Shape and losses of a location decoder (u-LLaVA, equation 2).

    ``loss`` ``paper`` is L1 and generalized IoU, both as means over boxes. ``code`` follows the
    public code: boxes with swapped corners take no part in the generalized IoU, means are taken
    over the boxes of each image, and the sum of these means is divided by the number of all boxes.
    """

    width: int = 256
    loss: Literal["paper", "code"] = "paper"
    l1: float = 1.0
    giou: float = 1.0
    quality: float = 0.25


@dataclass(frozen=True, slots=True)
class LocationPredictions:
    """Predicted corners (xyxy in [0, 1] of the canvas), neither bounded nor ordered.

    ``quality`` is the logit of the probability that the IoU with the truth is above 0.5.
    """

    corners: Float[Tensor, "b q 4"]
    quality: Float[Tensor, "b q"]
    anchors: tuple[Anchors, ...] = ()

    @property
    def boxes(self) -> Float[Tensor, "b q 4"]:
        """The boxes as cxcywh, with ordered corners."""
        low = torch.minimum(self.corners[..., :2], self.corners[..., 2:])
        high = torch.maximum(self.corners[..., :2], self.corners[..., 2:])
        return torch.cat([(low + high) / 2, high - low], dim=-1)


@dataclass(frozen=True, slots=True)
class LocationTruth:
    """Truth for each filled reference: corners, xyxy in [0, 1] of the canvas."""

    corners: Float[Tensor, "n 4"]
    known: Bool[Tensor, " n"]
    weights: Float[Tensor, " n"]

    def take(self, order: Int[Tensor, " n"]) -> "LocationTruth":
        """Reorder the truth; weights stay with the references."""
        return LocationTruth(self.corners[order], self.known[order], self.weights)


class LocationDecoder(nn.Module):
    """Decode one box and one quality for each reference from its state alone."""

    unit = UnitType.BOX.value
    capacity = None
    anchored = False

    def __init__(self, config: LocationConfig, language_width: int) -> None:
        super().__init__()
        self.config = config
        self.projector = StateProjector(language_width, config.width)
        self.first = nn.Linear(config.width, config.width)
        self.second = nn.Linear(config.width, config.width // 2)
        self.last = nn.Linear(config.width // 2, 4)
        self.estimate = QualityHead(config.width)

    def read_truth(self, batch: Batch) -> UnitTruth[LocationTruth] | None:
        """Return the corners of references that ask for a box; None if no reference does."""
        given = batch.references
        asked = given.asks_box.nonzero()[:, 0]
        if not len(asked):
            return None
        corners = to_corners(given.boxes[asked])
        truth = LocationTruth(corners, given.has_box[asked], given.weights[asked])
        return UnitTruth(asked, truth)

    def forward(
        self, references: LatentReferences, features: Features | None = None
    ) -> LocationPredictions:
        """Decode every reference; ``features`` are not used."""
        del features
        state = self.projector(references.states)
        corners = self.last(self.second(self.first(state).relu()).relu()).float()
        return LocationPredictions(corners, self.estimate(state, ()))

    def costs(
        self,
        decoded: LocationPredictions,
        truth: LocationTruth,
        filled: Bool[Tensor, "b q"],
        members: Int[Tensor, "g most"],
    ) -> Float[Tensor, "g most most"]:
        """Return L1 and 1 - generalized IoU of every pair; zero where the truth is not known."""
        index = members.clamp(min=0)
        corners = decoded.corners.detach()[filled][index][:, :, None]
        target = truth.corners[index][:, None]
        overlap = paired_iou(corners, target)[1]
        distance = (corners - target).abs().sum(-1)
        cost = self.config.l1 * distance + self.config.giou * (1 - overlap)
        return cost.masked_fill(~truth.known[index][:, None], 0.0)

    def losses(
        self, decoded: LocationPredictions, truth: LocationTruth, filled: Bool[Tensor, "b q"]
    ) -> UnitLoss:
        """Compute L1 (sum over the four numbers), 1 - generalized IoU, and quality."""
        tied = tied_zero(self)
        known = truth.known
        if not bool(known.any()):
            zero = tied.detach()
            return UnitLoss(tied, dict.fromkeys(_PARTS, zero), {"location_iou": zero})
        scale, target = truth.weights[known], truth.corners[known]
        corners = decoded.corners[filled][known]
        iou, overlap = paired_iou(corners, target)
        iou = iou.detach()
        apart = 1 - overlap
        if self.config.loss == "code":
            in_order = (corners[:, 2:] >= corners[:, :2]).all(-1)
            apart = apart.where(in_order, torch.zeros_like(apart))
        distance = (corners - target).abs().sum(-1)
        images = filled.nonzero()[:, 0][known]
        parts = {
            "l1": self._mean(distance, scale, images),
            "giou": self._mean(apart, scale, images),
            "quality": quality_loss(decoded.quality[filled][known], iou, scale),
        }
        loss = (
            self.config.l1 * parts["l1"]
            + self.config.giou * parts["giou"]
            + self.config.quality * parts["quality"]
        )
        measures = {"location_iou": weighted_mean(iou, scale)}
        return UnitLoss(loss + tied, {name: parts[name].detach() for name in _PARTS}, measures)

    def _mean(
        self,
        values: Float[Tensor, " n"],
        scale: Float[Tensor, " n"],
        images: Int[Tensor, " n"],
    ) -> Float[Tensor, ""]:
        """Return the mean over boxes or, for ``code``, over the means of each image."""
        if self.config.loss == "paper":
            return weighted_mean(values, scale)
        sums = values.new_zeros(int(images.max()) + 1).index_add(0, images, values * scale)
        weights = scale.new_zeros(len(sums)).index_add(0, images, scale)
        return (sums / weights.clamp(min=1e-6)).sum() / len(values)

    def to_unit(
        self, decoded: LocationPredictions, row: int, position: int, letterbox: Letterbox
    ) -> Box:
        """Return the box of one reference in pixels of its source image, with ordered corners.

        Raises:
            GeometryError: The box is not finite, is empty or lies outside the image.
        """
        return box_at_source(decoded.boxes[row, position], letterbox)


_PARTS = ("l1", "giou", "quality")

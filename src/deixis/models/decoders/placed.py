"""Truth of boxes, of masks, and of the attention of anchors, which either can supervise."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor
from torch.nn import functional

from deixis.batch import Batch, UnitTruth
from deixis.models.losses.anchors import Anchors, covered_cells


@dataclass(frozen=True, slots=True)
class PlacedTruth:
    """Truth for a decoder of boxes or masks, with an entry for each of its references.

    ``boxes`` are cxcywh in [0, 1] of the canvas. ``masks`` cover the canvas; ``slots`` is the index
    of each reference's mask, -1 if it is not known. ``known`` is true if the decoder's unit is
    known, ``placed`` if a box or a mask is known. ``extents`` are the boxes of the images on the
    canvas (x1 y1 x2 y2 in [0, 1]).
    """

    boxes: Float[Tensor, "n 4"]
    masks: Num[Tensor, "m mh mw"]
    slots: Int[Tensor, " n"]
    known: Bool[Tensor, " n"]
    placed: Bool[Tensor, " n"]
    extents: Float[Tensor, "n 4"]
    weights: Float[Tensor, " n"]

    def take(self, order: Int[Tensor, " n"]) -> "PlacedTruth":
        """Reorder the truth; weights and extents stay with the references."""
        return PlacedTruth(
            self.boxes[order],
            self.masks,
            self.slots[order],
            self.known[order],
            self.placed[order],
            self.extents,
            self.weights,
        )

    def coverage(self, anchors: tuple[Anchors, ...]) -> Float[Tensor, "n cells"] | None:
        """Return the target attention: the share of the mask, or else of the box, in each cell.

        None without anchors or references.
        """
        if not anchors or not len(self.boxes):
            return None
        grid = math.isqrt(anchors[0].logits.shape[-1])
        coverage = covered_cells(self.boxes, grid)
        drawn = self.slots >= 0
        shares = functional.adaptive_avg_pool2d(self.masks[:, None].float(), grid).flatten(1)
        coverage[drawn] = shares[self.slots[drawn]]
        return coverage / coverage.sum(1, keepdim=True).clamp(min=1e-9)

    def attention_costs(
        self,
        anchors: tuple[Anchors, ...],
        filled: Bool[Tensor, "b q"],
        members: Int[Tensor, "g most"],
    ) -> Float[Tensor, "g most most"] | float:
        """Return the matching costs of attention for all pairs of a group; 0 without anchors.

        Two references may start from the same cell; their attention still tells them apart.
        """
        coverage = self.coverage(anchors)
        if coverage is None:
            return 0.0
        attention = anchors[-1].logits.detach()[filled].log_softmax(-1)
        wanted = coverage * self.placed[:, None]
        return -(attention[members] @ wanted[members].transpose(1, 2))


def read_boxes(batch: Batch, *, anchored: bool) -> UnitTruth[PlacedTruth]:
    """Return truth for references that ask for a box; for all references if ``anchored``."""
    given = batch.references
    return _placed(batch, given.has_box, None if anchored else given.asks_box.nonzero()[:, 0])


def read_masks(batch: Batch, *, anchored: bool) -> UnitTruth[PlacedTruth]:
    """Return truth for references that ask for a mask; for all references if ``anchored``."""
    given = batch.references
    return _placed(batch, given.has_mask, None if anchored else given.mask_index)


def _placed(
    batch: Batch, known: Bool[Tensor, " n"], index: Int[Tensor, " m"] | None
) -> UnitTruth[PlacedTruth]:
    given = batch.references
    device = given.boxes.device
    if index is None:
        index = torch.arange(len(given), device=device)
    slots = torch.full((len(given),), -1, device=device)
    slots[given.mask_index] = torch.arange(len(given.mask_index), device=device)
    if batch.extents is None:
        extents = torch.tensor([0.0, 0.0, 1.0, 1.0], device=device).expand(len(given), 4)
    else:
        extents = batch.extents[given.rows]
    truth = PlacedTruth(
        given.boxes[index],
        given.masks,
        slots.masked_fill(~given.has_mask, -1)[index],
        known[index],
        (given.has_box | given.has_mask)[index],
        extents[index],
        given.weights[index],
    )
    return UnitTruth(index, truth)

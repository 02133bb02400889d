"""Target attention of the anchors of unit decoders, and its loss."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deixis.models.losses.boxes import to_corners
from deixis.models.losses.scoring import weighted_mean


@dataclass(frozen=True, slots=True)
class Anchors:
    """Attention of references: logits over cells, the mean centre and the mean features.

    ``elected`` is the cell from which a unit starts, ``votes`` the share of the attention for it.
    """

    logits: Float[Tensor, "b q cells"]
    centres: Float[Tensor, "b q 2"]
    pooled: Float[Tensor, "b q d"]
    elected: Int[Tensor, "b q"]
    votes: Float[Tensor, "b q"]


def box_coverage(boxes: Float[Tensor, "n 4"], cells: int) -> Float[Tensor, "n cells"]:
    """Return the target attention of boxes (cxcywh in [0, 1] of the canvas): shares that sum to 1.

    A box outside the canvas has shares of 0.
    """
    covered = covered_cells(boxes, math.isqrt(cells))
    return covered / covered.sum(1, keepdim=True).clamp(min=1e-9)


def covered_cells(boxes: Float[Tensor, "n 4"], grid: int) -> Float[Tensor, "n cells"]:
    """Return the area of each cell that boxes (cxcywh in [0, 1] of the canvas) cover, in cells."""
    edges = torch.arange(grid + 1, device=boxes.device) / grid
    low, high = to_corners(boxes).split(2, dim=1)
    share = (
        torch.minimum(edges[1:], high[..., None]) - torch.maximum(edges[:-1], low[..., None])
    ).clamp(min=0)
    return (share[:, 1, :, None] * share[:, 0, None, :]).flatten(1)


def anchor_loss(
    anchors: tuple[Anchors, ...],
    filled: Bool[Tensor, "b q"],
    coverage: Float[Tensor, "n cells"] | None,
    scale: Float[Tensor, " n"],
) -> Float[Tensor, ""]:
    """Return the cross-entropy of every anchor's attention; zero without anchors."""
    if not anchors or coverage is None:
        return scale.sum() * 0
    each = [soft_attention_loss(anchor.logits[filled], coverage) for anchor in anchors]
    return weighted_mean(torch.stack(each).mean(0), scale)


def reached(
    anchor: tuple[Anchors, ...],
    filled: Bool[Tensor, "b q"],
    coverage: Float[Tensor, "n cells"] | None,
) -> Float[Tensor, " n"]:
    """Return 1 if the first anchor's elected cell lies on the target, else 0; 1 without anchors.

    A unit that starts from a wrong cell should not learn from the truth of another cell.
    """
    if not anchor or coverage is None:
        return filled.new_ones(int(filled.sum()), dtype=torch.float32)
    elected: Int[Tensor, " n"] = anchor[0].elected[filled]
    return (coverage.gather(1, elected[:, None]).squeeze(1) > 0).float()


def soft_attention_loss(
    logits: Float[Tensor, "n cells"], target: Float[Tensor, "n cells"]
) -> Float[Tensor, " n"]:
    """Return the cross-entropy of an attention over cells against a target distribution."""
    return -(target * logits.log_softmax(-1)).sum(-1)

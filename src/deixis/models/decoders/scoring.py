"""What the losses of all unit decoders are made of."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from deixis.models.decoders.layers import Anchors
from deixis.models.losses import soft_attention_loss, to_corners

RIGHT = 0.5
"""A unit whose agreement with the truth (IoU, OKS, δ1) is above this is right."""


def tied_zero(module: nn.Module) -> Float[Tensor, ""]:
    """Give a zero that every trainable parameter of a module takes part in, with a gradient of zero.

    A decoder that has nothing to learn from in a batch still has to take part in the backward
    pass, or distributed ranks wait for one another (REF-VLM IV-C, "Latent Embeddings Router",
    runs it and sets its loss to zero). A product with zero is no such zero: it is NaN where an
    output or a parameter is not finite, and its gradient carries that on to whatever the decoder
    has read. This one sums none of each parameter's numbers: it is 0 and its gradient is 0,
    whatever the numbers are and whatever gradient reaches it, and it touches nothing else.
    """
    none_of_each = [
        parameter.flatten()[:0].float().sum()
        for parameter in module.parameters()
        if parameter.requires_grad
    ]
    if not none_of_each:
        return torch.zeros((), device=next(module.parameters()).device)
    return torch.stack(none_of_each).sum()


def weighted_mean(values: Float[Tensor, " n"], scale: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Mean with weights; zero where all weights are zero or there is nothing."""
    return (values * scale).sum() / scale.sum().clamp(min=1e-6)


def quality_loss(
    logits: Float[Tensor, " n"], agreement: Float[Tensor, " n"], scale: Float[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy of quality estimates towards whether units were right."""
    right = (agreement > RIGHT).float()
    each = functional.binary_cross_entropy_with_logits(logits.float(), right, reduction="none")
    return weighted_mean(each, scale)


def box_coverage(boxes: Float[Tensor, "n 4"], cells: int) -> Float[Tensor, "n cells"]:
    """Where anchors of boxes (cxcywh in [0, 1] of the canvas) should attend: shares that sum to 1.

    A box that lies outside the canvas has shares of 0.
    """
    covered = covered_cells(boxes, math.isqrt(cells))
    return covered / covered.sum(1, keepdim=True).clamp(min=1e-9)


def covered_cells(boxes: Float[Tensor, "n 4"], grid: int) -> Float[Tensor, "n cells"]:
    """How much of each cell boxes (cxcywh in [0, 1] of the canvas) cover, in cells' lengths squared."""
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
    """Cross-entropy of every anchor's attention; zero where the decoder has none."""
    if not anchors or coverage is None:
        return scale.sum() * 0
    each = [soft_attention_loss(anchor.logits[filled], coverage) for anchor in anchors]
    return weighted_mean(torch.stack(each).mean(0), scale)


def reached(
    anchor: tuple[Anchors, ...],
    filled: Bool[Tensor, "b q"],
    coverage: Float[Tensor, "n cells"] | None,
) -> Float[Tensor, " n"]:
    """1 where the first anchor's elected cell lies on the target, or where there are no anchors.

    A unit that starts from the wrong cell has nothing to learn from the right one's truth.
    """
    if not anchor or coverage is None:
        return filled.new_ones(int(filled.sum()), dtype=torch.float32)
    elected: Int[Tensor, " n"] = anchor[0].elected[filled]
    return (coverage.gather(1, elected[:, None]).squeeze(1) > 0).float()

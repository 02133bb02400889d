"""Losses over matched units; boxes are cxcywh in [0, 1] of the canvas unless said otherwise."""

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from deixis.models.positions import cells_of_images

PIXELS_AT_ONCE = 2**20
"""How many pixels of masks are brought to the size of their targets and scored together."""


def to_corners(boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Turn cxcywh into xyxy."""
    centre, extent = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - extent / 2, centre + extent / 2], dim=-1)


def paired_iou(
    first: Float[Tensor, "*#n 4"], second: Float[Tensor, "*#n 4"]
) -> tuple[Float[Tensor, "*#n"], Float[Tensor, "*#n"]]:
    """Return IoU and generalized IoU of boxes (xyxy), pair by pair, with broadcasting."""
    corner_low = torch.maximum(first[..., :2], second[..., :2])
    corner_high = torch.minimum(first[..., 2:], second[..., 2:])
    overlap = (corner_high - corner_low).clamp(min=0).prod(-1)
    areas = (
        (first[..., 2:] - first[..., :2]).clamp(min=0).prod(-1),
        (second[..., 2:] - second[..., :2]).clamp(min=0).prod(-1),
    )
    union = (areas[0] + areas[1] - overlap).clamp(min=1e-9)
    hull = (
        (
            torch.maximum(first[..., 2:], second[..., 2:])
            - torch.minimum(first[..., :2], second[..., :2])
        )
        .prod(-1)
        .clamp(min=1e-9)
    )
    iou = overlap / union
    return iou, iou - (hull - union) / hull


def box_loss(
    predicted: Float[Tensor, "n 4"], target: Float[Tensor, "n 4"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Return L1 (sum over the four numbers) and 1 - generalized IoU, box by box."""
    distance = (predicted - target).abs().sum(-1)
    return distance, 1 - paired_iou(to_corners(predicted), to_corners(target))[1]


def focal_loss(
    logits: Float[Tensor, "n p"],
    target: Float[Tensor, "n p"],
    inside: Bool[Tensor, "n p"] | None = None,
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> Float[Tensor, " n"]:
    """Sigmoid focal loss, mean over the pixels ``inside``, or over all; 0 where none is inside."""
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    wrong = torch.where(target > 0.5, 1 - logits.sigmoid(), logits.sigmoid())
    balance = torch.where(target > 0.5, alpha, 1 - alpha)
    each = balance * wrong**gamma * entropy
    if inside is None:
        return each.mean(-1)
    return (each * inside).sum(-1) / inside.sum(-1).clamp(min=1)


def dice_loss(
    logits: Float[Tensor, "n p"],
    target: Float[Tensor, "n p"],
    inside: Bool[Tensor, "n p"] | None = None,
) -> Float[Tensor, " n"]:
    """1 - (2 Σpg + 1) / (Σp + Σg + 1), with p the sigmoid of the logits, over pixels ``inside``."""
    probability = logits.sigmoid()
    if inside is not None:
        probability, target = probability * inside, target * inside
    overlap = (probability * target).sum(-1)
    return 1 - (2 * overlap + 1) / (probability.sum(-1) + target.sum(-1) + 1)


def mask_losses(
    logits: Float[Tensor, "n h w"],
    target: Num[Tensor, "n th tw"],
    extents: Float[Tensor, "n 4"],
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Return focal loss, dice loss and IoU of masks at the resolution of their targets.

    Logits are interpolated to the targets, and only cells of the image count, which lies within
    ``extents`` (x1 y1 x2 y2 in [0, 1] of the canvas; REF-VLM, public code). Masks are scored a few
    at a time, and what is computed at the targets' resolution is computed again for gradients, so
    that memory grows with the logits and not with the targets. No masks give no losses.
    """
    parts = []
    at_once = max(1, PIXELS_AT_ONCE // (target.shape[1] * target.shape[2]))
    for start in range(0, len(logits), at_once):
        some = slice(start, start + at_once)
        given = (logits[some], target[some], extents[some])
        if torch.is_grad_enabled() and logits.requires_grad:
            parts.append(
                checkpoint(_masks_scored, *given, use_reentrant=False, preserve_rng_state=False)
            )
        else:
            parts.append(_masks_scored(*given))
    if not parts:
        none = logits.new_zeros(0)
        return none, none, none
    focal, dice, iou = (torch.cat(each) for each in zip(*parts, strict=True))
    return focal, dice, iou


def _masks_scored(
    logits: Float[Tensor, "n h w"],
    target: Num[Tensor, "n th tw"],
    extents: Float[Tensor, "n 4"],
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, " n"]]:
    size = target.shape[-2:]
    if logits.shape[-2:] != size:
        logits = functional.interpolate(
            logits[:, None], size=size, mode="bilinear", align_corners=False
        )[:, 0]
    inside = cells_of_images(extents, size[-1]).flatten(1)
    flat, masks = logits.flatten(1), target.flatten(1).to(logits.dtype)
    with torch.no_grad():
        hard, there = (flat > 0) & inside, (masks > 0.5) & inside
        shared = (hard & there).sum(-1)
        iou = shared / (hard | there).sum(-1).clamp(min=1)
    return focal_loss(flat, masks, inside), dice_loss(flat, masks, inside), iou


def soft_attention_loss(
    logits: Float[Tensor, "n cells"], target: Float[Tensor, "n cells"]
) -> Float[Tensor, " n"]:
    """Cross-entropy between an attention over cells and a target distribution over them."""
    return -(target * logits.log_softmax(-1)).sum(-1)


def concept_loss(
    logits: Float[Tensor, "b cells known"],
    cells: Int[Tensor, "b cells"],
    concepts: Bool[Tensor, "m known"],
) -> Float[Tensor, ""]:
    """Which words hold for what a cell shows: cross-entropy summed over words.

    Cells on things and cells on the ground (-1, where no word holds) weigh alike. The loss gives
    every cell of every image a target, where a question only speaks of one thing; a vision
    encoder that starts from nothing learns colours and shapes several times sooner.
    """
    shown = cells >= 0
    # the last row, which -1 selects, holds no word
    held = functional.pad(concepts.float(), (0, 0, 0, 1))[cells]
    entropy = functional.binary_cross_entropy_with_logits(
        logits.float(), held, reduction="none"
    ).sum(-1)
    on_things = (entropy * shown).sum() / shown.sum().clamp(min=1)
    on_ground = (entropy * ~shown).sum() / (~shown).sum().clamp(min=1)
    return on_things + on_ground

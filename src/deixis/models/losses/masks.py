"""Losses of masks, at the resolution of their targets."""

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from deixis.models.positions import cells_of_images

PIXELS_AT_ONCE = 2**20
"""The most target pixels of masks that are processed at a time."""


def focal_loss(
    logits: Float[Tensor, "n p"],
    target: Float[Tensor, "n p"],
    inside: Bool[Tensor, "n p"] | None = None,
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> Float[Tensor, " n"]:
    """Return the sigmoid focal loss, a mean over all pixels or those ``inside``; 0 without any."""
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
    """Return 1 - (2 Σpg + 1) / (Σp + Σg + 1) over pixels ``inside``, p the sigmoid of the logits."""
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

    Logits are interpolated to the targets' resolution, and only pixels inside ``extents`` count
    (x1 y1 x2 y2 in [0, 1] of the canvas; REF-VLM, public code). Few masks are processed at a time,
    and values at the targets' resolution are recomputed for gradients, so that memory grows with
    the logits and not with the targets. Results are empty if there are no masks.
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

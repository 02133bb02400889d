"""Losses over matched units; boxes are cxcywh in [0, 1] of the canvas unless said otherwise."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional


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
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> Float[Tensor, " n"]:
    """Sigmoid focal loss, mean over pixels."""
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    wrong = torch.where(target > 0.5, 1 - logits.sigmoid(), logits.sigmoid())
    balance = torch.where(target > 0.5, alpha, 1 - alpha)
    return (balance * wrong**gamma * entropy).mean(-1)


def dice_loss(logits: Float[Tensor, "n p"], target: Float[Tensor, "n p"]) -> Float[Tensor, " n"]:
    """1 - (2 Σpg + 1) / (Σp + Σg + 1), with p the sigmoid of the logits."""
    probability = logits.sigmoid()
    overlap = (probability * target).sum(-1)
    return 1 - (2 * overlap + 1) / (probability.sum(-1) + target.sum(-1) + 1)


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

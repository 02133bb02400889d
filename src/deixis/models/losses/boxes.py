"""Losses of boxes; cxcywh in [0, 1] of the canvas unless stated otherwise."""

import torch
from jaxtyping import Float
from torch import Tensor


def to_corners(boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Convert cxcywh to xyxy."""
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

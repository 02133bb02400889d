"""Hungarian matching within groups (REF-VLM III-D, equations 4 to 8).

A group is the references of one phrase: their order is arbitrary, and units of other phrases are
excluded. Groups are padded into one batch of small cost tables, so that costs are computed at once.
Simple cases are solved for all groups at once: if the cheapest targets of a group's references
differ, they are the assignment; for groups of two and three, all orders are compared. The remaining
groups use scipy's shortest augmenting paths, one by one.

Equation 6 sets impossible pairs to minus infinity, and equation 8 allows unmatched members. With
costs to minimise, both would be the cheapest choice. Here padding is never read, and each group
matches as many pairs as possible.
"""

from itertools import permutations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

UNMATCHED = -1
"""Target index of a reference without a target."""

_NOT_FINITE = 1e9
"""Cost of a pair whose cost is not finite, above any other; the loss reports the problem."""


def match_groups(
    cost: Float[Tensor, "groups most most"], sizes: Int[np.ndarray, " groups"]
) -> list[Int[np.ndarray, " size"]]:
    """Return the index of the target of each reference, for each group.

    Args:
        cost: Cost of assigning target j to reference i, padded; entries past a group's size are not
            read.
        sizes: Number of references, and of targets, in each group.
    """
    taken = assign_groups(cost, sizes)
    return [row[:size] for row, size in zip(taken, sizes, strict=True)]


def assign_groups(
    cost: Float[Tensor, "groups references targets"],
    sizes: Int[np.ndarray, " groups"],
    target_sizes: Int[np.ndarray, " groups"] | None = None,
) -> Int[np.ndarray, "groups references"]:
    """Return the cheapest one-to-one assignment of every group as one padded table.

    The number of pairs of a group is the smaller of its numbers of references and targets. Other
    references, and padding, get `UNMATCHED`. Ties are broken arbitrarily.

    Args:
        cost: Cost of assigning target j to reference i, padded; entries past a group's sizes are
            not read. A cost that is not finite counts as higher than all others.
        sizes: Number of references in each group.
        target_sizes: Number of targets in each group; by default that of references.
    """
    # not every accelerator supports float64
    table = cost.detach().cpu().double().contiguous().numpy()
    if not np.isfinite(table.sum()):
        table = np.where(np.isfinite(table), table, _NOT_FINITE)
    target_sizes = sizes if target_sizes is None else target_sizes
    taken = np.full(table.shape[:2], UNMATCHED, dtype=np.int64)
    shapes = sizes * (table.shape[2] + 1) + target_sizes
    for shape in np.unique(shapes).tolist():
        height, width = divmod(shape, table.shape[2] + 1)
        if not height or not width:
            continue
        chosen = np.flatnonzero(shapes == shape)
        block = table[chosen, :height, :width]
        if height <= width:
            taken[chosen, :height] = _assign_rows(block)
        else:
            rows = _assign_rows(np.ascontiguousarray(block.transpose(0, 2, 1)))
            taken[chosen[:, None], rows] = np.arange(width)
    return taken


def reorder_groups(
    members: Int[Tensor, "groups most"], taken: Int[np.ndarray, "groups most"], count: int
) -> Int[Tensor, " count"]:
    """Return the index of the target of each reference in a batch; ungrouped ones keep their own.

    Args:
        members: Indices of the references of each group, padded with -1. Reference *k* and target
            *k* have the same index.
        taken: The assignment from `assign_groups`.
        count: Number of references in the batch.
    """
    order = torch.arange(count, device=members.device)
    own = members >= 0
    picked = torch.from_numpy(taken).to(members.device).clamp(min=0)
    order[members[own]] = members.gather(1, picked)[own]
    return order


def pairwise_box_cost(
    predicted: Float[Tensor, "groups references 4"],
    target: Float[Tensor, "groups targets 4"],
    *,
    l1: float,
    giou: float,
) -> Float[Tensor, "groups references targets"]:
    """Return ``l1 · L1 + giou · (1 - GIoU)`` of every pair of a group (REF-VLM III-D, equation 4).

    Boxes are cxcywh in [0, 1] of the canvas. On each axis, with the distance of centres ``d`` and
    half extents ``a`` and ``b``, two boxes overlap by ``a + b - max(d, |a - b|)``, and the
    enclosing box measures ``a + b + max(d, |a - b|)``, so both terms use the same distances.
    """
    # groups last: the short axes broadcast, and the long one is contiguous in memory
    first, second = (each.permute(2, 1, 0).contiguous() for each in (predicted, target))
    spread, shared, hull = [], [], []
    for axis in (0, 1):
        centre = (first[axis][:, None] - second[axis][None]).abs_()
        one, other = first[axis + 2] / 2, second[axis + 2] / 2
        extent = (one[:, None] - other[None]).abs_()
        both = one[:, None] + other[None]
        spread.append(torch.add(centre, extent, alpha=2))
        apart = torch.maximum(centre, extent, out=centre)
        shared.append((both - apart).clamp_(min=0))
        hull.append(both.add_(apart))
    overlap, enclosing = shared[0].mul_(shared[1]), hull[0].mul_(hull[1]).clamp_(min=1e-9)
    areas = [each[2].clamp(min=0) * each[3].clamp(min=0) for each in (first, second)]
    union = (areas[0][:, None] + areas[1][None]).sub_(overlap).clamp_(min=1e-9)
    # 1 - GIoU = 1 - overlap / union + (enclosing - union) / enclosing
    apart = overlap.div_(union).add_(union.div_(enclosing)).neg_().add_(2)
    cost = spread[0].add_(spread[1]).mul_(l1).add_(apart, alpha=giou)
    return cost.permute(2, 0, 1)


def pairwise_mask_cost(
    logits: Float[Tensor, "groups references pixels"],
    target: Float[Tensor, "groups targets pixels"],
    inside: Bool[Tensor, "groups pixels"],
    *,
    focal: float,
    dice: float,
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> Float[Tensor, "groups references targets"]:
    """Return ``focal · focal + dice · dice`` of every pair of a group (REF-VLM IV-C).

    The terms are those of `deixis.models.losses.masks.focal_loss` and `dice_loss` over the pixels
    ``inside``. Both are linear in the target, so pairs are matrix products over pixels. Targets lie
    in [0, 1]; on a coarser grid they are the covered share of each cell.
    """
    chance = logits.sigmoid()
    inside = inside[:, None]
    present = alpha * (1 - chance) ** gamma * functional.softplus(-logits) * inside
    absent = (1 - alpha) * chance**gamma * functional.softplus(logits) * inside
    area = inside.sum(-1, keepdim=True).clamp(min=1)
    wanted = (target * inside).transpose(1, 2)
    focal_cost = (absent.sum(-1, keepdim=True) + (present - absent) @ wanted) / area
    chance = chance * inside
    whole = chance.sum(-1, keepdim=True) + wanted.sum(1, keepdim=True) + 1
    return focal * focal_cost + dice * (1 - (2 * chance @ wanted + 1) / whole)


def _assign_rows(
    block: Float[np.ndarray, "groups rows columns"],
) -> Int[np.ndarray, "groups rows"]:
    """Return the column of every row, for groups of one shape with no more rows than columns."""
    count, height, width = block.shape
    taken = block.argmin(2)
    if height == 1:
        return taken
    groups = np.arange(count)[:, None]
    wanted = np.zeros((count, width), dtype=bool)
    wanted[groups, taken] = True
    # if the cheapest columns of all rows differ, they are the optimal assignment
    contested = np.flatnonzero(wanted.sum(1) < height)
    if height == width and height <= _LISTED and len(contested):
        taken[contested] = _cheapest_order(block[contested])
        return taken
    for index in contested.tolist():
        taken[index] = linear_sum_assignment(block[index])[1]
    return taken


_LISTED = 3
"""Largest group for which all orders are compared."""


def _cheapest_order(block: Float[np.ndarray, "groups n n"]) -> Int[np.ndarray, "groups n"]:
    size = block.shape[1]
    orders = np.array(list(permutations(range(size))))
    sums = block[:, np.arange(size), orders].sum(2)
    return orders[sums.argmin(1)]

"""What training minimises: step 6 of a forward pass."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from deixis.models import losses
from deixis.models.decoders import BoxPredictions, MaskPredictions, Proposals, mask_logits
from deixis.models.decoders.interface import Decoded
from deixis.models.decoders.layers import Anchors
from deixis.models.decoders.registry import AnyDecoder
from deixis.models.decoders.scoring import (
    anchor_loss,
    covered_cells,
    quality_loss,
    reached,
    tied_zero,
    weighted_mean,
)
from deixis.models.matching import assign_groups, pairwise_box_cost, reorder_groups
from deixis.models.references import LatentReferences


@dataclass(frozen=True, slots=True)
class MoreUnits:
    """What one more decoder made of the references that it was given.

    ``filled`` are those, moved together; ``places`` tells where in its row each reference went,
    -1 where it was not given.
    """

    decoder: AnyDecoder
    decoded: Decoded
    filled: Bool[Tensor, "b some"]
    places: Int[Tensor, "b q"]


@dataclass(frozen=True, slots=True)
class DecodedUnits:
    """What the decoders made of the references; None where the model has no such decoder.

    ``more`` are units of further decoders, by unit type.
    """

    references: LatentReferences
    boxes: BoxPredictions | None
    masks: MaskPredictions | None
    more: Mapping[str, MoreUnits] = field(default_factory=dict)

    @property
    def anchors(self) -> tuple[Anchors, ...]:
        """Where the references attend, of the first decoder that is anchored."""
        for units in (self.boxes, self.masks):
            if units is not None and units.anchors:
                return units.anchors
        return ()


@dataclass(frozen=True, slots=True)
class Things:
    """Truth for everything annotated; fields as in `deixis.processing.batch.Things`."""

    cells: Int[Tensor, "b cells"]
    boxes: Float[Tensor, "m 4"]
    masks: Float[Tensor, "m mh mw"]
    concepts: Bool[Tensor, "m known"]


@dataclass(frozen=True, slots=True)
class MoreTruth:
    """Truth for one more decoder, about the references ``index``: whole groups, in order.

    ``truth`` is what the decoder takes (see `UnitDecoder`), an entry for each of them.
    """

    index: Int[Tensor, " m"]
    truth: Any


@dataclass(frozen=True, slots=True)
class Truth:
    """Truth for the references of a batch; fields as in `deixis.processing.batch.References`.

    ``more`` is truth for further decoders, by unit type.
    """

    boxes: Float[Tensor, "n 4"]
    has_box: Bool[Tensor, " n"]
    masks: Float[Tensor, "n mh mw"]
    has_mask: Bool[Tensor, " n"]
    groups: Int[Tensor, "g most"]
    weights: Float[Tensor, " n"]
    more: Mapping[str, MoreTruth] = field(default_factory=dict)


def weighted_sum(
    parts: dict[str, Float[Tensor, ""]], weights: dict[str, float]
) -> Float[Tensor, ""]:
    """Add losses by their weights."""
    return torch.stack([weights[name] * part for name, part in parts.items()]).sum()


def unit_losses(
    units: DecodedUnits, truth: Truth, weights: dict[str, float]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Step 6: match references to truth inside their groups and score every decoder.

    Decoders without truth in the batch get a zero that is still tied to their outputs, so that
    distributed ranks stay in step; finite inputs give it a zero gradient.
    """
    filled = units.references.filled
    count = len(truth.boxes)
    pixels = None if units.masks is None else units.masks.logits[filled].flatten(1)
    order = match_truth(units, truth, weights, pixels)
    has_box, has_mask = truth.has_box[order], truth.has_mask[order]
    boxes, masks = truth.boxes[order], truth.masks[order].flatten(1)
    parts: dict[str, Tensor] = {}
    measures: dict[str, Tensor] = {}
    # whatever unit was asked for, the place is the same
    known = truth.weights * (has_box | has_mask)
    if units.boxes is not None:
        coverage = cell_coverage(units.boxes.anchors, truth, order) if count else None
        scale = truth.weights * has_box
        steps = []
        for number, step in enumerate(units.boxes.steps):
            distance, overlap = losses.box_loss(step[filled], boxes)
            found = scale * reached(units.boxes.anchors[number : number + 1], filled, coverage)
            steps.append(weighted_mean(weights["l1"] * distance + weights["giou"] * overlap, found))
        loss = torch.stack(steps).mean()
        iou = losses.paired_iou(
            losses.to_corners(units.boxes.boxes[filled]), losses.to_corners(boxes)
        )[0].detach()
        loss = loss + weights["quality"] * quality_loss(units.boxes.quality[filled], iou, scale)
        anchor = anchor_loss(units.boxes.anchors, filled, coverage, known)
        parts["box"] = loss + units.boxes.anchor_weight * anchor
        measures |= {"box_iou": weighted_mean(iou, scale), "box_anchor": anchor.detach()}
        measures["box_at_half"] = weighted_mean((iou >= 0.5).float(), scale)
    if units.masks is not None and pixels is not None:
        coverage = cell_coverage(units.masks.anchors, truth, order) if count else None
        scale = truth.weights * has_mask
        focal, dice = losses.focal_loss(pixels, masks), losses.dice_loss(pixels, masks)
        found = scale * reached(units.masks.anchors[-1:], filled, coverage)
        loss = weighted_mean(weights["focal"] * focal + weights["dice"] * dice, found)
        hard = (pixels.detach() > 0).float()
        overlap = (hard * masks).sum(-1)
        iou = overlap / (hard.sum(-1) + masks.sum(-1) - overlap).clamp(min=1)
        loss = loss + weights["quality"] * quality_loss(units.masks.quality[filled], iou, scale)
        anchor = anchor_loss(units.masks.anchors, filled, coverage, known)
        parts["mask"] = loss + units.masks.anchor_weight * anchor
        measures |= {"mask_iou": weighted_mean(iou, scale)}
    for name, one in units.more.items():
        parts[name], found_measures = more_losses(name, one, truth.more.get(name), order)
        measures |= found_measures
    return parts, measures


def more_losses(
    name: str, units: MoreUnits, truth: MoreTruth | None, order: Int[Tensor, " n"]
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Score one more decoder, whose loss is weighted inside; its parts are among the measures.

    Without truth it is a zero that is tied to the decoder's parameters.
    """
    if truth is None:
        return tied_zero(as_module(units.decoder)), {}
    taken = truth.truth.take(_places(truth.index, len(order))[order[truth.index]])
    loss = units.decoder.losses(units.decoded, taken, units.filled)
    return loss.loss, loss.measures | {f"{name}_{part}": x for part, x in loss.parts.items()}


def as_module(decoder: AnyDecoder) -> nn.Module:
    """What holds a decoder's parameters: itself."""
    assert isinstance(decoder, nn.Module)  # noqa: S101  # a direct child of the model
    return decoder


def _places(index: Int[Tensor, " m"], count: int) -> Int[Tensor, " count"]:
    """Where in ``index`` each of ``count`` references is; -1 where it is not."""
    places = torch.full((count,), -1, dtype=torch.long, device=index.device)
    places[index] = torch.arange(len(index), device=index.device)
    return places


def proposal_losses(
    proposals: Proposals,
    pixels: Float[Tensor, "b p h w"],
    things: Things,
    weights: dict[str, float],
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Score what cells propose for the things that they show.

    Every cell of a thing learns its box; one of them, not always the same, its mask. A thing
    weighs as much as the square root of its cells.
    """
    shown = things.cells >= 0
    owner = things.cells[shown]
    counts = torch.bincount(owner, minlength=len(things.boxes))
    scale = counts[owner].float().rsqrt()
    distance, overlap = losses.box_loss(proposals.boxes[shown], things.boxes[owner])
    loss = weighted_mean(weights["l1"] * distance + weights["giou"] * overlap, scale)
    # the cells of each thing, in order, start where those of the thing before end
    order = owner.argsort(stable=True)
    visible = counts > 0
    share = (torch.arange(len(counts), device=counts.device) % 3).float().add(0.5) / 3
    chosen = order[(counts.cumsum(0) - counts + (share * counts).long())[visible]]
    rows, cells = shown.nonzero(as_tuple=True)
    rows, cells = rows[chosen], cells[chosen]
    per_row = torch.bincount(rows, minlength=len(shown))
    filled = torch.arange(int(per_row.max()), device=rows.device)[None] < per_row[:, None]
    index = torch.zeros(filled.shape, dtype=torch.long, device=rows.device)
    index[filled] = cells
    boxes, embeddings = proposals.at(index)
    logits = mask_logits(embeddings, pixels, boxes.detach())[filled].flatten(1)
    masks = things.masks[visible].float().flatten(1)
    focal, dice = losses.focal_loss(logits, masks), losses.dice_loss(logits, masks)
    even = torch.ones_like(dice)
    loss = loss + weighted_mean(weights["focal"] * focal + weights["dice"] * dice, even)
    hard = (logits.detach() > 0).float()
    inside = (hard * masks).sum(-1)
    union = (hard.sum(-1) + masks.sum(-1) - inside).clamp(min=1)
    iou = losses.paired_iou(
        losses.to_corners(proposals.boxes[shown].detach()), losses.to_corners(things.boxes[owner])
    )[0]
    expected = torch.zeros_like(proposals.objectness)
    expected[shown] = iou
    loss = loss + nn.functional.binary_cross_entropy_with_logits(proposals.objectness, expected)
    measures = {
        "proposed_box_iou": weighted_mean(iou, scale),
        "proposed_mask_iou": weighted_mean(inside / union, even),
    }
    return loss, measures


def cell_coverage(
    anchors: tuple[Anchors, ...], truth: Truth, order: Int[Tensor, " n"]
) -> Float[Tensor, "n cells"] | None:
    """Where anchors should attend: the share of each cell that the mask, or else the box, covers."""
    if not anchors:
        return None
    grid = round(anchors[0].logits.shape[-1] ** 0.5)
    from_mask = nn.functional.adaptive_avg_pool2d(truth.masks[:, None], grid).flatten(1)
    from_box = covered_cells(truth.boxes, grid)
    coverage = torch.where(truth.has_mask[:, None], from_mask, from_box)[order]
    return coverage / coverage.sum(1, keepdim=True).clamp(min=1e-9)


@torch.no_grad()
def match_truth(
    units: DecodedUnits,
    truth: Truth,
    weights: dict[str, float],
    pixels: Float[Tensor, "n p"] | None,
) -> Int[Tensor, " n"]:
    """The truth that each reference takes: a permutation inside each group."""
    order = torch.arange(len(truth.boxes), device=truth.boxes.device)
    sizes = (truth.groups >= 0).sum(1)
    several = truth.groups[sizes > 1]
    if not len(several):
        return order
    members = several.clamp(min=0)
    filled = units.references.filled
    cost = torch.zeros(len(several), several.shape[1], several.shape[1], device=order.device)
    if units.boxes is not None:
        predicted, target = units.boxes.boxes[filled][members], truth.boxes[members]
        pair = pairwise_box_cost(predicted, target, l1=weights["l1"], giou=weights["giou"])
        cost += pair * truth.has_box[members][:, None]
    if pixels is not None:
        probability, masks = pixels[members].sigmoid(), truth.masks.flatten(1)[members]
        shared = 2 * probability @ masks.transpose(1, 2) + 1
        whole = probability.sum(-1)[:, :, None] + masks.sum(-1)[:, None] + 1
        cost += weights["dice"] * (1 - shared / whole) * truth.has_mask[members][:, None]
    for decoded in (units.boxes, units.masks):
        # two references may start from one cell: where they attend still tells them apart
        if decoded is not None and decoded.anchors:
            coverage = cell_coverage(decoded.anchors, truth, order)
            attention = decoded.anchors[-1].logits[filled].log_softmax(-1)
            if coverage is not None:
                cost -= attention[members] @ coverage[members].transpose(1, 2)
    for name, one in units.more.items():
        known = truth.more.get(name)
        if known is None:
            continue
        own = _places(known.index, len(order))[members].masked_fill(several < 0, -1)
        here = (own >= 0).any(1)
        cost[here] += one.decoder.costs(one.decoded, known.truth, one.filled, own[here])
    taken = assign_groups(cost, (several >= 0).sum(1).cpu().numpy())
    return reorder_groups(several, taken, len(order))

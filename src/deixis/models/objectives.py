"""What training minimises: step 6 of a forward pass."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Num
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
from deixis.models.matching import (
    assign_groups,
    pairwise_box_cost,
    pairwise_mask_cost,
    reorder_groups,
)
from deixis.models.positions import cells_of_images
from deixis.models.references import LatentReferences
from deixis.structures import UnitType


@dataclass(frozen=True, slots=True)
class Route:
    """Which references a decoder was given.

    ``filled`` are those, moved together; ``places`` tells where in its row each reference went,
    -1 where it was not given.
    """

    filled: Bool[Tensor, "b some"]
    places: Int[Tensor, "b q"]

    def index(self, filled: Bool[Tensor, "b q"]) -> Int[Tensor, " m"]:
        """Numbers of those references among all that are ``filled``, in order."""
        return (self.places[filled] >= 0).nonzero()[:, 0]


@dataclass(frozen=True, slots=True)
class MoreUnits:
    """What one more decoder made of the references that it was given; as in `Route`."""

    decoder: AnyDecoder
    decoded: Decoded
    filled: Bool[Tensor, "b some"]
    places: Int[Tensor, "b q"]


@dataclass(frozen=True, slots=True)
class DecodedUnits:
    """What the decoders made of the references; None where the model has no such decoder.

    ``routes`` tells which references the decoders of boxes and masks were given, by unit type;
    ``more`` are units of further decoders.
    """

    references: LatentReferences
    boxes: BoxPredictions | None
    masks: MaskPredictions | None
    more: Mapping[str, MoreUnits] = field(default_factory=dict)
    routes: Mapping[str, Route] = field(default_factory=dict)

    def place(self, unit: str, row: int, reference: int) -> int | None:
        """Where in its row a decoder of boxes or masks has a reference; None where it has not."""
        route = self.routes.get(unit)
        place = -1 if route is None else int(route.places[row, reference])
        return None if place < 0 else place

    def attended(self, row: int, reference: int) -> tuple[Anchors, int] | None:
        """Where a reference attends, by the first anchored decoder that was given it.

        Returns:
            The anchors of that decoder's last step, and the reference's place among them.
        """
        own = {UnitType.BOX: self.boxes, UnitType.MASK: self.masks}
        for unit, decoded in own.items():
            place = self.place(unit, row, reference)
            if decoded is not None and decoded.anchors and place is not None:
                return decoded.anchors[-1], place
        return None


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

    ``more`` is truth for further decoders, by unit type. ``extents`` say where on the canvas each
    row's image lies (x1 y1 x2 y2 in [0, 1]); None where images fill it.
    """

    boxes: Float[Tensor, "n 4"]
    asks_box: Bool[Tensor, " n"]
    has_box: Bool[Tensor, " n"]
    masks: Num[Tensor, "m mh mw"]
    mask_index: Int[Tensor, " m"]
    has_mask: Bool[Tensor, " n"]
    groups: Int[Tensor, "g most"]
    weights: Float[Tensor, " n"]
    more: Mapping[str, MoreTruth] = field(default_factory=dict)
    extents: Float[Tensor, "b 4"] | None = None

    def extents_of(self, rows: Int[Tensor, " n"]) -> Float[Tensor, "n 4"]:
        """Where the images of these rows lie."""
        if self.extents is None:
            return torch.tensor([0.0, 0.0, 1.0, 1.0], device=rows.device).expand(len(rows), 4)
        return self.extents[rows]


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
    order = match_truth(units, truth, weights)
    parts: dict[str, Tensor] = {}
    measures: dict[str, Tensor] = {}
    if units.boxes is not None:
        parts["box"], found_measures = box_losses(units, units.boxes, truth, order, weights)
        measures |= found_measures
    if units.masks is not None:
        parts["mask"], found_measures = mask_unit_losses(units, units.masks, truth, order, weights)
        measures |= found_measures
    for name, one in units.more.items():
        parts[name], found_measures = more_losses(name, one, truth.more.get(name), order)
        measures |= found_measures
    return parts, measures


def box_losses(
    units: DecodedUnits,
    decoded: BoxPredictions,
    truth: Truth,
    order: Int[Tensor, " n"],
    weights: dict[str, float],
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Score the references that the box decoder was given; ``order`` says whose truth each takes."""
    route = units.routes[UnitType.BOX]
    index, filled = route.index(units.references.filled), route.filled
    boxes, has_box = truth.boxes[order][index], truth.has_box[order][index]
    scale = truth.weights[index] * has_box
    coverage = cell_coverage(decoded.anchors, truth, order, index)
    steps = []
    for number, step in enumerate(decoded.steps):
        distance, overlap = losses.box_loss(step[filled], boxes)
        found = scale * reached(decoded.anchors[number : number + 1], filled, coverage)
        steps.append(weighted_mean(weights["l1"] * distance + weights["giou"] * overlap, found))
    loss = torch.stack(steps).mean()
    iou = losses.paired_iou(losses.to_corners(decoded.boxes[filled]), losses.to_corners(boxes))[0]
    iou = iou.detach()
    loss = loss + weights["quality"] * quality_loss(decoded.quality[filled], iou, scale)
    anchor = anchor_loss(decoded.anchors, filled, coverage, _placed(truth, order, index))
    measures = {"box_iou": weighted_mean(iou, scale), "box_anchor": anchor.detach()}
    measures["box_at_half"] = weighted_mean((iou >= 0.5).float(), scale)
    return loss + decoded.anchor_weight * anchor, measures


def mask_unit_losses(
    units: DecodedUnits,
    decoded: MaskPredictions,
    truth: Truth,
    order: Int[Tensor, " n"],
    weights: dict[str, float],
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Score the references that the mask decoder was given; ``order`` says whose truth each takes.

    Masks are scored at the resolution of the truth (see `losses.mask_losses`), and only those of
    references whose mask is known.
    """
    route = units.routes[UnitType.MASK]
    index, filled = route.index(units.references.filled), route.filled
    known = truth.has_mask[order][index]
    rows = filled.nonzero()[:, 0][known]
    targets = truth.masks[_places(truth.mask_index, len(order))[order][index][known]]
    scale = truth.weights[index][known]
    focal, dice, iou = losses.mask_losses(
        decoded.logits[filled][known], targets, truth.extents_of(rows)
    )
    coverage = cell_coverage(decoded.anchors, truth, order, index)
    found = scale * reached(decoded.anchors[-1:], filled, coverage)[known]
    loss = weighted_mean(weights["focal"] * focal + weights["dice"] * dice, found)
    quality = quality_loss(decoded.quality[filled][known], iou, scale)
    anchor = anchor_loss(decoded.anchors, filled, coverage, _placed(truth, order, index))
    loss = loss + weights["quality"] * quality + decoded.anchor_weight * anchor
    return loss, {"mask_iou": weighted_mean(iou, scale)}


def _placed(
    truth: Truth, order: Int[Tensor, " n"], index: Int[Tensor, " m"]
) -> Float[Tensor, " m"]:
    """Weights of the references whose place is known: whatever unit tells it, it is the same."""
    return (truth.weights * (truth.has_box | truth.has_mask)[order])[index]


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
    extents: Float[Tensor, "b 4"] | None = None,
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Score what cells propose for the things that they show.

    ``extents`` say where on the canvas each row's image lies (x1 y1 x2 y2 in [0, 1]); pixels
    around it take no part in the losses of masks.

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
    inside = None
    if extents is not None:
        inside = cells_of_images(extents, pixels.shape[-1])[rows].flatten(1)
    focal, dice = losses.focal_loss(logits, masks, inside), losses.dice_loss(logits, masks, inside)
    even = torch.ones_like(dice)
    loss = loss + weighted_mean(weights["focal"] * focal + weights["dice"] * dice, even)
    hard = (logits.detach() > 0).float()
    if inside is not None:
        hard = hard * inside
    shared = (hard * masks).sum(-1)
    union = (hard.sum(-1) + masks.sum(-1) - shared).clamp(min=1)
    iou = losses.paired_iou(
        losses.to_corners(proposals.boxes[shown].detach()), losses.to_corners(things.boxes[owner])
    )[0]
    expected = torch.zeros_like(proposals.objectness)
    expected[shown] = iou
    loss = loss + nn.functional.binary_cross_entropy_with_logits(proposals.objectness, expected)
    measures = {
        "proposed_box_iou": weighted_mean(iou, scale),
        "proposed_mask_iou": weighted_mean(shared / union, even),
    }
    return loss, measures


def cell_coverage(
    anchors: tuple[Anchors, ...],
    truth: Truth,
    order: Int[Tensor, " n"],
    index: Int[Tensor, " m"],
) -> Float[Tensor, "m cells"] | None:
    """Where anchors should attend: the share of each cell that the mask, or else the box, covers.

    ``order`` says whose truth each reference takes; the shares are those of the references
    ``index``. None where nothing is anchored, or there are no references.
    """
    if not anchors or not len(index):
        return None
    grid = round(anchors[0].logits.shape[-1] ** 0.5)
    coverage = covered_cells(truth.boxes, grid)
    known = truth.has_mask[truth.mask_index]
    shares = nn.functional.adaptive_avg_pool2d(truth.masks[known][:, None].float(), grid)
    coverage[truth.mask_index[known]] = shares.flatten(1)
    coverage = coverage[order][index]
    return coverage / coverage.sum(1, keepdim=True).clamp(min=1e-9)


@torch.no_grad()
def match_truth(units: DecodedUnits, truth: Truth, weights: dict[str, float]) -> Int[Tensor, " n"]:
    """The truth that each reference takes: a permutation inside each group.

    A pair costs what the decoders that were given its group would lose (REF-VLM IV-C): boxes
    ``l1`` · L1 + ``giou`` · (1 - GIoU), masks ``focal`` · focal + ``dice`` · dice. What is not
    known of a truth costs nothing.
    """
    order = torch.arange(len(truth.boxes), device=truth.boxes.device)
    sizes = (truth.groups >= 0).sum(1)
    several = truth.groups[sizes > 1]
    if not len(several):
        return order
    cost = torch.zeros(len(several), several.shape[1], several.shape[1], device=order.device)
    for unit, decoded in ((UnitType.BOX, units.boxes), (UnitType.MASK, units.masks)):
        if decoded is None:
            continue
        route = units.routes[unit]
        index = route.index(units.references.filled)
        given = _places(index, len(order))[several].masked_fill(several < 0, -1)
        # a group shares its unit types, so a decoder has all of it or nothing
        here = (given >= 0).any(1)
        groups, places = several[here], given[here].clamp(min=0)
        if not len(groups):
            continue
        match decoded:
            case BoxPredictions():
                predicted = decoded.boxes[route.filled][places]
                cost[here] += _box_costs(predicted, truth, groups.clamp(min=0), weights)
            case MaskPredictions():
                rows = route.filled.nonzero()[:, 0][places[:, 0]]
                logits = decoded.logits[route.filled]
                cost[here] += _mask_costs(logits, places, truth, groups, rows, weights)
        # two references may start from one cell: where they attend still tells them apart
        coverage = cell_coverage(decoded.anchors, truth, order, index)
        if coverage is not None:
            attention = decoded.anchors[-1].logits[route.filled].log_softmax(-1)
            cost[here] -= attention[places] @ coverage[places].transpose(1, 2)
    for name, one in units.more.items():
        known = truth.more.get(name)
        if known is None:
            continue
        own = _places(known.index, len(order))[several].masked_fill(several < 0, -1)
        here = (own >= 0).any(1)
        cost[here] += one.decoder.costs(one.decoded, known.truth, one.filled, own[here])
    taken = assign_groups(cost, (several >= 0).sum(1).cpu().numpy())
    return reorder_groups(several, taken, len(order))


def _box_costs(
    predicted: Float[Tensor, "g most 4"],
    truth: Truth,
    members: Int[Tensor, "g most"],
    weights: dict[str, float],
) -> Float[Tensor, "g most most"]:
    pair = pairwise_box_cost(
        predicted, truth.boxes[members], l1=weights["l1"], giou=weights["giou"]
    )
    return pair * truth.has_box[members][:, None]


def _mask_costs(
    logits: Float[Tensor, "some h w"],
    places: Int[Tensor, "g most"],
    truth: Truth,
    groups: Int[Tensor, "g most"],
    rows: Int[Tensor, " g"],
    weights: dict[str, float],
) -> Float[Tensor, "g most most"]:
    """Costs at the resolution of the logits, to which truth is brought as shares of cells.

    Few groups at a time: each member has a map of its own.
    """
    size = (logits.shape[-2], logits.shape[-1])
    slots = _places(truth.mask_index, len(truth.boxes))[groups].masked_fill(groups < 0, -1)
    known = (slots >= 0) & truth.has_mask[groups.clamp(min=0)]
    costs = logits.new_zeros(*places.shape, places.shape[1])
    if not len(truth.masks):
        return costs
    at_once = max(1, _PIXELS_AT_ONCE // (places.shape[1] * size[0] * size[1]))
    for start in range(0, len(places), at_once):
        some = slice(start, start + at_once)
        target = truth.masks[slots[some].clamp(min=0)].float()
        if tuple(target.shape[-2:]) != size:
            target = nn.functional.adaptive_avg_pool2d(target, size)
        inside = cells_of_images(truth.extents_of(rows[some]), size[-1])
        pair = pairwise_mask_cost(
            logits[places[some]].flatten(2),
            target.flatten(2),
            inside.flatten(1),
            focal=weights["focal"],
            dice=weights["dice"],
        )
        costs[some] = pair * known[some][:, None]
    return costs


_PIXELS_AT_ONCE = 2**24
"""The most numbers in one table of logits while masks are matched."""

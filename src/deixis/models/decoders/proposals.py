"""Proposals: the box and mask that each cell predicts for the instance it shows."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from deixis.batch import Instances
from deixis.models.decoders.layers import MultiLayerPerceptron
from deixis.models.losses.boxes import box_loss, paired_iou, to_corners
from deixis.models.losses.masks import dice_loss, focal_loss
from deixis.models.losses.scoring import weighted_mean
from deixis.models.positions import cell_centres, cells_of_images

BELL_STEEPNESS = 4.0


@dataclass(frozen=True, slots=True)
class Proposals:
    """A box (cxcywh in [0, 1] of the canvas) and a mask embedding for each cell.

    The last number of an embedding is its bias. ``objectness`` is the logit of the expected IoU of
    the box with the instance that the cell shows; it is low if the cell shows no instance, and the
    box and mask are then undefined. ``overlaps`` are the IoUs of all pairs of boxes.
    """

    boxes: Float[Tensor, "b cells 4"]
    embeddings: Float[Tensor, "b cells _p"]
    objectness: Float[Tensor, "b cells"]
    overlaps: Float[Tensor, "b cells cells"]

    @classmethod
    def make(
        cls,
        boxes: Float[Tensor, "b cells 4"],
        embeddings: Float[Tensor, "b cells _p"],
        objectness: Float[Tensor, "b cells"],
    ) -> "Proposals":
        """Return proposals with the IoUs of all pairs of boxes."""
        corners = to_corners(boxes.detach())
        low = torch.maximum(corners[:, :, None, :2], corners[:, None, :, :2])
        high = torch.minimum(corners[:, :, None, 2:], corners[:, None, :, 2:])
        shared = (high - low).clamp_(min=0).prod(-1)
        areas = (corners[..., 2:] - corners[..., :2]).clamp(min=0).prod(-1)
        union = areas[:, :, None] + areas[:, None] - shared
        return cls(boxes, embeddings, objectness, shared / union.clamp_(min=1e-9))

    @torch.no_grad()
    def elect(
        self, logits: Float[Tensor, "b q cells"]
    ) -> tuple[Int[Tensor, "b q"], Float[Tensor, "b q"]]:
        """Elect the cell with the most votes for each reference.

        A cell's votes are the attention of all cells, each weighted by the IoU of its box with the
        cell's box. An instance with many cells therefore wins against one cell of another instance.

        Returns:
            The elected cells and their votes.
        """
        weights = logits.float().softmax(-1)
        votes = weights @ self.overlaps
        most, elected = votes.max(-1)
        return elected, most

    @torch.no_grad()
    def objects(self, count: int, *, overlap: float = 0.6) -> Int[Tensor, "b count"]:
        """Return the cells of the ``count`` most likely instances, from left to right.

        Cells are chosen greedily by objectness; boxes that overlap a chosen one with an IoU above
        ``overlap`` count as the same instance. If an image has fewer instances, the remaining cells
        show none and have a low objectness.
        """
        left = self.objectness.float().clone()
        chosen = []
        for _ in range(count):
            best = left.argmax(-1)
            chosen.append(best)
            same = self.overlaps.gather(1, best[:, None, None].expand(-1, 1, left.shape[1]))[:, 0]
            left = left.masked_fill(same > overlap, -1e4)
            left.scatter_(1, best[:, None], -1e5)
        cells = torch.stack(chosen, dim=1)
        places = self.boxes[..., 0].gather(1, cells)
        return cells.gather(1, places.argsort(dim=1, stable=True))

    def at(
        self, cells: Int[Tensor, "b q"]
    ) -> tuple[Float[Tensor, "b q 4"], Float[Tensor, "b q _p"]]:
        """Return the boxes and embeddings of the chosen cells."""
        boxes = self.boxes.gather(1, cells[..., None].expand(-1, -1, 4))
        width = self.embeddings.shape[-1]
        return boxes, self.embeddings.gather(1, cells[..., None].expand(-1, -1, width))


class ProposalHead(nn.Module):
    """Learn boxes and masks from all annotated instances, whether a question mentions them or not.

    References then only have to choose a cell (see `Anchor`), which takes far fewer questions to
    learn than boxes and masks. FCOS and CondInst learn boxes and masks in the same way.
    """

    def __init__(self, cell_width: int, pixel_width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(cell_width)
        self.box = MultiLayerPerceptron(cell_width, 4)
        self.embedding = MultiLayerPerceptron(cell_width, pixel_width + 1)
        self.objectness = MultiLayerPerceptron(cell_width, 1, layers=2)

    def forward(self, cells: Float[Tensor, "b d h w"]) -> Proposals:
        """Propose a box and a mask embedding for each cell."""
        states = self.norm(cells.flatten(2).transpose(1, 2))
        numbers = self.box(states).float()
        centres = cell_centres(cells.shape[-1], device=cells.device) + numbers[..., :2]
        boxes = torch.cat([centres, numbers[..., 2:].sub(1.5).sigmoid()], dim=-1)
        objectness = self.objectness(states).squeeze(-1).float()
        return Proposals.make(boxes, self.embedding(states), objectness)


def outside_penalty(boxes: Float[Tensor, "*n 4"], grid: int) -> Float[Tensor, "*n grid grid"]:
    """Return what to subtract from mask logits: 0 inside a box (cxcywh), up to 30 far outside."""
    ticks = (torch.arange(grid, device=boxes.device) + 0.5) / grid
    half = (boxes[..., 2:] / 2).clamp(min=1 / grid)
    over_x = functional.relu((ticks - boxes[..., 0:1]).abs() / half[..., 0:1] - 1)
    over_y = functional.relu((ticks - boxes[..., 1:2]).abs() / half[..., 1:2] - 1)
    far = (over_x.square()[..., None, :] + over_y.square()[..., :, None]) * BELL_STEEPNESS**2
    return far.clamp(max=30.0)


def mask_logits(
    embeddings: Float[Tensor, "b q _p"],
    pixels: Float[Tensor, "b p h w"],
    boxes: Float[Tensor, "b q 4"] | None = None,
) -> Float[Tensor, "b q h w"]:
    """Multiply embeddings (the last number is a bias) and pixels; lower logits outside ``boxes``."""
    flat = embeddings[..., :-1] @ pixels.flatten(2)
    logits = (flat.float() + embeddings[..., -1:].float()).unflatten(2, pixels.shape[-2:])
    return logits if boxes is None else logits - outside_penalty(boxes, logits.shape[-1])


def proposal_losses(
    proposals: Proposals,
    pixels: Float[Tensor, "b p h w"],
    instances: Instances,
    weights: Mapping[str, float],
    extents: Float[Tensor, "b 4"] | None = None,
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Compute the losses of proposals for the instances that cells show.

    ``extents`` are the boxes of the images on the canvas (x1 y1 x2 y2 in [0, 1]); pixels outside
    take no part in the losses of masks.

    Every cell of an instance learns its box; one cell, at a position that varies between instances,
    learns its mask. An instance is weighted by the square root of its number of cells.
    """
    shown = instances.cells >= 0
    owner = instances.cells[shown]
    counts = torch.bincount(owner, minlength=len(instances.boxes))
    scale = counts[owner].float().rsqrt()
    distance, overlap = box_loss(proposals.boxes[shown], instances.boxes[owner])
    loss = weighted_mean(weights["l1"] * distance + weights["giou"] * overlap, scale)
    # cells sorted by instance
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
    masks = instances.masks[visible].float().flatten(1)
    inside = None
    if extents is not None:
        inside = cells_of_images(extents, pixels.shape[-1])[rows].flatten(1)
    focal, dice = focal_loss(logits, masks, inside), dice_loss(logits, masks, inside)
    even = torch.ones_like(dice)
    loss = loss + weighted_mean(weights["focal"] * focal + weights["dice"] * dice, even)
    hard = (logits.detach() > 0).float()
    if inside is not None:
        hard = hard * inside
    shared = (hard * masks).sum(-1)
    union = (hard.sum(-1) + masks.sum(-1) - shared).clamp(min=1)
    iou = paired_iou(
        to_corners(proposals.boxes[shown].detach()), to_corners(instances.boxes[owner])
    )[0]
    expected = torch.zeros_like(proposals.objectness)
    expected[shown] = iou
    loss = loss + functional.binary_cross_entropy_with_logits(proposals.objectness, expected)
    measures = {
        "proposed_box_iou": weighted_mean(iou, scale),
        "proposed_mask_iou": weighted_mean(shared / union, even),
    }
    return loss, measures

"""Regions that questions point with, and what is known of them."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deixis.structures import RegionType


@dataclass(frozen=True, slots=True)
class Regions:
    """Regions that questions point with, in the order of their placeholders in the text.

    ``rows`` says whose image each lies on, ``types`` how it was given (`RegionType.number`).
    ``masks`` are the shares of cells that they cover, over the canvas at the resolution of the
    pixel features; ``boxes`` are x1 y1 x2 y2 in [0, 1] of the canvas. A region in words has neither
    mask nor box, and tokens of the text encoder where ``text_mask`` says so; drawn regions have no
    text. Padding may be on either side.
    """

    rows: Int[Tensor, " r"]
    types: Int[Tensor, " r"]
    masks: Float[Tensor, "r rh rw"]
    boxes: Float[Tensor, "r 4"]
    text_ids: Int[Tensor, "r words"]
    text_mask: Bool[Tensor, "r words"]

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, index: Int[Tensor, " n"]) -> "Regions":
        """Keep regions by their places."""
        return Regions(*(getattr(self, field.name)[index] for field in fields(self)))

    def to(self, device: torch.device | str) -> "Regions":
        """Move every tensor."""
        return Regions(*(getattr(self, field.name).to(device) for field in fields(self)))

    @classmethod
    def drawn(
        cls,
        masks: Float[Tensor, "r rh rw"],
        rows: Int[Tensor, " r"],
        *,
        types: Int[Tensor, " r"] | None = None,
        boxes: Float[Tensor, "r 4"] | None = None,
    ) -> "Regions":
        """Make regions of masks; without ``types`` all are masks, without ``boxes`` the masks' own."""
        count, device = len(masks), masks.device
        if types is None:
            types = torch.full((count,), RegionType.MASK.number, device=device)
        return cls(
            rows=rows,
            types=types,
            masks=masks,
            boxes=mask_boxes(masks) if boxes is None else boxes,
            text_ids=torch.zeros(count, 0, dtype=torch.long, device=device),
            text_mask=torch.zeros(count, 0, dtype=torch.bool, device=device),
        )


@dataclass(frozen=True, slots=True)
class RegionTruth:
    """What is known of a batch's regions, for aligning a region encoder by itself.

    A region that was drawn is described by what was answered about it, one in words by itself; a
    region without a description has an empty one. Its box is its own, or the first of the answer
    (x1 y1 x2 y2 in [0, 1] of the canvas) where there is one and it is ``known``.
    """

    boxes: Float[Tensor, "r 4"]
    known: Bool[Tensor, " r"]
    description_ids: Int[Tensor, "r words"]
    description_mask: Bool[Tensor, "r words"]


def mask_boxes(masks: Float[Tensor, "r mh mw"]) -> Float[Tensor, "r 4"]:
    """Boxes around masks, x1 y1 x2 y2 as fractions of the canvas; an empty mask has all zeros."""
    sides = []
    for covered in ((masks > 0).any(1), (masks > 0).any(2)):
        length = covered.shape[1]
        found = covered.any(1)
        first = covered.int().argmax(1)
        last = length - covered.flip(1).int().argmax(1)
        sides.append(torch.stack([first, last * found], dim=1).float() / max(length, 1))
    across, down = sides
    return torch.stack([across[:, 0], down[:, 0], across[:, 1], down[:, 1]], dim=1)

"""Regions of questions, and their truth for aligning a region encoder."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deixis.structures import RegionType


@dataclass(frozen=True, slots=True)
class Regions:
    """Regions of questions, in the order of their placeholders in the text.

    ``rows`` is the row of each region, ``types`` its type (`RegionType.number`). ``masks`` are the
    covered shares of the cells of the canvas, at the resolution of the pixel features; ``boxes``
    are x1 y1 x2 y2 in [0, 1] of the canvas. A description has neither mask nor box; ``text_ids``
    are its tokens for the text encoder, where ``text_mask`` is true, with padding on either side.
    Drawn regions have no text.
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
        """Return the regions at ``index``."""
        return Regions(*(getattr(self, field.name)[index] for field in fields(self)))

    def to(self, device: torch.device | str) -> "Regions":
        """Return the regions with every tensor on ``device``."""
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
        """Build drawn regions; ``types`` are masks and ``boxes`` enclose the masks by default."""
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
    """Truth about a batch's regions, for aligning a region encoder.

    The description of a drawn region is the answer about it; that of a region given in words is
    these words. It may be empty. The box (x1 y1 x2 y2 in [0, 1] of the canvas) is that of a drawn
    region or, for a region in words, the first box of the answer; it is ``known`` if there is one.
    """

    boxes: Float[Tensor, "r 4"]
    known: Bool[Tensor, " r"]
    description_ids: Int[Tensor, "r words"]
    description_mask: Bool[Tensor, "r words"]


def mask_boxes(masks: Float[Tensor, "r mh mw"]) -> Float[Tensor, "r 4"]:
    """Return the boxes of masks, x1 y1 x2 y2 in [0, 1] of the canvas; zeros for an empty mask."""
    sides = []
    for covered in ((masks > 0).any(1), (masks > 0).any(2)):
        length = covered.shape[1]
        found = covered.any(1)
        first = covered.int().argmax(1)
        last = length - covered.flip(1).int().argmax(1)
        sides.append(torch.stack([first, last * found], dim=1).float() / max(length, 1))
    across, down = sides
    return torch.stack([across[:, 0], down[:, 0], across[:, 1], down[:, 1]], dim=1)

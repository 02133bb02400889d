"""What region encoders read, and what they give."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deixis.errors import ModelError
from deixis.structures import RegionType


@dataclass(frozen=True, slots=True)
class RegionInputs:
    """Regions of a batch, in the order of their placeholders in the text.

    ``rows`` says whose image each lies on, ``types`` how it was given (`RegionType.number`).
    ``masks`` lie over the canvas; ``boxes`` are x1 y1 x2 y2 as fractions of the canvas. A region in
    words has tokens of the text encoder where ``text_mask`` says so, and neither mask nor box;
    drawn regions have no text. Padding may be on either side.
    """

    rows: Int[Tensor, " r"]
    types: Int[Tensor, " r"]
    masks: Float[Tensor, "r mh mw"]
    boxes: Float[Tensor, "r 4"]
    text_ids: Int[Tensor, "r t"]
    text_mask: Bool[Tensor, "r t"]

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, index: Int[Tensor, " n"]) -> "RegionInputs":
        """Keep regions by their places."""
        return RegionInputs(*(getattr(self, field.name)[index] for field in fields(self)))

    def to(self, device: torch.device | str) -> "RegionInputs":
        """Move every tensor."""
        return RegionInputs(*(getattr(self, field.name).to(device) for field in fields(self)))

    @classmethod
    def drawn(
        cls,
        masks: Float[Tensor, "r mh mw"],
        rows: Int[Tensor, " r"],
        *,
        types: Int[Tensor, " r"] | None = None,
        boxes: Float[Tensor, "r 4"] | None = None,
    ) -> "RegionInputs":
        """Make inputs of masks; without ``types`` all are masks, without ``boxes`` the masks' own."""
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
class RegionContext:
    """What is known of the images that regions lie on.

    ``cells`` is the map that decoders attend to; ``tokens`` are the vision encoder's, row by row
    from the top left, before any projector; ``project`` is the model's projector of them, for
    regions that share it.
    """

    cells: Float[Tensor, "b c h w"]
    tokens: Float[Tensor, "b p v"]
    project: Callable[[Tensor], Tensor] | None = None

    def token_map(self) -> Float[Tensor, "b v side side"]:
        """The vision encoder's tokens where they lie on the canvas.

        Raises:
            ModelError: They are not a square of them.
        """
        side = round(self.tokens.shape[1] ** 0.5)
        if side**2 != self.tokens.shape[1]:
            raise ModelError(f"{self.tokens.shape[1]} vision tokens: expected a square of them")
        return self.tokens.transpose(1, 2).unflatten(2, (side, side))


@dataclass(frozen=True, slots=True)
class RegionTokens:
    """Vectors for the `<region>` placeholders of a batch, in their order.

    ``counts`` says how many of them each region has; a region that the text spells out has none.
    """

    vectors: Float[Tensor, "n d"]
    counts: Int[Tensor, " r"]


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

"""Inputs of region encoders besides the regions, and their output."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from deixis.errors import ModelError


@dataclass(frozen=True, slots=True)
class RegionContext:
    """Features of the images of a batch.

    ``cells`` is the map that decoders attend to. ``tokens`` are the vision encoder's, in row-major
    order, before any projector. ``project`` is the projector of image tokens, for region encoders
    that share it.
    """

    cells: Float[Tensor, "b c h w"]
    tokens: Float[Tensor, "b p v"]
    project: Callable[[Tensor], Tensor] | None = None

    def token_map(self) -> Float[Tensor, "b v side side"]:
        """The vision encoder's tokens as a map over the canvas.

        Raises:
            ModelError: Their number is not a square.
        """
        side = round(self.tokens.shape[1] ** 0.5)
        if side**2 != self.tokens.shape[1]:
            raise ModelError(f"{self.tokens.shape[1]} vision tokens: expected a square number")
        return self.tokens.transpose(1, 2).unflatten(2, (side, side))


@dataclass(frozen=True, slots=True)
class RegionTokens:
    """Vectors for the `<region>` placeholders of a batch, in order.

    ``counts`` is the number of placeholders of each region; 0 for one that the text spells out.
    """

    vectors: Float[Tensor, "n d"]
    counts: Int[Tensor, " r"]

"""What region encoders look at beside the regions, and what they give."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from deixis.errors import ModelError


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

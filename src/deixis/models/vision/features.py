"""What a vision encoder gives to the rest of the model."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class VisionFeatures:
    """Features of a batch of square canvases.

    ``tokens`` go through the projector into the language model, row by row from the top left.
    ``pyramid`` holds feature maps from fine to coarse for the unit decoders. ``deep`` is what some
    language models add to the image tokens after their first layers, a layer each (DeepStack,
    https://arxiv.org/abs/2406.04334).
    """

    tokens: Float[Tensor, "batch tokens width"]
    pyramid: tuple[Float[Tensor, "batch _c _h _w"], ...]
    deep: tuple[Float[Tensor, "batch tokens width"], ...] = ()

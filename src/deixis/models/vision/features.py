"""What a vision encoder gives to the rest of the model."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class VisionFeatures:
    """Features of a batch of square canvases.

    ``tokens`` go through the projector into the language model, row by row from the top left.
    ``pyramid`` holds feature maps from fine to coarse for the unit decoders.
    """

    tokens: Float[Tensor, "batch tokens width"]
    pyramid: tuple[Float[Tensor, "batch _c _h _w"], ...]

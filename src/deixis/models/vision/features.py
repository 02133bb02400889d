"""The output of a vision encoder."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class VisionFeatures:
    """Features of a batch of square canvases.

    ``tokens`` are the input of the projector to the language model, in row-major order. ``pyramid``
    holds feature maps from fine to coarse for the unit decoders. ``deep`` holds features that some
    language models add to the image tokens after their first layers, one entry per layer
    (DeepStack, https://arxiv.org/abs/2406.04334).
    """

    tokens: Float[Tensor, "batch tokens width"]
    pyramid: tuple[Float[Tensor, "batch _c _h _w"], ...]
    deep: tuple[Float[Tensor, "batch tokens width"], ...] = ()

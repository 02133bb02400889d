"""Normalisation of pixels for pretrained encoders."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Mean and standard deviation of red, green and blue for pixels in [0, 1].

    Canvases have values in [-1, 1] throughout deixis. Only the encoder with these constants applies
    them, so that they are applied exactly once.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def fill(self) -> tuple[int, int, int]:
        """The 8-bit colour nearest to the mean, for the padding."""
        red, green, blue = (round(255 * value) for value in self.mean)
        return red, green, blue

    def from_unit(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Normalise pixels in [0, 1]."""
        return (pixels - self._column(self.mean, pixels)) / self._column(self.std, pixels)

    def from_signed(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Normalise pixels in [-1, 1]."""
        return self.from_unit(pixels * 0.5 + 0.5)

    @staticmethod
    def _column(values: tuple[float, float, float], like: Tensor) -> Float[Tensor, "1 3 1 1"]:
        return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, 3, 1, 1)


CLIP = Normalisation((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""Normalisation of CLIP, EVA-CLIP and OpenCLIP."""

IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Normalisation of ConvNeXt and DINO."""

SIGNED = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Normalisation of SigLIP, ViT and the small encoder: pixels in [-1, 1]."""

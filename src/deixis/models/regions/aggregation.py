"""Mask-guided aggregation of REF-VLM (III-C, equations 1 to 3)."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from deixis.errors import ModelError


class MaskGuidedAggregation(nn.Module):
    """Pool visual features under a mask, block by block of a √N x √N grid; no parameters.

    V[q, n] sums X · M[q] over the pixels of block n and divides by the total area of M[q]
    (equation 1, masks normalised), and cos(n / s^(2c/C)) tells the blocks apart (equations 2
    and 3, whose alpha is ``strength``). A region too small for the feature map keeps the one cell that
    its largest share falls in, so none vanishes.

    Raises:
        ModelError: ``num_tokens`` is not a square number.
    """

    def __init__(self, num_tokens: int, *, strength: float = 1.0, base: float = 10_000.0) -> None:
        super().__init__()
        self.side = math.isqrt(num_tokens)
        if self.side**2 != num_tokens:
            raise ModelError(f"region tokens: expected a square number, got {num_tokens}")
        self.num_tokens = num_tokens
        self.strength = strength
        self.base = base

    def forward(
        self,
        features: Float[Tensor, "b c h w"],
        masks: Float[Tensor, "q mh mw"],
        rows: Int[Tensor, " q"],
    ) -> Float[Tensor, "q n c"]:
        """Give ``num_tokens`` vectors for each mask; ``rows`` says whose image it lies on."""
        height, width = features.shape[-2:]
        channels = features.shape[1]
        share = functional.adaptive_avg_pool2d(masks.unsqueeze(1).float(), (height, width))
        flat = share.flatten(1)
        inside = (flat >= 0.5).float()
        largest = functional.one_hot(flat.argmax(1), flat.shape[1]).float()
        # cells at least half covered; where there is none, the best covered one
        weights = torch.where(inside.any(1, keepdim=True), inside, largest)
        weights = weights.view(-1, 1, height, width)
        weights = weights / weights.sum((2, 3), keepdim=True)
        pad = (-height % self.side, -width % self.side)
        weighted = functional.pad(features[rows] * weights, (0, pad[1], 0, pad[0]))
        blocks = weighted.unflatten(3, (self.side, -1)).unflatten(2, (self.side, -1))
        pooled = blocks.sum((3, 5)).flatten(2).transpose(1, 2)
        return pooled + self.strength * self._positions(channels, features.device)

    def _positions(self, channels: int, device: torch.device) -> Float[Tensor, "n c"]:
        order = torch.arange(self.num_tokens, device=device)[:, None]
        rate = self.base ** (2 * torch.arange(channels, device=device) / channels)
        return torch.cos(order / rate)

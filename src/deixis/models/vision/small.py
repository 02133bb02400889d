"""The small encoder that trains from scratch: convolutions, then self-attention.

Convolutions learn a useful representation from far fewer images than a plain ViT, which matters for
a model that trains in an hour on two cores.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from deixis.models.positions import sine_positions
from deixis.models.vision.features import VisionFeatures


@dataclass(frozen=True, slots=True)
class SmallVisionConfig:
    """Shape of a `SmallVisionEncoder`.

    ``widths`` are the channels at strides 2, 4, 8 and 16; ``blocks`` the residual blocks at
    strides 4 and 8; ``layers`` the self-attention layers at stride 16.
    """

    image_size: int = 128
    widths: tuple[int, int, int, int] = (32, 64, 128, 256)
    blocks: tuple[int, int] = (2, 2)
    layers: int = 3
    heads: int = 8

    @property
    def grid(self) -> int:
        """Tokens per side."""
        return self.image_size // 16


class ChannelNorm(nn.Module):
    """Normalise each pixel over its channels, without statistics across pixels or images."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalise."""
        return self.norm(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with one normalisation and a residual connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Apply the block."""
        return maps + self.second(functional.gelu(self.first(self.norm(maps))))


class AttentionLayer(nn.Module):
    """Pre-norm self-attention and MLP over a sequence."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 3 * width)
        self.down = nn.Linear(3 * width, width)

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Apply the layer."""
        batch, count, width = tokens.shape
        qkv = self.qkv(self.attention_norm(tokens)).view(batch, count, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.out(mixed.transpose(1, 2).reshape(batch, count, width))
        return tokens + self.down(functional.gelu(self.up(self.mlp_norm(tokens))))


class SmallVisionEncoder(nn.Module):
    """Encode canvases into tokens at stride 16 and a pyramid at strides 2, 4, 8 and 16."""

    def __init__(self, config: SmallVisionConfig) -> None:
        super().__init__()
        self.config = config
        half, quarter, eighth, sixteenth = config.widths
        self.stem = nn.Conv2d(3, half, 3, stride=2, padding=1)
        self.to_quarter = nn.Conv2d(half, quarter, 3, stride=2, padding=1)
        self.quarter = nn.Sequential(*(ResidualBlock(quarter) for _ in range(config.blocks[0])))
        self.to_eighth = nn.Conv2d(quarter, eighth, 3, stride=2, padding=1)
        self.eighth = nn.Sequential(*(ResidualBlock(eighth) for _ in range(config.blocks[1])))
        self.to_sixteenth = nn.Conv2d(eighth, sixteenth, 3, stride=2, padding=1)
        self.norms = nn.ModuleList(ChannelNorm(width) for width in config.widths[:3])
        self.layers = nn.ModuleList(
            AttentionLayer(sixteenth, config.heads) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(sixteenth)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the pyramid, fine to coarse."""
        return self.config.widths

    @property
    def num_tokens(self) -> int:
        """Number of tokens per image."""
        return self.config.grid**2

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> VisionFeatures:
        """Encode canvases of ``image_size``; ``pixels`` lie in [-1, 1], in any precision."""
        pixels = pixels.to(self.stem.weight.dtype, memory_format=torch.channels_last)
        half = functional.gelu(self.norms[0](self.stem(pixels)))
        quarter = self.quarter(functional.gelu(self.norms[1](self.to_quarter(half))))
        eighth = self.eighth(functional.gelu(self.norms[2](self.to_eighth(quarter))))
        coarse = self.to_sixteenth(eighth)
        grid = coarse.shape[-1]
        tokens = coarse.flatten(2).transpose(1, 2)
        tokens = tokens + sine_positions(
            grid, tokens.shape[-1], device=tokens.device, dtype=tokens.dtype
        )
        for layer in self.layers:
            tokens = layer(tokens)
        tokens = self.norm(tokens)
        coarse = tokens.transpose(1, 2).unflatten(2, (grid, grid))
        return VisionFeatures(tokens, (half, quarter, eighth, coarse))

"""MaskFormer's pixel decoder: a feature pyramid merged from coarse to fine."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from deixis.models.vision.small import ChannelNorm


@dataclass(frozen=True, slots=True)
class PixelFeatures:
    """``cells``: the map that references attend to; ``pixels``: the map for computing masks."""

    cells: Float[Tensor, "b d h w"]
    pixels: Float[Tensor, "b p ph pw"]


class PixelDecoder(nn.Module):
    """Merge a pyramid (fine to coarse) top down.

    ``cell_level`` and ``pixel_level`` index the pyramid's levels for the cells, with ``cell_width``
    channels, and for the pixels, with ``pixel_width`` channels.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        cell_level: int,
        pixel_level: int,
        cell_width: int,
        pixel_width: int,
    ) -> None:
        super().__init__()
        self.cell_level = cell_level
        self.pixel_level = pixel_level
        # levels finer than the cells only add detail, for which fewer channels are enough
        channels = [
            cell_width
            if level >= cell_level
            else max(cell_width >> (cell_level - level), pixel_width)
            for level in range(len(widths))
        ]
        channels[pixel_level] = pixel_width if pixel_level < cell_level else channels[pixel_level]
        levels = range(pixel_level, len(widths))
        self.laterals = nn.ModuleDict(
            {str(i): nn.Conv2d(widths[i], channels[i], 1) for i in levels}
        )
        self.reduce = nn.ModuleDict(
            {
                str(i): nn.Conv2d(channels[i + 1], channels[i], 1)
                for i in levels
                if i + 1 < len(widths)
            }
        )
        self.smooth = nn.ModuleDict(
            {str(i): nn.Conv2d(channels[i], channels[i], 3, padding=1) for i in levels}
        )
        self.norms = nn.ModuleDict({str(i): ChannelNorm(channels[i]) for i in levels})
        self.to_pixels = (
            nn.Conv2d(channels[pixel_level], pixel_width, 1)
            if channels[pixel_level] != pixel_width
            else nn.Identity()
        )
        self.top = len(widths) - 1

    def forward(self, pyramid: Sequence[Float[Tensor, "b _c _h _w"]]) -> PixelFeatures:
        """Merge a pyramid given from fine to coarse."""
        merged = self._refined(self.top, self.laterals[str(self.top)](pyramid[self.top]))
        cells = merged
        for level in range(self.top - 1, self.pixel_level - 1, -1):
            lateral = self.laterals[str(level)](pyramid[level])
            coarse = functional.interpolate(
                self.reduce[str(level)](merged), size=lateral.shape[-2:], mode="nearest"
            )
            merged = self._refined(level, lateral + coarse)
            if level == self.cell_level:
                cells = merged
        return PixelFeatures(cells, self.to_pixels(merged))

    def _refined(self, level: int, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        key = str(level)
        return maps + functional.gelu(self.smooth[key](self.norms[key](maps)))

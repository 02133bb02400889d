"""MaskFormer's published pixel decoder: a feature pyramid network.

MaskFormer 3.3, "pixel-level module"; REF-VLM's mask decoder (IV-C) uses it unchanged with 256
channels. Parameters have the names of transformers' ``MaskFormerPixelDecoder``, so its weights load.
`PixelDecoder` returns the same two maps for a fraction of the computation.
"""

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from deixis.errors import ModelError
from deixis.models.decoders.pixel import PixelFeatures


class _Merge(nn.Module):
    """Add a finer map to the merged map and smooth the sum."""

    def __init__(self, width: int, lateral_width: int, groups: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.Conv2d(lateral_width, width, 1, bias=False), nn.GroupNorm(groups, width)
        )
        self.block = _smooth(width, width, groups)

    def forward(
        self, merged: Float[Tensor, "b c _h _w"], lateral: Float[Tensor, "b l h w"]
    ) -> Float[Tensor, "b c h w"]:
        lateral = self.proj(lateral)
        coarse = functional.interpolate(merged, size=lateral.shape[-2:], mode="nearest")
        return self.block(coarse + lateral)


def _smooth(channels: int, width: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.GroupNorm(groups, width), nn.ReLU()
    )


class _Pyramid(nn.Module):
    def __init__(self, widths: Sequence[int], width: int, groups: int) -> None:
        super().__init__()
        self.stem = _smooth(widths[-1], width, groups)
        self.layers = nn.ModuleList(_Merge(width, each, groups) for each in widths[-2::-1])

    def forward(
        self, pyramid: Sequence[Float[Tensor, "b _c _h _w"]]
    ) -> list[Float[Tensor, "b c _h _w"]]:
        """Merge from the coarsest map; return the merged maps from fine to coarse."""
        merged = [self.stem(pyramid[-1])]
        for layer, lateral in zip(self.layers, pyramid[-2::-1], strict=True):
            merged.append(layer(merged[-1], lateral))
        return merged[::-1]


class MaskFormerPixelDecoder(nn.Module):
    """Merge a pyramid (fine to coarse) top down; the arguments are those of `PixelDecoder`.

    With ``cells_from`` ``backbone``, references attend to the pyramid's map at ``cell_level``, as
    in MaskFormer and REF-VLM's public code, which use the coarsest; with ``merged``, to the merged
    map of that level. Group normalisation is computed per image.

    Raises:
        ModelError: The cells are finer than the pixels, or the groups do not divide the width.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        cell_level: int,
        pixel_level: int,
        cell_width: int,
        pixel_width: int,
        width: int = 256,
        groups: int = 32,
        cells_from: Literal["backbone", "merged"] = "backbone",
    ) -> None:
        super().__init__()
        if not 0 <= pixel_level <= cell_level < len(widths):
            raise ModelError(
                f"pixel decoder: expected pixel level <= cell level < {len(widths)}, "
                f"got {pixel_level} and {cell_level}"
            )
        if width % groups:
            raise ModelError(f"pixel decoder: {groups} groups do not divide a width of {width}")
        self.cell_level = cell_level
        self.pixel_level = pixel_level
        self.cells_from = cells_from
        self.fpn = _Pyramid(widths[pixel_level:], width, groups)
        self.mask_projection = nn.Conv2d(width, pixel_width, 3, padding=1)
        source = widths[cell_level] if cells_from == "backbone" else width
        self.input_projection: nn.Module = (
            nn.Conv2d(source, cell_width, 1) if source != cell_width else nn.Identity()
        )

    def forward(self, pyramid: Sequence[Float[Tensor, "b _c _h _w"]]) -> PixelFeatures:
        """Merge a pyramid given from fine to coarse."""
        merged = self.fpn(pyramid[self.pixel_level :])
        cells = (
            pyramid[self.cell_level]
            if self.cells_from == "backbone"
            else merged[self.cell_level - self.pixel_level]
        )
        return PixelFeatures(self.input_projection(cells), self.mask_projection(merged[0]))

"""Fixed positional encodings: sine codes, cell centres, and grid positions of image tokens."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TypedDict

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class _Made(TypedDict):
    dtype: torch.dtype
    device: torch.device


@lru_cache(maxsize=32)
@torch.inference_mode(mode=False)  # cached for training too, whichever mode calls it first
def _sine_table(grid: int, width: int) -> Tensor:
    # shared by all models: independent of the caller's default precision and device
    exact: _Made = {"dtype": torch.float32, "device": torch.device("cpu")}
    quarter = width // 4
    octaves = torch.tensor(float(grid), **exact).log2()
    rates = torch.pi * torch.exp2(torch.linspace(0, 1, quarter, **exact) * octaves)
    centres = (torch.arange(grid, **exact) + 0.5) / grid
    phase = centres[:, None] * rates
    code = torch.cat([phase.sin(), phase.cos()], dim=1)
    rows = code[:, None].expand(grid, grid, -1)
    columns = code[None].expand(grid, grid, -1)
    table = torch.cat([rows, columns], dim=2).flatten(0, 1)
    return torch.nn.functional.pad(table, (0, width - table.shape[1]))


def sine_positions(
    grid: int,
    width: int,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "cells width"]:
    """Return two-dimensional sine codes of a ``grid`` x ``grid`` map, cells in row-major order.

    They are computed in float32 and returned in ``dtype``, that of the states they are added to.
    """
    return _sine_table(grid, width).to(device, dtype)


@lru_cache(maxsize=32)
@torch.inference_mode(mode=False)
def _detr_table(grid: int, width: int) -> Tensor:
    half = width // 2
    places = torch.arange(1, grid + 1) / (grid + 1e-6) * 2 * torch.pi
    rates = 10_000.0 ** (2 * (torch.arange(half) // 2) / half)
    phase = places[:, None] / rates
    code = torch.stack([phase[:, 0::2].sin(), phase[:, 1::2].cos()], dim=2).flatten(1)
    rows = code[:, None].expand(grid, grid, -1)
    columns = code[None].expand(grid, grid, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)


def detr_positions(
    grid: int, width: int, *, device: torch.device | None = None
) -> Float[Tensor, "cells width"]:
    """Return DETR's normalised sine codes of a ``grid`` x ``grid`` map, cells in row-major order.

    ``width`` is a multiple of four.
    """
    return _detr_table(grid, width).to(device)


@lru_cache(maxsize=32)
@torch.inference_mode(mode=False)
def _centre_table(grid: int) -> Tensor:
    ticks = (torch.arange(grid, dtype=torch.float32, device="cpu") + 0.5) / grid
    rows, columns = torch.meshgrid(ticks, ticks, indexing="ij")
    return torch.stack([columns, rows], dim=-1).flatten(0, 1)


def cell_centres(grid: int, *, device: torch.device | None = None) -> Float[Tensor, "cells 2"]:
    """Return centres (x, y) of the cells of a square grid over [0, 1]², row-major, in float32."""
    return _centre_table(grid).to(device)


BOX_CODE = 48
"""Width of a box code: four coordinates, six frequencies, sine and cosine."""


def box_code(boxes: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n code"]:
    """Return sines and cosines of a box's cxcywh in [0, 1], from low to high frequencies."""
    rates = torch.pi * 2.0 ** torch.arange(BOX_CODE // 8, device=boxes.device) / 2
    phase = (boxes.float()[..., None] * rates).flatten(-2)
    return torch.cat([phase.sin(), phase.cos()], dim=-1)


def cell_boxes(grid: int, *, device: torch.device | None = None) -> Float[Tensor, "cells 4"]:
    """Return the cells of a square grid over [0, 1]² as cxcywh boxes, row-major."""
    centres = cell_centres(grid, device=device)
    return torch.cat([centres, torch.full_like(centres, 1 / grid)], dim=-1)


def cells_of_images(extents: Float[Tensor, "n 4"], grid: int) -> Bool[Tensor, "n grid grid"]:
    """Return the mask of canvas cells (``grid`` x ``grid``) whose centre lies in the image.

    ``extents`` are the places of the images on the canvas (x1 y1 x2 y2 in [0, 1]). For an image
    without any cell centre, the row or column of cells at its middle is set.
    """
    ticks = torch.arange(grid, device=extents.device)
    centres = (ticks + 0.5) / grid
    low, high = extents.split(2, dim=1)
    middle = ((low + high) / 2 * grid).long().clamp(max=grid - 1)[..., None] == ticks
    inside = (centres >= low[..., None]) & (centres < high[..., None])
    inside = inside | (middle & ~inside.any(-1, keepdim=True))
    return inside[:, 1, :, None] & inside[:, 0, None, :]


@dataclass(frozen=True, slots=True)
class GridPositions:
    """Rotary positions for image tokens on a grid (M-RoPE; Qwen2-VL, arXiv 2409.12191).

    A text token has one position for time, height and width. The tokens of an image share their
    time; height and width count rows and columns from it. Text after an image continues after its
    longest side. ``grid`` is the number of image tokens along a side.
    """

    grid: int

    def spread(
        self, positions: Int[Tensor, "b t"], image: Bool[Tensor, "b t"]
    ) -> Int[Tensor, "3 b t"]:
        """Return time, height and width positions of sequences; ``image`` marks image tokens.

        A sequence has at most one image.
        """
        count = self.grid**2
        last = torch.iinfo(positions.dtype).max - count
        start = positions.masked_fill(~image, last).amin(1, keepdim=True)
        text = positions - (count - self.grid) * (positions >= start + count)
        inside = positions - start
        places = (torch.zeros_like(inside), inside // self.grid, inside % self.grid)
        return torch.stack([torch.where(image, start + place, text) for place in places])

"""Fixed positions: sine codes and cell centres of a square grid."""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor


@lru_cache(maxsize=32)
@torch.inference_mode(mode=False)  # kept for training too, whoever asks first
def _sine_table(grid: int, width: int) -> Tensor:
    quarter = width // 4
    rates = torch.pi * torch.exp2(torch.linspace(0, 1, quarter) * torch.tensor(float(grid)).log2())
    centres = (torch.arange(grid) + 0.5) / grid
    phase = centres[:, None] * rates
    code = torch.cat([phase.sin(), phase.cos()], dim=1)
    rows = code[:, None].expand(grid, grid, -1)
    columns = code[None].expand(grid, grid, -1)
    table = torch.cat([rows, columns], dim=2).flatten(0, 1)
    return torch.nn.functional.pad(table, (0, width - table.shape[1]))


def sine_positions(
    grid: int, width: int, *, device: torch.device | None = None
) -> Float[Tensor, "cells width"]:
    """Two-dimensional sine codes of a ``grid`` x ``grid`` map, cells in row-major order."""
    return _sine_table(grid, width).to(device)


@lru_cache(maxsize=32)
@torch.inference_mode(mode=False)
def _centre_table(grid: int) -> Tensor:
    ticks = (torch.arange(grid) + 0.5) / grid
    rows, columns = torch.meshgrid(ticks, ticks, indexing="ij")
    return torch.stack([columns, rows], dim=-1).flatten(0, 1)


def cell_centres(grid: int, *, device: torch.device | None = None) -> Float[Tensor, "cells 2"]:
    """Centres (x, y) of the cells of a square grid over [0, 1]², row-major."""
    return _centre_table(grid).to(device)

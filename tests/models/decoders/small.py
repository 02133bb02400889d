"""Random references, features and truth at tiny size, for tests of unit decoders."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from deixis.models.decoders import PixelFeatures, Proposals
from deixis.models.decoders.interface import Features
from deixis.models.references import LatentReferences

LANGUAGE, WIDTH, PIXELS, GRID, FINE = 12, 16, 8, 4, 16
LEVELS = {3: 8, 5: 4}
"""Channels of a pyramid's levels, and the side of each."""
SHAPE: dict[str, Any] = {"width": WIDTH, "heads": 2, "hidden": 24, "layers": 1, "num_queries": 9}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def references(counts: list[int], *, most: int | None = None, seed: int = 0) -> LatentReferences:
    """Give each row its number of references; each row is one turn."""
    most = max(*counts, 1) if most is None else most
    filled = torch.arange(most)[None] < torch.tensor(counts)[:, None]
    states = torch.zeros(len(counts), most, LANGUAGE)
    states[filled] = torch.randn(sum(counts), LANGUAGE, generator=generator(seed))
    return LatentReferences(states, filled, filled.long())


def features(rows: int, *, proposals: bool = False, seed: int = 1) -> Features:
    dice = generator(seed)
    maps = PixelFeatures(
        torch.randn(rows, WIDTH, GRID, GRID, generator=dice),
        torch.randn(rows, PIXELS, FINE, FINE, generator=dice),
    )
    own = generator(seed + 100)
    pyramid = tuple(
        torch.randn(rows, width, side, side, generator=own) for width, side in LEVELS.items()
    )
    if not proposals:
        return Features(maps, pyramid=pyramid)
    cells = GRID**2
    boxes = torch.rand(rows, cells, 4, generator=dice) * 0.4 + 0.2
    embeddings = torch.randn(rows, cells, PIXELS + 1, generator=dice)
    return Features(maps, Proposals.make(boxes, embeddings, torch.zeros(rows, cells)))


def some_boxes(count: int, seed: int = 2) -> Tensor:
    return torch.rand(count, 4, generator=generator(seed)) * 0.4 + 0.2


def rows_of(given: Features, rows: list[int]) -> Features:
    """Give the features of some rows."""
    maps = PixelFeatures(given.maps.cells[rows], given.maps.pixels[rows])
    proposals = given.proposals
    if proposals is not None:
        own = (proposals.boxes, proposals.embeddings, proposals.objectness)
        proposals = Proposals.make(*(each[rows] for each in own))
    pyramid = tuple(level[rows] for level in given.pyramid)
    return replace(given, maps=maps, proposals=proposals, pyramid=pyramid)


def gradients_are_finite(module: torch.nn.Module) -> bool:
    trainable = [p for p in module.parameters() if p.requires_grad]
    return all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in trainable)


def largest_difference(first: Tensor, second: Tensor) -> float:
    """Give the largest difference, in shares of the largest number where that is above 1."""
    if not first.numel():
        return 0.0
    first, second = first.detach(), second.detach()
    return float((first - second).abs().max() / first.abs().max().clamp(min=1))

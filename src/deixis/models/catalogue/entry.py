"""A row of the catalogue and its parameter counts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from deixis.models.adapters import Adapter

Group = str
"""Title of a table."""

Built = nn.Module | Mapping[str, Adapter] | int


@dataclass(frozen=True, slots=True)
class Size:
    """A part at one shape or preset; ``build`` returns it, or its number of parameters."""

    label: str
    build: Callable[[], Built]

    def count(self) -> tuple[int, int]:
        """Return the numbers of parameters and of trainable ones, without allocating memory."""
        with torch.device("meta"):
            built = self.build()
        if isinstance(built, int):
            return built, built
        modules = [built] if isinstance(built, nn.Module) else list(built.values())
        parameters = [each for module in modules for each in module.parameters()]
        total = sum(each.numel() for each in parameters)
        return total, sum(each.numel() for each in parameters if each.requires_grad)

    def describe(self) -> str:
        """Return label and number for the table."""
        total, trained = self.count()
        rest = "" if trained == total else f", {trained:,} train"
        return f"{self.label}: {total:,}{rest}" if self.label else f"{total:,}{rest}"


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A part of one of the systems.

    Args:
        group: Title of its table.
        what: A short description.
        code: Full name of its class, function or table.
        source: System, section and equation; `deixis` for parts of none of the papers.
        test: Its test file, below ``tests``.
        sizes: Its sizes at the papers' shapes; empty for parts without parameters.
    """

    group: Group
    what: str
    code: str
    source: str
    test: str
    sizes: tuple[Size, ...] = ()

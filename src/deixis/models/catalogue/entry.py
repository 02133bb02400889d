"""One row of the catalogue, and how its numbers are counted."""

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
    """A part at one shape, or under one preset; ``build`` gives it, or its parameters' number."""

    label: str
    build: Callable[[], Built]

    def count(self) -> tuple[int, int]:
        """Parameters, and those of them that train; nothing is allocated."""
        with torch.device("meta"):
            built = self.build()
        if isinstance(built, int):
            return built, built
        modules = [built] if isinstance(built, nn.Module) else list(built.values())
        parameters = [each for module in modules for each in module.parameters()]
        total = sum(each.numel() for each in parameters)
        return total, sum(each.numel() for each in parameters if each.requires_grad)

    def describe(self) -> str:
        """Label and number, as the table has them."""
        total, trained = self.count()
        rest = "" if trained == total else f", {trained:,} train"
        return f"{self.label}: {total:,}{rest}" if self.label else f"{total:,}{rest}"


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A part of one of the systems.

    Args:
        group: The table that it stands in.
        what: What it is, in a few words.
        code: The class, function or table that it is.
        source: System, section and equation; `deixis` for what is ours.
        test: The file below ``tests`` that proves it.
        sizes: What it counts at the papers' shapes; empty for what has no parameters.
    """

    group: Group
    what: str
    code: str
    source: str
    test: str
    sizes: tuple[Size, ...] = ()

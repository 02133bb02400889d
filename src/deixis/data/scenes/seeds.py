"""Random draws that depend only on the numbers in the call."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from deixis.data.scenes.vocabulary import LEVELS, SPLITS
from deixis.errors import GeometryError

Item = TypeVar("Item")

_BLOCK = 256


class Dice:
    """Draws single values from one random stream.

    A call of a NumPy generator takes microseconds, and a scene needs hundreds of single draws.
    """

    __slots__ = ("_generator", "_values")

    def __init__(self, entropy: Sequence[int]) -> None:
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
        self._values: list[float] = []

    def unit(self) -> float:
        """Return a number in [0, 1)."""
        if not self._values:
            self._values = self._generator.random(_BLOCK).tolist()
        return self._values.pop()

    def uniform(self, low: float, high: float) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * self.unit()

    def whole(self, low: int, high: int) -> int:
        """Return an integer from ``low`` to ``high``, both included."""
        return low + int((high - low + 1) * self.unit())

    def chance(self, probability: float) -> bool:
        """Return True with ``probability``."""
        return self.unit() < probability

    def pick(self, items: Sequence[Item]) -> Item:
        """Return one of ``items``, each equally likely."""
        return items[int(len(items) * self.unit())]

    def weighted(self, weights: dict[Item, float]) -> Item:
        """Return a key of ``weights`` with probability proportional to its weight."""
        rest = self.unit() * sum(weights.values())
        chosen = next(iter(weights))
        for item, weight in weights.items():
            chosen = item
            rest -= weight
            if rest < 0:
                break
        return chosen

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """Return ``items`` in random order."""
        keyed = [(self.unit(), position) for position in range(len(items))]
        return [items[position] for _, position in sorted(keyed)]


def scene_dice(seed: int, index: int, *, level: str, split: str, purpose: int = 0) -> Dice:
    """Return the random stream of one scene; different arguments give different streams.

    Raises:
        GeometryError: The seed or index is negative, or the level or split is unknown.
    """
    if seed < 0 or index < 0:
        raise GeometryError(f"scene {index} of seed {seed}: expected numbers of at least 0")
    if level not in LEVELS:
        raise GeometryError(f"unknown scene level {level!r}: expected one of {', '.join(LEVELS)}")
    if split not in SPLITS:
        raise GeometryError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
    # two words for every number, so that different tuples never give the same words
    words = [part for value in (seed, index) for part in _words(value)]
    return Dice([*words, purpose, LEVELS.index(level), SPLITS.index(split)])


def _words(value: int) -> tuple[int, int]:
    return value & 0xFFFFFFFF, value >> 32

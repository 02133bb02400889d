"""A shuffled order of all rows that needs no memory and gives any position directly.

A Feistel network permutes the numbers below the next power of four. A result beyond the count goes
through the network again until it is below ("cycle walking", at most four times on average). The
state of a run is one integer: the position in the stream.
"""

import hashlib
from dataclasses import dataclass

_ROUNDS = 6


@dataclass(frozen=True, slots=True)
class ShuffledOrder:
    """An endless stream over ``count`` rows: each epoch has every row once, in another order."""

    count: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"an order of {self.count} rows: expected at least one")

    def at(self, place: int) -> int:
        """Return the row at a position of the stream; positions count from 0."""
        epoch, number = divmod(place, self.count)
        half = max((self.count - 1).bit_length() + 1, 2) // 2
        keys = _keys(self.seed, epoch)
        mask = (1 << half) - 1
        while True:
            left, right = number >> half, number & mask
            for key in keys:
                left, right = right, left ^ (_mixed(right, key) & mask)
            number = (left << half) | right
            if number < self.count:
                return number


def _keys(seed: int, epoch: int) -> list[int]:
    digest = hashlib.blake2b(f"{seed}/{epoch}".encode(), digest_size=8 * _ROUNDS).digest()
    return [int.from_bytes(digest[8 * i : 8 * i + 8], "little") for i in range(_ROUNDS)]


def _mixed(value: int, key: int) -> int:
    """A round function: the finaliser of splitmix64."""
    value = (value + key) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return value ^ (value >> 31)

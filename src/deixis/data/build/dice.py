"""Random numbers that depend only on the seed, the sample and the task."""

import hashlib

import numpy as np


class Dice:
    """A generator that is reset for every conversation.

    The numbers depend on the build's seed, the sample's id, the task's name and the number of the
    try: 128 bits of their BLAKE2 hash are the key of Philox, a counter-based generator. A reset
    takes a microsecond, a new generator ten.
    """

    def __init__(self, seed: int) -> None:
        self._start = hashlib.blake2b(f"deixis-1/{seed}/".encode(), digest_size=16)
        self._bits = np.random.Philox(key=0)
        self._state = self._bits.state
        self.generator = np.random.Generator(self._bits)

    def throw(self, sample_id: str, task: str, number: int) -> np.random.Generator:
        """Reset the generator for one try of a task on a sample, and return it."""
        digest = self._start.copy()
        digest.update(f"{sample_id}\x00{task}\x00{number}".encode())
        self._state["state"]["key"][:] = np.frombuffer(digest.digest(), np.uint64)
        self._state["state"]["counter"][:] = 0
        self._state["buffer_pos"] = 4
        self._state["has_uint32"] = 0
        self._bits.state = self._state
        return self.generator

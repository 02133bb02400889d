"""Encodes masks as Label Studio's brush strokes: bit-packed run lengths of a picture's bytes.

The bytes are the rows of an RGBA picture, here all 0 or all 255. The format is that of the
``rle-pack`` package: the number of bytes (32 bits), the bits of a value minus one (5 bits), four bit
lengths of a count minus one (4 bits each), and then runs: a 1, the index of the length, the count
minus one, and the value.
"""

import numpy as np
from jaxtyping import Bool, Int64

_SIZES = np.array((3, 4, 8, 16))
_LONGEST = 1 << 16


def encode_brush(array: Bool[np.ndarray, "height width"]) -> list[int]:
    """Return a mask as the list of bytes that Label Studio calls ``rle``."""
    flat = array.ravel()
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    lengths = 4 * np.diff(np.concatenate((starts, [flat.size])))
    pieces = -(-lengths // _LONGEST)
    counts = np.full(int(pieces.sum()), _LONGEST)
    counts[np.cumsum(pieces) - 1] = lengths - (pieces - 1) * _LONGEST
    values = np.repeat(np.where(flat[starts], 255, 0), pieces)
    kind = np.searchsorted(1 << _SIZES, counts)
    sizes = _SIZES[kind]
    words = (((4 + kind) << sizes | (counts - 1)) << 8) | values
    head = (4 * flat.size << 21) | (7 << 16) | _head_sizes()
    bits = _bits(
        np.concatenate(([head >> 21, head & 0x1FFFFF], words)),
        np.concatenate(([32, 21], 11 + sizes)),
    )
    coded: list[int] = np.packbits(bits).tolist()
    return coded


def _head_sizes() -> int:
    head = 0
    for size in _SIZES.tolist():
        head = head << 4 | (size - 1)
    return head


def _bits(words: Int64[np.ndarray, " n"], lengths: Int64[np.ndarray, " n"]) -> np.ndarray:
    ends = np.cumsum(lengths)
    bits = np.zeros(int(ends[-1]), np.uint8)
    for place in range(int(lengths.max())):
        long = lengths > place
        bits[ends[long] - 1 - place] = (words[long] >> place) & 1
    return bits

"""Letters and digits as strokes.

Each symbol is a set of polylines in a field from -1 to 1 (downwards) and about -0.62 to 0.62 (to the
right).
"""

from functools import lru_cache
from itertools import pairwise
from math import cos, pi, sin

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from deixis.data.scenes.shape_outlines import Field, capsule

STROKE = 0.19
"""Half-width of every stroke."""

Points = tuple[tuple[float, float], ...]

_L, _R, _T, _B = -0.5, 0.5, -0.8, 0.8


def _arc(x: float, y: float, across: float, down: float, start: float, end: float) -> Points:
    """Return points of an elliptic arc; angles in quarter turns, clockwise from the right."""
    parts = round(6 * abs(end - start))
    angles = [(start + (end - start) * step / parts) * pi / 2 for step in range(parts + 1)]
    return tuple((x + across * cos(angle), y + down * sin(angle)) for angle in angles)


def _bowl(top: float, bottom: float, right: float) -> Points:
    """Return a stroke that bulges right from the left edge, as in B, D, P and R."""
    middle, half = (top + bottom) / 2, (bottom - top) / 2
    return ((_L, top), *_arc(right - half * 0.9, middle, half * 0.9, half, -1, 1), (_L, bottom))


GLYPHS: dict[str, tuple[Points, ...]] = {
    "A": (((_L, _B), (0, _T), (_R, _B)), ((-0.3, 0.28), (0.3, 0.28))),
    "B": (((_L, _T), (_L, _B)), _bowl(_T, -0.02, 0.42), _bowl(-0.02, _B, 0.5)),
    "C": (_arc(0.05, 0, 0.55, 0.8, -0.55, -3.45),),
    "D": (((_L, _T), (_L, _B)), _bowl(_T, _B, 0.52)),
    "E": (((_R, _T), (_L, _T), (_L, _B), (_R, _B)), ((_L, 0), (0.35, 0))),
    "F": (((_R, _T), (_L, _T), (_L, _B)), ((_L, 0), (0.35, 0))),
    "G": (
        _arc(0.05, 0, 0.55, 0.8, -0.55, -4),
        ((0.6, 0.0), (0.6, 0.6)),
        ((0.15, 0.08), (0.6, 0.08)),
    ),
    "H": (((_L, _T), (_L, _B)), ((_R, _T), (_R, _B)), ((_L, 0), (_R, 0))),
    "J": (((0.35, _T), (0.35, 0.35), *_arc(-0.06, 0.35, 0.41, 0.45, 0, 2)),),
    "K": (((_L, _T), (_L, _B)), ((_R, _T), (_L, 0.1)), ((-0.2, -0.12), (_R, _B))),
    "L": (((_L, _T), (_L, _B), (_R, _B)),),
    "M": (((-0.58, _B), (-0.58, _T), (0, 0.25), (0.58, _T), (0.58, _B)),),
    "N": (((_L, _B), (_L, _T), (_R, _B), (_R, _T)),),
    "P": (((_L, _T), (_L, _B)), _bowl(_T, 0.1, 0.5)),
    "R": (((_L, _T), (_L, _B)), _bowl(_T, 0.1, 0.5), ((-0.05, 0.1), (_R, _B))),
    "T": (((-0.58, _T), (0.58, _T)), ((0, _T), (0, _B))),
    "U": (((_L, _T), (_L, 0.3), *_arc(0, 0.3, 0.5, 0.5, 2, 0), (_R, _T)),),
    "V": (((-0.55, _T), (0, _B), (0.55, _T)),),
    "W": (((-0.62, _T), (-0.32, _B), (0, -0.2), (0.32, _B), (0.62, _T)),),
    "X": (((_L, _T), (_R, _B)), ((_R, _T), (_L, _B))),
    "Y": (((_L, _T), (0, 0), (_R, _T)), ((0, 0), (0, _B))),
    "0": (_arc(0, 0, 0.48, 0.8, 0, 4),),
    "1": (((-0.32, -0.45), (0.05, _T), (0.05, _B)), ((-0.35, _B), (0.45, _B))),
    "2": ((*_arc(0, -0.32, 0.46, 0.48, -2, 0.35), (-0.5, _B), (0.52, _B)),),
    "3": (_arc(-0.05, -0.4, 0.45, 0.4, -1.8, 1), _arc(-0.05, 0.4, 0.52, 0.4, -1, 1.8)),
    "4": (((0.25, _B), (0.25, _T), (-0.52, 0.32), (0.55, 0.32)),),
    "5": (((0.45, _T), (-0.38, _T), (-0.44, -0.1), *_arc(-0.05, 0.28, 0.5, 0.52, -1.2, 1.7)),),
    "6": (_arc(0, 0.33, 0.46, 0.47, 0, 4), ((-0.46, 0.33), (-0.36, -0.3), (0.25, _T))),
    "7": (((-0.5, _T), (0.5, _T), (-0.1, _B)),),
    "8": (_arc(0, -0.4, 0.4, 0.38, 0, 4), _arc(0, 0.4, 0.48, 0.4, 0, 4)),
    "9": (_arc(0, -0.33, 0.46, 0.47, 0, 4), ((0.46, -0.33), (0.36, 0.3), (-0.25, _B))),
}
"""Polylines of every symbol of the vocabulary."""


_REACH = 1.2
_FINENESS = 40
_CELLS = round(2 * _REACH * _FINENESS) + 1


@lru_cache(maxsize=len(GLYPHS))
def _distance_table(symbol: str) -> Float32[ndarray, " cells"]:
    """Return distances on a fine grid; a lookup is several times faster than the computation."""
    place = np.linspace(-_REACH, _REACH, _CELLS, dtype=np.float32)
    x, y = np.meshgrid(place, place)
    nearest = np.full((_CELLS, _CELLS), np.inf, np.float32)
    for line in GLYPHS[symbol]:
        for start, end in pairwise(line):
            np.minimum(nearest, capsule(x, y, start, end, STROKE), out=nearest)
    return nearest.ravel()


def glyph_distance(symbol: str, x: Field, y: Field) -> Field:
    """Return the signed distance to a symbol's strokes, in the coordinates of its field."""
    table = _distance_table(symbol)
    across = (x + np.float32(_REACH)) * np.float32(_FINENESS)
    down = (y + np.float32(_REACH)) * np.float32(_FINENESS)
    limit = np.float32(_CELLS - 1.01)
    np.minimum(np.maximum(across, np.float32(0.0)), limit, out=across)
    np.minimum(np.maximum(down, np.float32(0.0)), limit, out=down)
    column, row = across.astype(np.int32), down.astype(np.int32)
    across -= column
    down -= row
    cell = row * _CELLS + column
    upper = table.take(cell)
    upper += across * (table.take(cell + 1) - upper)
    cell += _CELLS
    lower = table.take(cell)
    lower += across * (table.take(cell + 1) - lower)
    lower -= upper
    lower *= down
    lower += upper
    return np.asarray(lower)

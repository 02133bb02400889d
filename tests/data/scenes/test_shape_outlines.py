from itertools import pairwise

import numpy as np
import pytest

from deixis.data.scenes.glyphs import GLYPHS, STROKE, glyph_distance
from deixis.data.scenes.shape_outlines import SHAPE_TABLE, capsule, wave
from deixis.data.scenes.vocabulary import DIGITS, HOLDABLES, LETTERS, SHAPES, WEARABLES


def grid(cells: int = 241, reach: float = 1.2) -> tuple[np.ndarray, np.ndarray]:
    place = np.linspace(-reach, reach, cells, dtype=np.float32)
    x, y = np.meshgrid(place, place)
    return x, y


@pytest.mark.parametrize("name", SHAPE_TABLE)
def test_shapes_fill_exactly_their_half_sides(name: str) -> None:
    shape = SHAPE_TABLE[name]
    x, y = grid()
    inside = shape.distance(x, y) <= 0
    assert max(shape.half_width, shape.half_height) == pytest.approx(1.0, abs=0.04)
    assert abs(x[inside]).max() == pytest.approx(shape.half_width, abs=0.06)
    assert abs(y[inside]).max() == pytest.approx(shape.half_height, abs=0.06)


@pytest.mark.parametrize("name", SHAPE_TABLE)
def test_distances_near_an_edge_are_accurate(name: str) -> None:
    x, y = grid()
    distance = SHAPE_TABLE[name].distance(x, y)
    step = x[0, 1] - x[0, 0]
    down, across = np.gradient(distance, step)
    slope = np.hypot(across, down)[abs(distance) < 0.04]
    assert 0.6 < np.median(slope) < 1.4


def test_every_shape_is_drawn_and_all_shapes_differ() -> None:
    assert set(SHAPE_TABLE) == {*SHAPES, *HOLDABLES, *WEARABLES}
    assert len(SHAPES) >= 12
    x, y = grid()
    masks = {name: SHAPE_TABLE[name].distance(x, y) <= 0 for name in SHAPES}
    for first in SHAPES:
        for second in SHAPES:
            if first < second:
                both = (masks[first] & masks[second]).sum()
                either = (masks[first] | masks[second]).sum()
                assert both / either < 0.92, (first, second)


def test_every_symbol_has_strokes_and_all_symbols_differ() -> None:
    assert set(GLYPHS) == {*LETTERS, *DIGITS}
    x, y = grid()
    masks = {symbol: glyph_distance(symbol, x, y) <= 0 for symbol in GLYPHS}
    for first, mask in masks.items():
        assert abs(y[mask]).max() == pytest.approx(1.0, abs=0.03)
        for second, other in masks.items():
            if first < second:
                assert (mask & other).sum() / (mask | other).sum() < 0.86, (first, second)


def test_glyph_tables_equal_measured_strokes() -> None:
    x, y = grid(97, 1.0)
    for symbol in ("A", "8"):
        expected = np.full_like(x, np.inf)
        for line in GLYPHS[symbol]:
            for start, end in pairwise(line):
                expected = np.minimum(expected, capsule(x, y, start, end, STROKE))
        np.testing.assert_allclose(glyph_distance(symbol, x, y), expected, atol=0.015)


def test_a_wave_is_periodic_and_reaches_both_ends() -> None:
    turns = np.linspace(-2, 2, 401, dtype=np.float32)
    values = wave(turns)
    np.testing.assert_allclose(values[100:], values[:-100], atol=1e-4)
    assert values.max() == pytest.approx(1.0, abs=1e-3)
    assert values.min() == pytest.approx(-1.0, abs=1e-3)

"""Grounds of scenes: textured planes with light and a distance for every row."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from deixis.data.scenes.seeds import Dice
from deixis.data.scenes.shape_outlines import wave
from deixis.data.scenes.sprites import Rgb

Tile = Float32[ndarray, "side side"]


@dataclass(slots=True)
class Ground:
    """An empty picture by channel, 0 to 255, and the distance of each row."""

    paint: Float32[ndarray, "3 height width"]
    distances: Float32[ndarray, " height"]
    horizon: int


FLAT_COLORS: tuple[Rgb, ...] = (
    (240, 238, 232),
    (226, 234, 240),
    (232, 240, 228),
    (244, 234, 222),
    (236, 230, 240),
    (228, 228, 226),
)

# each texture has two muted colours, which differ from all colours of instances
FLOORS: dict[str, tuple[tuple[Rgb, Rgb], ...]] = {
    "wood": (((176, 148, 118), (214, 190, 160)), ((150, 126, 104), (190, 166, 140))),
    "grass": (((120, 136, 100), (176, 188, 146)), ((132, 138, 104), (190, 192, 156))),
    "sand": (((198, 184, 152), (232, 220, 194)), ((184, 176, 164), (222, 216, 204))),
    "tiles": (((150, 156, 160), (216, 220, 222)), ((170, 160, 148), (228, 222, 212))),
    "carpet": (((140, 144, 156), (186, 190, 200)), ((160, 148, 146), (206, 196, 192))),
    "pebbles": (((140, 138, 134), (204, 202, 196)), ((150, 144, 134), (212, 204, 192))),
}
WALLS: dict[str, tuple[tuple[Rgb, Rgb], ...]] = {
    "cloud": (((176, 196, 214), (232, 238, 244)), ((204, 206, 210), (238, 236, 232))),
    "brick": (((168, 148, 138), (206, 190, 180)), ((178, 176, 170), (220, 218, 212))),
    "plaster": (((214, 208, 196), (234, 230, 220)), ((198, 206, 204), (222, 228, 226))),
    "paneling": (((190, 184, 172), (222, 218, 208)), ((172, 180, 184), (212, 218, 220))),
}


def roll_ground(dice: Dice, height: int, width: int, *, level: str) -> Ground:
    """Draw a random ground for a canvas; ``plain`` is flat and light, ``hard`` is littered."""
    side = max(height, width)
    if level == "plain":
        return _flat_ground(dice, height, width)
    kind = dice.weighted({"floor": 1.0, "room": 1.4})
    littered = level == "hard"
    floor = dice.pick(tuple(FLOORS))
    colors = dice.pick(FLOORS[floor])
    paint = np.empty((3, height, width), np.float32)
    if kind == "floor":
        _fill(dice, paint, floor, colors, side, littered=littered)
        near, far = dice.uniform(2.0, 3.0), dice.uniform(6.0, 9.0)
        distances = _receding(height, near, far)
        _light(dice, paint)
        return Ground(paint, distances, 0)
    horizon = int(height * dice.uniform(0.26, 0.48))
    wall = dice.pick(tuple(WALLS))
    wall_colors = dice.pick(WALLS[wall])
    _fill(dice, paint[:, :horizon], wall, wall_colors, side, littered=littered)
    _fill(dice, paint[:, horizon:], floor, colors, side, littered=littered)
    paint[:, horizon : horizon + max(1, side // 112)] *= np.float32(0.78)
    near, far = dice.uniform(2.0, 3.0), dice.uniform(9.0, 14.0)
    distances = np.full(height, far, np.float32)
    distances[horizon:] = _receding(height - horizon, near, far)
    _light(dice, paint)
    return Ground(paint, distances, horizon)


def _flat_ground(dice: Dice, height: int, width: int) -> Ground:
    color = np.array(dice.pick(FLAT_COLORS), np.float32)[:, None, None]
    paint = np.empty((3, height, width), np.float32)
    paint[:] = color
    paint *= np.linspace(1.0, dice.uniform(0.93, 0.97), height, dtype=np.float32)[:, None]
    return Ground(paint, _receding(height, 3.0, 6.0), 0)


def _receding(rows: int, near: float, far: float) -> Float32[ndarray, " rows"]:
    """Return the distances of a slanted plane: their inverse falls linearly with height."""
    inverse = np.linspace(1 / far, 1 / near, rows, dtype=np.float32)
    return np.asarray(1 / inverse)


def _light(dice: Dice, paint: Float32[ndarray, "3 height width"]) -> None:
    across = np.linspace(
        dice.uniform(0.90, 1.04), dice.uniform(0.90, 1.04), paint.shape[2], dtype=np.float32
    )
    paint *= across


def _fill(
    dice: Dice,
    paint: Float32[ndarray, "3 height width"],
    name: str,
    colors: tuple[Rgb, Rgb],
    side: int,
    *,
    littered: bool,
) -> None:
    tile = texture_tile(name, side, littered=littered)
    spare = tile.shape[0] - side
    top, left = dice.whole(0, spare), dice.whole(0, spare)
    part = tile[top : top + paint.shape[1], left : left + paint.shape[2]]
    for channel in range(3):
        dark, light = colors[0][channel], colors[1][channel]
        np.multiply(part, np.float32(light - dark), out=paint[channel])
        paint[channel] += np.float32(dark)


@lru_cache(maxsize=24)
def texture_tile(name: str, side: int, *, littered: bool) -> Tile:
    """Return a texture from 0 (dark) to 1 (light), 1.5 times as large as its canvas."""
    length = side + side // 2
    source = np.random.Generator(np.random.PCG64([1913, *name.encode()]))
    pixel = np.arange(length, dtype=np.float32) * np.float32(224 / side)
    x, y = pixel[None, :], pixel[:, None]
    grain = _noise(source, length, 1.0, side)
    if name == "wood":
        plank = np.floor(y / 26)
        shift = source.random(64).astype(np.float32)
        tone = shift[plank.astype(int) % 64]
        streak = _stretched(source, length, 14.0, 1.2, side)
        seam = (y % 26 < 1.2) | ((x + tone * 190) % 130 < 1.2)
        tile = 0.35 + 0.35 * tone + 0.55 * (streak - 0.5) - 0.35 * seam
    elif name == "grass":
        tile = 0.65 * _stretched(source, length, 1.2, 5.0, side) + 0.35 * _noise(
            source, length, 16.0, side
        )
    elif name == "sand":
        ripple = wave(y / 31 + 0.8 * _noise(source, length, 30.0, side))
        tile = 0.5 + 0.15 * ripple + 0.5 * (grain - 0.5)
    elif name == "tiles":
        tone = source.random((64, 64)).astype(np.float32)
        tone = tone[(y // 32).astype(int) % 64, (x // 32).astype(int) % 64]
        seam = (x % 32 < 1.6) | (y % 32 < 1.6)
        tile = np.where(seam, 0.05, 0.62 + 0.3 * tone + 0.12 * (grain - 0.5))
    elif name == "carpet":
        weave = wave(x / 4.5) * wave(y / 4.5)
        tile = 0.5 + 0.18 * weave + 0.35 * (_noise(source, length, 9.0, side) - 0.5)
    elif name == "pebbles":
        tile = _cells(source, length, 11.0, side) + 0.2 * (grain - 0.5)
    elif name == "cloud":
        tile = 0.6 * _noise(source, length, 44.0, side) + 0.4 * _noise(source, length, 18.0, side)
    elif name == "brick":
        row = np.floor(y / 14)
        column = np.floor((x + (row % 2) * 15) / 30)
        tone = source.random(4096).astype(np.float32)
        tone = tone[(row * 61 + column).astype(int) % 4096]
        seam = (y % 14 < 1.5) | ((x + (row % 2) * 15) % 30 < 1.5)
        tile = np.where(seam, 0.95, 0.25 + 0.45 * tone + 0.15 * (grain - 0.5))
    elif name == "plaster":
        tile = 0.5 + 0.3 * (grain - 0.5) + 0.6 * (_noise(source, length, 24.0, side) - 0.5)
    else:
        groove = x % 28 < 1.8
        tile = (
            0.62 - 0.5 * groove + 0.25 * (_stretched(source, length, 1.5, 20.0, side) - 0.5) + 0 * y
        )
    if littered:
        tile = tile + _litter(source, length, side)
    return np.ascontiguousarray(np.clip(tile, -0.3, 1.25), dtype=np.float32)


def _noise(source: np.random.Generator, length: int, grain: float, side: int) -> Tile:
    return _stretched(source, length, grain, grain, side)


def _stretched(
    source: np.random.Generator, length: int, across: float, down: float, side: int
) -> Tile:
    """Return smooth noise in [0, 1] with spots of ``across`` by ``down`` pixels at side 224."""
    columns = max(2, round(length * 224 / side / across))
    rows = max(2, round(length * 224 / side / down))
    coarse = source.random((rows, columns), dtype=np.float32)
    return _enlarged(_enlarged(coarse, length).T, length).T


def _enlarged(
    values: Float32[ndarray, "rows columns"], length: int
) -> Float32[ndarray, "long columns"]:
    """Stretch rows to ``length`` by linear interpolation."""
    place = np.linspace(0, values.shape[0] - 1.001, length, dtype=np.float32)
    low = place.astype(np.intp)
    share = (place - low.astype(np.float32))[:, None]
    share = share * share * (3 - 2 * share)
    return np.asarray(values[low] * (1 - share) + values[low + 1] * share)


def _cells(source: np.random.Generator, length: int, grain: float, side: int) -> Tile:
    """Return stones of about ``grain`` pixels at side 224 in different tones, with dark gaps."""
    pixel = np.arange(length, dtype=np.float32) * np.float32(224 / side / grain)
    x, y = pixel[None, :], pixel[:, None]
    cell_x, cell_y = x.astype(np.intp) + 1, y.astype(np.intp) + 1
    count = int(pixel[-1]) + 4
    middle = source.random((2, count, count)).astype(np.float32)
    tone = source.random((count, count)).astype(np.float32)
    nearest = np.full((length, length), np.inf, np.float32)
    second = nearest.copy()
    shade = np.zeros((length, length), np.float32)
    for row in (-1, 0, 1):
        for column in (-1, 0, 1):
            place = (cell_y + row, cell_x + column)
            off_x = place[1] - 1 + middle[0][place] * 0.8 - x
            off_y = place[0] - 1 + middle[1][place] * 0.8 - y
            distance = np.sqrt(off_x * off_x + off_y * off_y).astype(np.float32)
            closer = distance < nearest
            second = np.where(closer, nearest, np.minimum(second, distance))
            nearest = np.minimum(nearest, distance)
            shade = np.where(closer, tone[place], shade)
    gap = np.clip((second - nearest) * 4.0, 0, 1)
    return np.asarray(gap * (0.45 + 0.45 * shade + 0.15 * (1 - nearest)), np.float32)


def _litter(source: np.random.Generator, length: int, side: int) -> Tile:
    """Return faint leaves, sticks and specks: clutter without annotations."""
    unit = side / 224
    tile = np.zeros((length, length), np.float32)
    for _ in range(170):
        x, y = source.random(2) * length
        long, thin = source.uniform(2, 9) * unit, source.uniform(0.8, 3.2) * unit
        angle, tone = source.uniform(0, np.pi), source.uniform(-0.75, 0.6)
        left, right = max(0, int(x - long - 2)), min(length, int(x + long + 3))
        top, bottom = max(0, int(y - long - 2)), min(length, int(y + long + 3))
        across = np.arange(left, right)[None, :] - x
        down = np.arange(top, bottom)[:, None] - y
        along = (across * np.cos(angle) + down * np.sin(angle)) / long
        aside = (down * np.cos(angle) - across * np.sin(angle)) / thin
        cover = np.clip((1 - along * along - aside * aside) * 2, 0, 1)
        tile[top:bottom, left:right] += (tone * cover).astype(np.float32)
    return np.clip(tile, -0.8, 0.7)

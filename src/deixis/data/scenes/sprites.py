"""Drafts of instances to draw, and their drawn layers."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float32
from numpy import ndarray

from deixis.data.scenes.glyphs import glyph_distance
from deixis.data.scenes.scene import ThingKind
from deixis.data.scenes.shape_outlines import (
    SHAPE_TABLE,
    Field,
    capsule,
    ellipse,
    rectangle,
)

Rgb = tuple[float, float, float]


@dataclass(slots=True)
class Pose:
    """Joint angles and appearance of a figure; angles in radians from vertical, outwards positive."""

    shoulders: tuple[float, float]
    elbows: tuple[float, float]
    hips: tuple[float, float]
    skin: Rgb
    hair: Rgb
    trousers: Rgb


@dataclass(slots=True)
class Draft:
    """The plan of one instance: attributes, position and appearance, in pixels of the canvas.

    ``extent`` is the longest side. ``nearness`` is the instance's distance as a share of the distance
    of the ground below it. ``shadow`` is true if it stands on the ground. ``holder`` and similar
    fields are indices of drafts.
    """

    kind: ThingKind
    name: str
    color: str
    size: str
    texture: str
    extent: float
    rgb: Rgb
    tone: Rgb
    symbol: str = ""
    angle: float = 0.0
    x: float = 0.0
    y: float = 0.0
    depth: float = 1.0
    nearness: float = 0.95
    shadow: bool = False
    pose: Pose | None = None
    holder: int | None = None
    wearer: int | None = None
    inside: int | None = None
    on: int | None = None

    @property
    def half_size(self) -> tuple[float, float]:
        """Half-width and half-height before rotation, in pixels."""
        width, height = half_sides(self)
        return width * self.extent / 2, height * self.extent / 2


@dataclass(slots=True)
class Layer:
    """Pixels of one instance at one depth, clipped to the canvas.

    ``alpha`` is the coverage of each pixel of the window, ``paint`` its colour by channel.
    """

    owner: int
    depth: float
    left: int
    top: int
    alpha: Float32[ndarray, "height width"]
    paint: Float32[ndarray, "3 height width"]
    mask: Bool[ndarray, "height width"]


CONTAINER_HALF_HEIGHT = {"box": 0.62, "bowl": 0.48, "basket": 0.66}
SURFACE_HALF_HEIGHT = {"table": 0.52, "shelf": 0.26, "mat": 0.40}
BACK_DEPTH = 1.012
"""Ratio of the distance of a container's back to that of its front."""

FIGURE_HALF_WIDTH = 0.42
GLYPH_HALF_WIDTH = 0.72


def half_sides(draft: Draft) -> tuple[float, float]:
    """Return the half-sides of a draft before rotation, with the longest side scaled to 2."""
    if draft.kind == "shape":
        shape = SHAPE_TABLE[draft.name]
        return shape.half_width, shape.half_height
    if draft.kind == "container":
        return 1.0, CONTAINER_HALF_HEIGHT[draft.name]
    if draft.kind == "surface":
        return 1.0, SURFACE_HALF_HEIGHT[draft.name]
    if draft.kind == "figure":
        return FIGURE_HALF_WIDTH, 1.0
    return GLYPH_HALF_WIDTH, 1.0


@dataclass(slots=True)
class Window:
    """A rectangle of canvas pixels, with their centres in the coordinates of an instance."""

    left: int
    top: int
    x: Field
    y: Field
    scale: float


def window(
    draft: Draft, canvas: tuple[int, int], reach: tuple[float, float, float, float] | None = None
) -> Window | None:
    """Return the window of a draft in the draft's coordinates; None if it is outside the canvas.

    ``reach`` (left, top, right, bottom, in the draft's coordinates) bounds the drawing.
    """
    height, width = canvas
    scale = draft.extent / 2
    half_width, half_height = half_sides(draft)
    if reach is None:
        reach = (-half_width, -half_height, half_width, half_height)
    cosine, sine = float(np.cos(draft.angle)), float(np.sin(draft.angle))
    across = [px * cosine - py * sine for px in (reach[0], reach[2]) for py in (reach[1], reach[3])]
    down = [px * sine + py * cosine for px in (reach[0], reach[2]) for py in (reach[1], reach[3])]
    left = max(0, int(draft.x + min(across) * scale - 1.5))
    right = min(width, int(draft.x + max(across) * scale + 2.5))
    top = max(0, int(draft.y + min(down) * scale - 1.5))
    bottom = min(height, int(draft.y + max(down) * scale + 2.5))
    if right <= left or bottom <= top:
        return None
    x = (_middles(max(height, width))[left:right] - np.float32(draft.x)) / np.float32(scale)
    y = ((_middles(max(height, width))[top:bottom] - np.float32(draft.y)) / np.float32(scale))[
        :, None
    ]
    turned_x = x * np.float32(cosine) + y * np.float32(sine)
    turned_y = y * np.float32(cosine) - x * np.float32(sine)
    return Window(left, top, turned_x, turned_y, scale)


@lru_cache(maxsize=8)
def _middles(length: int) -> Float32[ndarray, " length"]:
    return np.arange(length, dtype=np.float32) + np.float32(0.5)


def finish(
    owner: int,
    depth: float,
    place: Window,
    distance: Field,
    color: Float32[ndarray, "channels rows columns"],
    *,
    rim: float = 0.38,
) -> Layer:
    """Return a layer from a signed distance and colours: soft edge, darker rim, light from above."""
    pixels = distance * np.float32(place.scale)
    alpha = np.minimum(np.maximum(np.float32(0.5) - pixels, np.float32(0.0)), np.float32(1.0))
    width = np.float32(min(2.2, max(0.9, place.scale * 0.055)))
    edge = np.minimum(np.maximum(pixels + width, np.float32(0.0)), np.float32(1.0))
    light = np.float32(1.03) - place.y * np.float32(0.09) - edge * np.float32(rim)
    paint = color * light
    return Layer(owner, depth, place.left, place.top, alpha, paint, pixels <= 0)


def patterned(draft: Draft, place: Window) -> Float32[ndarray, "channels rows columns"]:
    """Return the colours of an instance: one, or stripes or dots in two tones of one hue."""
    base = np.array(draft.rgb, np.float32)[:, None, None]
    if draft.texture == "plain":
        return base
    # stripes need at least two and a half pixels to be visible
    period = max(5.0 / place.scale, 0.40 if draft.texture == "striped" else 0.46)
    if draft.texture == "striped":
        turns = (place.x * np.float32(0.5) + place.y * np.float32(0.866)) * np.float32(1 / period)
        level = abs(turns - np.rint(turns)) - np.float32(0.26)
        share = level * np.float32(period * place.scale) + np.float32(0.5)
    else:
        across = place.x * np.float32(1 / period)
        down = place.y * np.float32(1 / period)
        across = across - np.rint(across)
        down = down - np.rint(down)
        level = np.float32(0.34) - np.sqrt(across * across + down * down)
        share = level * np.float32(period * place.scale) + np.float32(0.5)
    np.minimum(np.maximum(share, np.float32(0.0)), np.float32(1.0), out=share)
    other = np.array(draft.tone, np.float32)[:, None, None]
    return np.asarray(base + share * (other - base))


def draw_shape(draft: Draft, owner: int, canvas: tuple[int, int]) -> list[Layer]:
    """Return the layer of a shape, letter or digit."""
    place = window(draft, canvas)
    if place is None:
        return []
    if draft.kind == "shape":
        distance = SHAPE_TABLE[draft.name].distance(place.x, place.y)
    else:
        distance = glyph_distance(draft.symbol, place.x, place.y)
    return [finish(owner, draft.depth, place, distance, patterned(draft, place))]


def draw_container(draft: Draft, owner: int, canvas: tuple[int, int]) -> list[Layer]:
    """Return the layers of a container's back and front; its contents are drawn between them."""
    place = window(draft, canvas)
    if place is None:
        return []
    x, y = place.x, place.y
    if draft.name == "box":
        slope = abs(x) + y * np.float32(-0.30)
        back = np.maximum(slope - np.float32(1.0), rectangle(x, y, -1.0, -0.56, 1.0, 0.0))
        front = rectangle(x, y, -0.97, -0.12, 0.97, 0.60)
    elif draft.name == "bowl":
        back = ellipse(x, y + np.float32(0.22), 0.97, 0.22)
        front = np.maximum(ellipse(x, y + np.float32(0.22), 0.97, 0.68), -y - np.float32(0.22))
        rim_cut = ellipse(x, y + np.float32(0.22), 0.97, 0.22)
        front = np.maximum(front, -rim_cut - np.float32(0.02))
    else:
        back = ellipse(x, y + np.float32(0.02), 0.92, 0.20)
        handle = abs(ellipse(x, y + np.float32(0.02), 0.84, 0.60)) - np.float32(0.05)
        back = np.minimum(back, np.maximum(handle, y))
        side = abs(x) + y * np.float32(0.32) - np.float32(0.92)
        front = np.maximum(side, rectangle(x, y, -1.0, 0.0, 1.0, 0.62))
        front = np.maximum(front, -ellipse(x, y + np.float32(0.02), 0.92, 0.20))
    dark = np.array(draft.rgb, np.float32)[:, None, None] * np.float32(0.55)
    behind = finish(owner, draft.depth * BACK_DEPTH, place, back, dark, rim=0.25)
    color = patterned(draft, place)
    if draft.name == "basket":
        weave = np.rint(x * np.float32(5.0)) + np.rint(y * np.float32(6.0))
        color = color * (np.float32(0.90) + np.float32(0.10) * (weave % np.float32(2.0)))
    return [behind, finish(owner, draft.depth, place, front, color)]


def draw_surface(draft: Draft, owner: int, canvas: tuple[int, int]) -> list[Layer]:
    """Return the layer of a table, shelf or mat; instances on it are nearer."""
    place = window(draft, canvas)
    if place is None:
        return []
    x, y = place.x, place.y
    if draft.name == "table":
        slope = abs(x) - y * np.float32(0.45)
        top = np.maximum(slope - np.float32(1.05), rectangle(x, y, -1.0, -0.5, 1.0, -0.12))
        slab = rectangle(x, y, -0.99, -0.14, 0.99, -0.02)
        legs = np.maximum(
            abs(abs(x) - np.float32(0.82)) - np.float32(0.065),
            abs(y - np.float32(0.2)) - np.float32(0.3),
        )
        distance = np.minimum(np.minimum(top, slab), legs)
        shade = np.where(y < np.float32(-0.14), np.float32(1.06), np.float32(0.80))
    elif draft.name == "shelf":
        plank = rectangle(x, y, -1.0, -0.24, 1.0, 0.0)
        brackets = np.maximum(
            abs(abs(x) - np.float32(0.62)) - np.float32(0.06),
            abs(y - np.float32(0.1)) - np.float32(0.14),
        )
        distance = np.minimum(plank, brackets)
        shade = np.where(y < np.float32(-0.10), np.float32(1.06), np.float32(0.78))
    else:
        slope = abs(x) - y * np.float32(0.42)
        distance = np.maximum(slope - np.float32(0.83), rectangle(x, y, -1.0, -0.39, 1.0, 0.39))
        border = np.maximum(slope - np.float32(0.73), abs(y) - np.float32(0.29))
        shade = np.where(border < 0, np.float32(1.0), np.float32(0.84))
    color = patterned(draft, place) * shade
    return [finish(owner, draft.depth, place, distance, color)]


def limb(
    place: Window, start: tuple[float, float], end: tuple[float, float], radius: float
) -> tuple[slice, slice, Field]:
    """Return a capsule's distance on the smallest part of a window around it, and that part."""
    columns, rows = place.x[0], place.y[:, 0]
    margin = radius + 1.5 / place.scale
    first = int(np.searchsorted(columns, min(start[0], end[0]) - margin))
    last = int(np.searchsorted(columns, max(start[0], end[0]) + margin))
    high = int(np.searchsorted(rows, min(start[1], end[1]) - margin))
    low = int(np.searchsorted(rows, max(start[1], end[1]) + margin))
    part = (slice(high, low), slice(first, last))
    return (*part, capsule(place.x[part], place.y[part], start, end, radius))

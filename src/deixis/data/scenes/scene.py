"""A drawn scene and its exact truth."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int16, UInt8
from numpy import ndarray

from deixis.geometry import ImageSize

ThingKind = Literal["shape", "figure", "letter", "digit", "container", "surface"]
Corners = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing of a scene.

    Boxes are ``xyxy`` in pixels with exclusive edges: ``box`` of the visible part (None when
    wholly hidden, which a scene never holds), ``full_box`` of all its pixels inside the canvas,
    hidden ones too. ``visibility`` is the visible fraction of those pixels. ``depth`` is a
    distance, smaller is nearer. ``symbol`` is set for letters and digits. ``keypoints`` (figures
    only) are COCO's 17 as x, y, visibility: 2 visible, 1 hidden by something nearer, 0 outside
    the canvas (x and y are then 0). ``holds``, ``wears``, ``inside`` and ``on`` are indices of
    things of the same scene.
    """

    kind: ThingKind
    name: str
    symbol: str
    color: str
    size: str
    texture: str
    box: Corners | None
    full_box: Corners
    center: tuple[float, float]
    depth: float
    visibility: float
    keypoints: Float32[ndarray, "17 3"] | None = None
    holds: tuple[int, ...] = ()
    wears: tuple[int, ...] = ()
    inside: int | None = None
    on: int | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture with everything that is true of it.

    ``labels`` holds the index of the front-most thing of each pixel, -1 where there is none;
    ``depth`` the distance at each pixel, always known and positive.
    """

    seed: int
    index: int
    level: str
    split: str
    size: ImageSize
    image: UInt8[ndarray, "height width 3"]
    labels: Int16[ndarray, "height width"]
    depth: Float32[ndarray, "height width"]
    things: tuple[Thing, ...]

    def mask(self, index: int) -> Bool[ndarray, "height width"]:
        """Pixels at which thing ``index`` is the front-most."""
        return np.asarray(self.labels == index)

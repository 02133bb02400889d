"""A drawn scene with exact annotations."""

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
    """One instance of a scene.

    Boxes are ``xyxy`` in pixels with exclusive edges: ``box`` of the visible part (None if wholly
    hidden, which does not occur in a scene), ``full_box`` of all pixels inside the canvas, including
    hidden ones. ``visibility`` is the visible fraction of these pixels. ``depth`` is a distance:
    smaller is nearer. Letters and digits have a ``symbol``. Figures have ``keypoints``: COCO's 17 as
    x, y, visibility (2 visible, 1 hidden by a nearer instance, 0 outside the canvas with x and y 0).
    ``holds``, ``wears``, ``inside`` and ``on`` are indices of instances of the same scene.
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
    """A picture with its exact annotations.

    ``labels`` holds the index of the front-most instance at each pixel, or -1; ``depth`` the
    distance at each pixel, always positive.
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
        """Return the visible mask of an instance: the pixels at which it is the front-most."""
        return np.asarray(self.labels == index)

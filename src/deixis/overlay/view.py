"""The canvas of a drawing: small pictures are enlarged, strokes fit the size."""

from dataclasses import dataclass
from functools import lru_cache
from math import sqrt

from PIL import ImageFont

from deixis.geometry import ImageSize

_LONGEST_ENLARGED = 2048


@lru_cache(maxsize=64)
def font(pixels: int) -> ImageFont.FreeTypeFont:
    """Return Pillow's default typeface at a height in pixels."""
    face = ImageFont.load_default(size=max(pixels, 6))
    if not isinstance(face, ImageFont.FreeTypeFont):
        raise TypeError("this build of Pillow has no FreeType, which text in overlays needs")
    return face


@dataclass(frozen=True, slots=True)
class View:
    """The mapping from source pixels to pixels of the drawing.

    ``scale`` is drawing pixels per source pixel, at least 1. ``smoothing`` is how much finer
    lines are drawn before they are averaged down; large pictures hide jagged edges by themselves.
    """

    source: ImageSize
    scale: float
    smoothing: int

    @classmethod
    def fit(cls, source: ImageSize, *, min_width: int) -> "View":
        """Enlarge to ``min_width`` if narrower, but never to a side over 2048 pixels."""
        wanted = min_width / source.width
        allowed = _LONGEST_ENLARGED / max(source.height, source.width)
        scale = max(1.0, min(wanted, allowed))
        longest = max(source.height, source.width) * scale
        return cls(source, scale, 2 if longest <= _LONGEST_ENLARGED else 1)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the drawing, as Pillow wants them."""
        return (
            max(1, round(self.source.width * self.scale)),
            max(1, round(self.source.height * self.scale)),
        )

    @property
    def stroke(self) -> float:
        """Width of a line in drawing pixels."""
        width, height = self.size
        return max(2.0, sqrt(width * height) / 210)

    @property
    def text_height(self) -> int:
        """Height of label and caption text in drawing pixels."""
        return max(13, round(self.size[0] / 34))

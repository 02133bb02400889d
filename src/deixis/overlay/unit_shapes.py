"""Drawing of units: translucent masks, outlined boxes, skeletons and points."""

from math import ceil

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from deixis.geometry import COCO_KEYPOINTS, Box, Keypoints, Mask, Point
from deixis.overlay.colors import PAPER, Color
from deixis.overlay.view import View

_MASK_OPACITY = 0.42
_HALO = (0, 0, 0, 110)

_LIMBS = (
    ("left_ankle", "left_knee"),
    ("left_knee", "left_hip"),
    ("right_ankle", "right_knee"),
    ("right_knee", "right_hip"),
    ("left_hip", "right_hip"),
    ("left_shoulder", "left_hip"),
    ("right_shoulder", "right_hip"),
    ("left_shoulder", "right_shoulder"),
    ("left_shoulder", "left_elbow"),
    ("left_elbow", "left_wrist"),
    ("right_shoulder", "right_elbow"),
    ("right_elbow", "right_wrist"),
    ("nose", "left_eye"),
    ("nose", "right_eye"),
    ("left_eye", "left_ear"),
    ("right_eye", "right_ear"),
)


def paint_mask(picture: Image.Image, mask: Mask, color: Color, view: View) -> None:
    """Tint the mask's pixels and draw its outline, on the picture itself.

    An empty mask changes nothing.
    """
    if mask.is_empty:
        return
    box = mask.to_box()
    x1, y1, x2, y2 = (int(value) for value in (box.x1, box.y1, box.x2, box.y2))
    part = Image.fromarray(mask.array[y1:y2, x1:x2].astype(np.uint8) * 255)
    left, top = round(x1 * view.scale), round(y1 * view.scale)
    extent = (
        max(1, round(x2 * view.scale) - left),
        max(1, round(y2 * view.scale) - top),
    )
    if view.scale > 1:
        # Blocks of one enlarged source pixel look like stairs; round them off.
        part = part.resize(extent, Image.Resampling.BICUBIC)
    margin = ceil(view.stroke) + 2
    whole = Image.new("L", (extent[0] + 2 * margin, extent[1] + 2 * margin), 0)
    whole.paste(part, (margin, margin))
    corner = (left - margin, top - margin)

    fill = whole.point([round(value * _MASK_OPACITY) for value in range(256)])
    picture.paste(color, corner, fill)
    picture.paste(PAPER, corner, _outline(whole, view.stroke * 1.15))
    picture.paste(color, corner, _outline(whole, view.stroke * 0.7))


def _outline(mask: Image.Image, width: float) -> Image.Image:
    # A blurred edge crosses one half exactly on the edge, and its slope there gives a distance:
    # this makes an even, smooth line in time that does not depend on its width.
    radius = max(width, 1.0)
    blurred = mask.filter(ImageFilter.GaussianBlur(radius))
    slope = 255 / (radius * 2.5066)
    reach = width / 2 * slope
    line = [
        round(255 * min(1.0, max(0.0, (reach - abs(value - 127.5)) / slope + 0.5)))
        for value in range(256)
    ]
    return blurred.point(line)


class Sketch:
    """A transparent layer over the picture for lines, smoothed when it is laid down."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._factor = view.scale * view.smoothing
        width, height = view.size
        self._layer = Image.new("RGBA", (width * view.smoothing, height * view.smoothing))
        self._draw = ImageDraw.Draw(self._layer)
        self._stroke = view.stroke * view.smoothing

    def box(self, box: Box, color: Color) -> None:
        """Outline a box; one smaller than the line still shows as a spot."""
        width, height = self._layer.size
        x1, x2 = (min(max(value * self._factor, 0), width - 1) for value in (box.x1, box.x2))
        y1, y2 = (min(max(value * self._factor, 0), height - 1) for value in (box.y1, box.y2))
        x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
        line = max(1, round(self._stroke))
        halo = max(1, round(self._stroke * 0.5))
        radius = min(line * 2, (x2 - x1) / 4, (y2 - y1) / 4)
        outer = (x1 - halo, y1 - halo, x2 + halo, y2 + halo)
        self._draw.rounded_rectangle(outer, radius + halo, outline=_HALO, width=halo)
        self._draw.rounded_rectangle((x1, y1, x2, y2), radius, outline=color, width=line)

    def point(self, point: Point, color: Color) -> None:
        """Draw a ringed dot."""
        self._disc(point.x, point.y, 2.9, _HALO)
        self._disc(point.x, point.y, 2.5, PAPER)
        self._disc(point.x, point.y, 1.7, color)

    def keypoints(self, keypoints: Keypoints, color: Color) -> None:
        """Draw joints, filled where visible and hollow where occluded, and limbs between them."""
        place = {
            name: (float(x), float(y), int(visible))
            for name, (x, y), visible in zip(
                keypoints.names, keypoints.positions, keypoints.visibility, strict=True
            )
            if visible
        }
        if keypoints.names == COCO_KEYPOINTS:
            limbs = [(place[a], place[b]) for a, b in _LIMBS if a in place and b in place]
            for width, ink in ((2.0, _HALO), (1.1, (*color, 255))):
                for a, b in limbs:
                    ends = [value * self._factor for value in (*a[:2], *b[:2])]
                    self._draw.line(ends, fill=ink, width=max(1, round(self._stroke * width)))
        for x, y, visible in place.values():
            self._disc(x, y, 1.5, PAPER)
            self._disc(x, y, 1.0, color if visible == 2 else PAPER)
            if visible != 2:
                self._ring(x, y, 1.0, color)

    def lay_on(self, picture: Image.Image) -> None:
        """Average the layer down to the picture's size and lay it on."""
        _lay(self._layer, self._view.smoothing, picture)

    def _disc(self, x: float, y: float, radius: float, ink: tuple[int, ...]) -> None:
        self._draw.ellipse(self._around(x, y, radius), fill=ink)

    def _ring(self, x: float, y: float, radius: float, ink: tuple[int, ...]) -> None:
        width = max(1, round(self._stroke * 0.5))
        self._draw.ellipse(self._around(x, y, radius), outline=ink, width=width)

    def _around(self, x: float, y: float, radius: float) -> tuple[float, float, float, float]:
        x, y, radius = x * self._factor, y * self._factor, radius * self._stroke
        return x - radius, y - radius, x + radius, y + radius


class SmoothShapes:
    """Filled rectangles with round corners, drawn finer than the picture and averaged down."""

    def __init__(self, picture: Image.Image) -> None:
        self._picture = picture
        self._layer = Image.new("RGBA", (picture.width * 2, picture.height * 2))
        self._draw = ImageDraw.Draw(self._layer)

    def bar(self, area: tuple[float, float, float, float], color: Color, radius: float = 0) -> None:
        """Fill ``area`` (xyxy, pixels of the picture)."""
        x1, y1, x2, y2 = (round(value * 2) for value in area)
        self._draw.rounded_rectangle((x1, y1, x2 - 1, y2 - 1), radius * 2, fill=color)

    def lay_on(self) -> None:
        """Average the layer down and lay it on the picture."""
        _lay(self._layer, 2, self._picture)


def _lay(layer: Image.Image, factor: int, picture: Image.Image) -> None:
    if factor > 1:
        # Premultiplied, so that empty pixels do not darken the rim of a line.
        layer = layer.convert("RGBa").reduce(factor).convert("RGBA")
    picture.paste(layer.convert("RGB"), (0, 0), layer.getchannel("A"))

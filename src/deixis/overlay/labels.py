"""Labels of units: the phrase and the score in the phrase's colour, without overlaps."""

from PIL import Image, ImageDraw

from deixis.geometry import Box
from deixis.overlay.colors import Color, text_color_on
from deixis.overlay.view import View, font

_LONGEST = 32

Rectangle = tuple[float, float, float, float]


class Labels:
    """Places tags so that they stay in the picture and, where there is room, off each other."""

    def __init__(self, picture: Image.Image, view: View) -> None:
        self._picture = picture
        self._view = view
        self._font = font(round(view.text_height * 0.9))
        self._taken: list[Rectangle] = []

    def add(self, box: Box, text: str, color: Color) -> None:
        """Draw a tag for the unit inside ``box`` (source pixels); empty text draws none."""
        shown = clean_text(text, limit=_LONGEST)
        if not shown:
            return
        draw = ImageDraw.Draw(self._picture)
        pad = max(3.0, self._view.text_height * 0.28)
        width = draw.textlength(shown, font=self._font) + 2 * pad
        ascent, descent = self._font.getmetrics()
        height = ascent + descent + pad * 0.6
        left, top = self._place(box, width, height)
        place = (left, top, left + width, top + height)
        self._taken.append(place)
        self._ground(place, color)
        middle = top + height / 2
        draw.text(
            (left + pad, middle), shown, fill=text_color_on(color), font=self._font, anchor="lm"
        )

    def _ground(self, place: Rectangle, color: Color) -> None:
        x1, y1, x2, y2 = (round(value) for value in place)
        extent = (max(x2 - x1, 1), max(y2 - y1, 1))
        fine = Image.new("L", (extent[0] * 3, extent[1] * 3), 0)
        corner = (fine.width - 1, fine.height - 1)
        ImageDraw.Draw(fine).rounded_rectangle((0, 0, *corner), extent[1] * 0.66, fill=255)
        self._picture.paste(color, (x1, y1), fine.reduce(3))

    def _place(self, box: Box, width: float, height: float) -> tuple[float, float]:
        scale, gap = self._view.scale, self._view.stroke
        x1, y1, x2, y2 = (value * scale for value in (box.x1, box.y1, box.x2, box.y2))
        right, bottom = self._view.size
        wishes = (
            (x1, y1 - height - gap),
            (x1, y2 + gap),
            (x2 - width, y1 - height - gap),
            (x2 - width, y2 + gap),
            (x1 + gap, y1 + gap),
            (x2 + gap, y1),
            (x1 - width - gap, y1),
        )
        inside = [
            (min(max(x, 0.0), max(right - width, 0.0)), min(max(y, 0.0), max(bottom - height, 0.0)))
            for x, y in wishes
        ]

        def cost(index: int) -> float:
            x, y = inside[index]
            moved = abs(x - wishes[index][0]) + abs(y - wishes[index][1])
            covered = sum(_overlap((x, y, x + width, y + height), other) for other in self._taken)
            return covered * 10 + moved * height + index

        return inside[min(range(len(inside)), key=cost)]


def clean_text(text: str, *, limit: int) -> str:
    """Return ``text`` on one line, without control characters, cut to ``limit`` characters."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    joined = " ".join(printable.split())
    return joined if len(joined) <= limit else joined[: limit - 3].rstrip() + "..."


def _overlap(a: Rectangle, b: Rectangle) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)

"""The answer's words under its picture, phrases on the colour of their units."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise

from PIL import Image, ImageDraw

from deixis.overlay.colors import FADED, INK, PAPER, phrase_color, text_color_on
from deixis.overlay.labels import clean_text
from deixis.overlay.unit_shapes import SmoothShapes
from deixis.overlay.view import font
from deixis.structures import GroundedText

_LONGEST = 1200


@dataclass(frozen=True, slots=True)
class _Piece:
    """A word or a part of one, with the phrases around it, outermost first."""

    text: str
    phrases: tuple[int, ...]
    after_space: bool


@dataclass(frozen=True, slots=True)
class _Placed:
    piece: _Piece
    order: int
    line: int
    start: float
    end: float


def caption_panel(
    grounded: GroundedText, width: int, text_height: int, *, question: str = "", note: str = ""
) -> Image.Image:
    """Return a strip of paper ``width`` pixels wide with the question, the answer and a note.

    The words of a phrase stand on its colour; a phrase around another, and one that points at
    nothing, is underlined in its own. An empty answer says so. Very long texts are cut.
    """
    face, small = font(text_height), font(round(text_height * 0.8))
    margin, line_height = text_height * 0.9, round(text_height * 1.8)
    small_height = round(text_height * 1.25)
    room = float(max(width - 2 * margin, text_height * 4))
    pad, half = text_height * 0.22, text_height * 0.72
    grounds = frozenset(i for i, phrase in enumerate(grounded.phrases) if phrase.references)
    placed = _place(_pieces(grounded), face.getlength, room, pad, grounds)
    asked = _wrap(question, small.getlength, room)
    noted = _wrap(note, small.getlength, room)

    top = round(margin) + len(asked) * small_height
    below = top + (placed[-1].line + 1 if placed else 1) * line_height
    panel = Image.new("RGB", (width, below + len(noted) * small_height + round(margin)), PAPER)
    shapes = SmoothShapes(panel)
    for index in range(len(grounded.phrases)):
        color = phrase_color(index)
        around = [item for item in placed if index in item.piece.phrases]
        for line, run in groupby(around, key=lambda item: item.line):
            items = list(run)
            middle = top + (line + 0.5) * line_height
            own = [item for item in items if item.piece.phrases[-1] == index and index in grounds]
            if len(own) < len(items):
                y, thick = middle + half + text_height * 0.1, max(2.0, text_height * 0.12)
                shapes.bar((margin + items[0].start, y, margin + items[-1].end, y + thick), color)
            for first, last in _neighbours(own):
                area = (
                    margin + first.start - pad,
                    middle - half,
                    margin + last.end + pad,
                    middle + half,
                )
                shapes.bar(area, color, radius=text_height * 0.2)
    shapes.lay_on()

    draw = ImageDraw.Draw(panel)
    for first_row, lines in ((round(margin), asked), (below, noted)):
        for row, text in enumerate(lines):
            place = (margin, first_row + (row + 0.4) * small_height)
            draw.text(place, text, FADED, small, anchor="lm")
    if not placed:
        draw.text((margin, top + line_height / 2), "(no words)", FADED, face, anchor="lm")
    for item in placed:
        behind = [phrase_color(index) for index in item.piece.phrases[-1:] if index in grounds]
        ink = text_color_on(behind[0]) if behind else INK
        place = (margin + item.start, top + (item.line + 0.5) * line_height)
        draw.text(place, item.piece.text, ink, face, anchor="lm")
    return panel


def _neighbours(items: list[_Placed]) -> Iterator[tuple[_Placed, _Placed]]:
    """Join pieces that follow one another on a line into (first, last); a gap starts anew."""
    begin = 0
    for index in range(1, len(items) + 1):
        if index == len(items) or items[index].order != items[index - 1].order + 1:
            yield items[begin], items[index - 1]
            begin = index


def _pieces(grounded: GroundedText) -> Iterator[_Piece]:
    text = grounded.text[:_LONGEST]
    edges = {0, len(text)}
    for phrase in grounded.phrases:
        edges |= {min(phrase.start, len(text)), min(phrase.end, len(text))}
    after_space = False
    for start, end in pairwise(sorted(edges)):
        inside = tuple(
            index
            for index, phrase in enumerate(grounded.phrases)
            if phrase.start <= start and end <= phrase.end
        )
        blank = "".join(c if c.isprintable() else " " for c in text[start:end])
        for part in re.findall(r"\s+|\S+", blank):
            if part.isspace():
                after_space = True
            else:
                yield _Piece(part, inside, after_space)
                after_space = False
    if len(grounded.text) > _LONGEST:
        yield _Piece("...", (), after_space=True)


def _place(
    pieces: Iterable[_Piece],
    measure: Callable[[str], float],
    room: float,
    rim: float,
    grounds: frozenset[int],
) -> tuple[_Placed, ...]:
    placed: list[_Placed] = []
    line, cursor, space = 0, 0.0, measure(" ")
    for piece in pieces:
        for part in _fitting(piece.text, measure, room):
            # Where a ground begins or ends, its rim needs room, even before a full stop.
            beside = placed[-1].piece.phrases if placed else ()
            parted = beside != piece.phrases and bool(grounds & {*beside[-1:], *piece.phrases[-1:]})
            gap = (space if piece.after_space else 0.0) + (rim if parted else 0.0)
            gap = gap if cursor else 0.0
            width = measure(part)
            if cursor + gap + width > room and cursor:
                line, cursor, gap = line + 1, 0.0, 0.0
            start = cursor + gap
            shown = _Piece(part, piece.phrases, piece.after_space)
            placed.append(_Placed(shown, len(placed), line, start, start + width))
            cursor = start + width
    return tuple(placed)


def _fitting(word: str, measure: Callable[[str], float], room: float) -> Iterator[str]:
    """Cut a word that is wider than a line."""
    while len(word) > 1 and measure(word) > room:
        count = max(1, int(len(word) * room / measure(word)) - 1)
        yield word[:count]
        word = word[count:]
    yield word


def _wrap(text: str, measure: Callable[[str], float], room: float) -> list[str]:
    lines: list[str] = []
    for word in clean_text(text, limit=_LONGEST).split():
        for part in _fitting(word, measure, room):
            longer = f"{lines[-1]} {part}" if lines else part
            if lines and measure(longer) <= room:
                lines[-1] = longer
            else:
                lines.append(part)
    return lines

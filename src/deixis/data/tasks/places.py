"""Questions about several instances by number: ``<region 3>`` in a text is instance 3."""

import re

from deixis.data.tasks.answers import BOX, Piece, unit_group, written
from deixis.data.tasks.prompts import Question
from deixis.data.tasks.rules import Rules
from deixis.structures import GroundedText, Sample

SEVERAL = "regions"
"""The kind of questions with numbered instances."""
_PLACE = re.compile(r"<region (\d{1,9})>")


def place(text: str, sample: Sample) -> int | None:
    """Return the index of the instance if the text is one ``<region N>``, else None."""
    pieces = _pieces(text.strip(), sample)
    return pieces[0] if len(pieces) == 1 and isinstance(pieces[0], int) else None


def with_boxes(text: str, sample: Sample) -> Question:
    """Return the text with each ``<region N>`` replaced by the box of the instance."""
    return tuple(
        [
            sample.instances[piece].box if isinstance(piece, int) else piece
            for piece in _pieces(text, sample)
        ]
    )


def with_phrases(text: str, sample: Sample, rules: Rules) -> GroundedText:
    """Return the text with each ``<region N>`` replaced by the class, grounded on the box."""
    pieces: list[Piece] = []
    before = ""
    for piece in _pieces(text, sample):
        if isinstance(piece, str):
            pieces.append(piece)
            before = piece.rstrip()
            continue
        group = unit_group(sample, [piece], BOX, rules)
        name = sample.instances[piece].category
        starts = not before or before.endswith((".", "?", "!"))
        pieces += ["The " if starts else "the ", name if group is None else (name, group)]
        before = name
    return written(pieces)


def _pieces(text: str, sample: Sample) -> list[str | int]:
    """Split a text into words and instance indices; an unknown index stays text."""
    pieces: list[str | int] = []
    end = 0
    for match in _PLACE.finditer(text):
        index = int(match[1])
        if index < len(sample.instances):
            if match.start() > end:
                pieces.append(text[end : match.start()])
            pieces.append(index)
            end = match.end()
    if end < len(text):
        pieces.append(text[end:])
    return pieces

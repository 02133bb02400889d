"""The markers of every notation, and surface text as pieces of words and markers."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum


class Marker(StrEnum):
    """A control token of a notation, or a placeholder of a prompt."""

    PHRASE_OPEN = "<Phrase>"
    PHRASE_CLOSE = "</Phrase>"
    UNIT_OPEN = "<Unit>"
    UNIT_CLOSE = "</Unit>"
    REFERENCE = "<REF>"
    TASK_OPEN = "<Task>"
    TASK_CLOSE = "</Task>"
    TAG_OPEN = "<tag>"
    TAG_CLOSE = "</tag>"
    LOCATION = "<LOC>"
    SEGMENT = "<SEG>"
    IMAGE = "<image>"
    REGION = "<region>"
    EXPRESSION_OPEN = "<ref>"
    EXPRESSION_CLOSE = "</ref>"
    BOX_OPEN = "<loc>"
    BOX_CLOSE = "</loc>"
    IMAGE_OPEN = "<img_beg>"
    IMAGE_CLOSE = "</img_end>"
    VIDEO_OPEN = "<vid_beg>"
    VIDEO_CLOSE = "</vid_end>"


FRAMES = frozenset({Marker.IMAGE_OPEN, Marker.IMAGE_CLOSE, Marker.VIDEO_OPEN, Marker.VIDEO_CLOSE})
"""Markers that a tokenizer has only if its notation spells them."""


def spellings(notation: Mapping[Marker, str] | None = None) -> dict[Marker, str]:
    """Return the markers of a tokenizer and their spelling, by default or by a notation."""
    known = notation or {}
    return {
        marker: known.get(marker, marker.value)
        for marker in Marker
        if marker not in FRAMES or marker in known
    }


def split_markers(raw: str, spelling: Mapping[Marker, str]) -> list[Marker | str]:
    """Cut surface text into literal text and the markers that ``spelling`` spells.

    Text that looks like a marker becomes one: use this for the text of models and published data
    sets, never for a person's words. Empty text gives no pieces.
    """
    markers = {text: marker for marker, text in spelling.items()}
    pattern = re.compile("|".join(re.escape(text) for text in markers))
    pieces: list[Marker | str] = []
    end = 0
    for match in pattern.finditer(raw):
        if match.start() > end:
            pieces.append(raw[end : match.start()])
        pieces.append(markers[match.group()])
        end = match.end()
    if end < len(raw):
        pieces.append(raw[end:])
    return pieces


def join_pieces(pieces: Iterable[Marker | str], spelling: Mapping[Marker, str]) -> str:
    """Return pieces as surface text; a marker that ``spelling`` lacks is spelled by its value."""
    return "".join(spelled(piece, spelling) for piece in pieces)


def spelled(piece: Marker | str, spelling: Mapping[Marker, str]) -> str:
    """Return the surface text of one piece."""
    return spelling.get(piece, piece.value) if isinstance(piece, Marker) else piece


def gaps_and_markers(
    pieces: Sequence[Marker | str], spelling: Mapping[Marker, str]
) -> Iterator[tuple[str, Marker | None, int]]:
    """Yield each marker with the literal text before it and its character offset.

    Neighbouring text pieces are joined, so that the result does not depend on tokenisation. The last
    item has no marker and the remaining text.
    """
    words: list[str] = []
    offset = 0
    for piece in pieces:
        if isinstance(piece, Marker):
            yield "".join(words), piece, offset
            words.clear()
        else:
            words.append(piece)
        offset += len(spelled(piece, spelling))
    yield "".join(words), None, offset

"""What a question's tags speak of: ``<ref>words</ref>`` and ``<loc>[x1,y1,x2,y2]</loc>`` (TAMP 2.2).

Tags are markers, never characters: what a person typed stays text, whatever it looks like. Words
in, a box out is grounding; a box in, words out is referring. The tag alone decides, not the task.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from deixis.errors import NotationError
from deixis.geometry import Box, ImageSize, Point
from deixis.notation.coordinates import Coordinates
from deixis.notation.vocabulary import Marker

_CLOSES = {
    Marker.EXPRESSION_OPEN: Marker.EXPRESSION_CLOSE,
    Marker.BOX_OPEN: Marker.BOX_CLOSE,
}


@dataclass(frozen=True, slots=True)
class TaggedRegion:
    """A region that a question speaks of: words, or a box or point in pixels.

    ``end`` is the place in the pieces right after its closing tag.
    """

    region: str | Box | Point
    end: int


def read_tags(pieces: Sequence[Marker | str], size: ImageSize) -> tuple[TaggedRegion, ...]:
    """Find the tagged regions of a question about an image of ``size``, in order.

    A question without tags has none: nothing but the image as a whole goes with it.

    Raises:
        NotationError: A tag is not closed, closes what is not open, lies in another or is empty,
            or what stands between ``<loc>`` and ``</loc>`` is neither a box nor a point.
    """
    found: list[TaggedRegion] = []
    opened: Marker | None = None
    words: list[str] = []
    for place, piece in enumerate(pieces):
        # a marker equals its spelling, so what is no marker is set apart first
        if not isinstance(piece, Marker):
            words.append(piece)
        elif opened is None:
            if piece in _CLOSES.values():
                raise NotationError(f"{piece} at piece {place} closes no tag")
            opened = piece if piece in _CLOSES else None
            words.clear()
        elif piece is _CLOSES[opened]:
            found.append(TaggedRegion(_content(opened, "".join(words).strip(), size), place + 1))
            opened = None
        else:
            raise NotationError(f"{piece} at piece {place} lies inside {opened}")
    if opened is not None:
        raise NotationError(f"{opened} is not closed")
    return tuple(found)


def place_regions(
    pieces: Sequence[Marker | str], tags: Sequence[TaggedRegion], *, num_tokens: int
) -> tuple[Marker | str, ...]:
    """Put ``num_tokens`` placeholders ``<region>`` right after each tagged region."""
    ends = {tag.end for tag in tags}
    placed: list[Marker | str] = []
    for place, piece in enumerate(pieces, start=1):
        placed.append(piece)
        if place in ends:
            placed += [Marker.REGION] * num_tokens
    return tuple(placed)


def _content(tag: Marker, text: str, size: ImageSize) -> str | Box | Point:
    if not text:
        raise NotationError(f"nothing stands between {tag} and {_CLOSES[tag]}")
    return text if tag is Marker.EXPRESSION_OPEN else Coordinates().read_region(text, size)

"""How regions stand in questions: numbers or words between tags, and places for tokens of their own.

Tags are markers, never characters: what a person typed stays text, whatever it looks like.
"""

from dataclasses import dataclass

from deixis.geometry import ImageSize
from deixis.notation.coordinates import Coordinates
from deixis.notation.vocabulary import Marker
from deixis.structures import Description, Region


@dataclass(frozen=True, slots=True)
class RegionForm:
    """How the regions of one type are written in a question.

    Args:
        num_tokens: Places for the vectors of a region encoder, `<region>` each; none for a region
            that is only spelled out.
        spelled: Whether what is drawn is spelled out as numbers before them (Pink 3.1).
        tags: Whether tags stand around words and numbers: ``<ref>words</ref>`` and
            ``<loc>[x1,y1,x2,y2]</loc>`` (TAMP 2.2).
        decimals: Decimals of the numbers.
    """

    num_tokens: int = 1
    spelled: bool = False
    tags: bool = False
    decimals: int = 3

    def write(self, region: Region | Description, size: ImageSize) -> tuple[Marker | str, ...]:
        """Write a region of an image of ``size``.

        Raises:
            NotationError: A drawn region is spelled out, and no part of it lies in the image.
        """
        places = (Marker.REGION,) * self.num_tokens
        if isinstance(region, Description):
            if not self.tags:
                return (str(region), *places)
            return (Marker.EXPRESSION_OPEN, str(region), Marker.EXPRESSION_CLOSE, *places)
        if not self.spelled:
            return places
        numbers = Coordinates(marks=self.tags, decimals=self.decimals)
        return (*numbers.write_region(region, size), *places)

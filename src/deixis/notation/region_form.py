"""The written form of regions in questions: numbers or words between tags, and region tokens.

Tags are markers, never characters: text that a person typed stays text even if it looks like a tag.
"""

from dataclasses import dataclass

from deixis.geometry import ImageSize
from deixis.notation.coordinates import Coordinates
from deixis.notation.markers import Marker
from deixis.structures import Description, Region


@dataclass(frozen=True, slots=True)
class RegionForm:
    """The written form of the regions of one type.

    Args:
        num_tokens: Number of `<region>` tokens for the vectors of a region encoder; 0 for a region
            that is only spelled out.
        spelled: Whether a drawn region is spelled out as numbers before them (Pink 3.1).
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
            NotationError: A region to be spelled out lies outside the image.
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

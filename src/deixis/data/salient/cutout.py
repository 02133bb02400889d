"""A thing on a neutral background, so that whoever describes it speaks of nothing else."""

import math
from dataclasses import dataclass

import numpy as np

from deixis.errors import GeometryError
from deixis.geometry import Box, Mask
from deixis.structures import ImageArray

NEUTRAL = 128
"""The grey around a cut-out, in every channel."""
MARGIN = 0.1
"""Room around the thing in a crop, as a share of the longer side of its box."""


@dataclass(frozen=True, slots=True, eq=False)
class Cutout:
    """An image of which one thing is left, and the box around the thing, in its pixels."""

    image: ImageArray
    box: Box

    def cropped(self) -> ImageArray:
        """The thing with a little room around it, as far as the image goes."""
        height, width = self.image.shape[:2]
        room = MARGIN * max(self.box.width, self.box.height)
        left, top = max(0, math.floor(self.box.x1 - room)), max(0, math.floor(self.box.y1 - room))
        right = min(width, math.ceil(self.box.x2 + room))
        bottom = min(height, math.ceil(self.box.y2 + room))
        return np.ascontiguousarray(self.image[top:bottom, left:right])


def cut_out(image: ImageArray, mask: Mask) -> Cutout:
    """Leave the pixels of a mask and make all others grey.

    Raises:
        GeometryError: The mask is empty, or of another size than the image.
    """
    if tuple(mask.size) != image.shape[:2]:
        raise GeometryError(
            f"mask: expected the image's size {image.shape[1]}x{image.shape[0]}, got {mask.size}"
        )
    box = mask.to_box()
    kept = np.where(mask.array[..., None], image, np.uint8(NEUTRAL))
    return Cutout(np.asarray(kept, np.uint8), box)

"""Cuts out an instance onto a neutral background, so that a captioner describes nothing else."""

import math
from dataclasses import dataclass

import numpy as np

from deixis.errors import GeometryError
from deixis.geometry import Box, Mask
from deixis.structures import ImageArray

NEUTRAL = 128
"""Grey value around a cut-out, in every channel."""
MARGIN = 0.1
"""Margin of a crop, as a share of the longer side of the instance's box."""


@dataclass(frozen=True, slots=True, eq=False)
class Cutout:
    """An image that shows one instance, and the instance's box in pixels of the image."""

    image: ImageArray
    box: Box

    def cropped(self) -> ImageArray:
        """Return the instance with a margin, clipped to the image."""
        height, width = self.image.shape[:2]
        room = MARGIN * max(self.box.width, self.box.height)
        left, top = max(0, math.floor(self.box.x1 - room)), max(0, math.floor(self.box.y1 - room))
        right = min(width, math.ceil(self.box.x2 + room))
        bottom = min(height, math.ceil(self.box.y2 + room))
        return np.ascontiguousarray(self.image[top:bottom, left:right])


def cut_out(image: ImageArray, mask: Mask) -> Cutout:
    """Keep the pixels of a mask and make all others grey.

    Raises:
        GeometryError: The mask is empty or has another size than the image.
    """
    if tuple(mask.size) != image.shape[:2]:
        raise GeometryError(
            f"mask: expected the image's size {image.shape[1]}x{image.shape[0]}, got {mask.size}"
        )
    box = mask.to_box()
    kept = np.where(mask.array[..., None], image, np.uint8(NEUTRAL))
    return Cutout(np.asarray(kept, np.uint8), box)

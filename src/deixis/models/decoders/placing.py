"""From the canvas to source pixels.

The canvas is a square that holds the image centred and scaled to fit (`deixis.geometry.Letterbox`);
decoders give coordinates in [0, 1] of it. So a canvas of the image's longer side has scale 1.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from deixis.geometry import Box, ImageSize, Letterbox


def points_at_source(points: Float[Tensor, "*n 2"], size: ImageSize) -> Float[Tensor, "*n 2"]:
    """Points (x, y) in [0, 1] of the canvas, in pixels of an image of ``size``, unclipped."""
    letterbox = Letterbox(size, max(size))
    offset = torch.tensor(letterbox.offset, dtype=torch.float64)
    return points.detach().cpu().double() * letterbox.canvas - offset


def box_at_source(box: Float[Tensor, " 4"], size: ImageSize) -> Box:
    """A box (cxcywh in [0, 1] of the canvas) on an image of ``size``, clipped to it.

    Raises:
        GeometryError: It is not finite, is empty or lies outside the image.
    """
    letterbox = Letterbox(size, max(size))
    x, y, width, height = (box.detach().cpu().double() * letterbox.canvas).tolist()
    corners = np.array([[x - width / 2, y - height / 2, x + width / 2, y + height / 2]])
    placed = letterbox.invert_boxes(corners)[0]
    return Box(*(float(value) for value in placed)).clip(size)


def map_at_source(
    values: Float[Tensor, "h w"], size: ImageSize, *, extent: tuple[float, float] | None = None
) -> Float[Tensor, "height width"]:
    """Sample a map at the centre of every source pixel, bilinearly.

    Args:
        values: A map over a square canvas.
        size: Extent of the source image.
        extent: The share of the canvas (of its height, of its width) that the image fills from
            the top left; without it the image lies centred, as a letterbox has it.
    """
    longest = max(size)
    height, width = size
    if extent is None:
        rows = (torch.arange(height) + 0.5 + (longest - height) / 2) / longest
        columns = (torch.arange(width) + 0.5 + (longest - width) / 2) / longest
    else:
        rows = (torch.arange(height) + 0.5) / height * extent[0]
        columns = (torch.arange(width) + 0.5) / width * extent[1]
    places = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], dim=-1) * 2 - 1
    sampled = functional.grid_sample(
        values.detach()[None, None].float().cpu(),
        places[None].float(),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return sampled[0, 0]

"""Conversion of predictions from the canvas to source pixels.

The canvas is a square with the image scaled to fit (`deixis.geometry.Letterbox`); decoders predict
coordinates in [0, 1] of it.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from deixis.errors import GeometryError
from deixis.geometry import Box, ImageSize, Letterbox, Mask


def points_at_source(points: Float[Tensor, "*n 2"], letterbox: Letterbox) -> Float[Tensor, "*n 2"]:
    """Convert points (x, y) in [0, 1] of the canvas to pixels of the source image, unclipped."""
    offset = torch.tensor(letterbox.offset, dtype=torch.float64)
    placed = points.detach().cpu().double() * letterbox.canvas - offset
    return placed / letterbox.scale


def box_at_source(box: Float[Tensor, " 4"], letterbox: Letterbox) -> Box:
    """Convert a box (cxcywh in [0, 1] of the canvas) to source pixels, clipped to the image.

    Raises:
        GeometryError: The box is not finite, is empty or lies outside the image.
    """
    x, y, width, height = (box.detach().cpu().double() * letterbox.canvas).tolist()
    corners = np.array([[x - width / 2, y - height / 2, x + width / 2, y + height / 2]])
    placed = letterbox.invert_boxes(corners)[0]
    return Box(*(float(value) for value in placed)).clip(letterbox.source)


def mask_at_source(logits: Float[Tensor, "h w"], letterbox: Letterbox) -> Mask:
    """Convert a map of logits over the canvas to a mask of the source image.

    Raises:
        GeometryError: The mask is empty.
    """
    return whole_mask(map_at_source(logits, letterbox))


def whole_mask(logits: Float[Tensor, "height width"]) -> Mask:
    """Return the mask of the pixels with a positive logit.

    Raises:
        GeometryError: No logit is positive.
    """
    mask = Mask(logits.numpy() > 0)
    if mask.is_empty:
        raise GeometryError("mask is empty")
    return mask


def map_at_source(
    values: Float[Tensor, "h w"], letterbox: Letterbox
) -> Float[Tensor, "height width"]:
    """Sample a map over the canvas at the centre of every source pixel, bilinearly."""
    left, top = letterbox.offset
    scale, canvas = letterbox.scale, letterbox.canvas
    height, width = letterbox.source
    columns = ((torch.arange(width) + 0.5) * scale + left) / canvas
    rows = ((torch.arange(height) + 0.5) * scale + top) / canvas
    return _sampled(values, rows, columns)


def framed_map_at_source(
    values: Float[Tensor, "h w"], size: ImageSize, *, extent: tuple[float, float]
) -> Float[Tensor, "height width"]:
    """Sample a map over a square frame, which the image fills from the top left.

    Args:
        values: A map over the frame.
        size: Extent of the source image.
        extent: The shares of the frame's height and width that the image fills.
    """
    height, width = size
    rows = (torch.arange(height) + 0.5) / height * extent[0]
    columns = (torch.arange(width) + 0.5) / width * extent[1]
    return _sampled(values, rows, columns)


def _sampled(
    values: Float[Tensor, "h w"], rows: Float[Tensor, " height"], columns: Float[Tensor, " width"]
) -> Float[Tensor, "height width"]:
    # grid_sample takes coordinates in [-1, 1]
    places = torch.stack(torch.meshgrid(rows * 2 - 1, columns * 2 - 1, indexing="ij")[::-1], dim=-1)
    sampled = functional.grid_sample(
        values.detach()[None, None].float().cpu(),
        places[None].float(),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return sampled[0, 0]

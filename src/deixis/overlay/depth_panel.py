"""A depth map as a panel beside the picture: light is near, dark is far."""

import numpy as np
from PIL import Image, ImageDraw

from deixis.geometry import DepthMap
from deixis.overlay.colors import INK, PAPER, UNKNOWN, depth_colors
from deixis.overlay.view import View, font


def depth_panel(depth: DepthMap, view: View) -> Image.Image:
    """Return a panel of the picture's size, with the nearest and farthest value written on it.

    Unknown depth (0) is grey. A map without any known value is grey throughout.
    """
    known = depth.values > 0
    colors = np.empty((*depth.values.shape, 3), np.uint8)
    colors[:] = UNKNOWN
    legend = "depth unknown"
    if known.any():
        # outliers must not flatten all other values into one colour
        near, far = (float(value) for value in np.percentile(depth.values[known], (1, 99)))
        span = max(far - near, 1e-6)
        colors[known] = depth_colors((depth.values.astype(np.float64) - near) / span)[known]
        unit = " m" if depth.kind == "metric" else ""
        legend = f"near {near:.2g}{unit}   far {far:.2g}{unit}"
    panel = Image.fromarray(colors).resize(view.size, Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(panel)
    face = font(round(view.text_height * 0.85))
    margin = view.text_height * 0.5
    place = (margin, view.size[1] - margin)
    area = draw.textbbox(place, legend, face, anchor="lb")
    pad = margin * 0.5
    draw.rounded_rectangle(
        (area[0] - pad, area[1] - pad, area[2] + pad, area[3] + pad), radius=pad, fill=PAPER
    )
    draw.text(place, legend, INK, face, anchor="lb")
    return panel

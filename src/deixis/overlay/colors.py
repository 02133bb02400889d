"""Colours: one for each phrase, and a ramp for depth."""

import numpy as np
from jaxtyping import Float, UInt8

Color = tuple[int, int, int]

PHRASE_COLORS: tuple[Color, ...] = (
    (235, 72, 82),
    (38, 132, 255),
    (0, 168, 107),
    (255, 159, 28),
    (148, 87, 235),
    (0, 178, 202),
    (240, 84, 163),
    (128, 150, 20),
)
PAPER: Color = (255, 255, 255)
INK: Color = (24, 28, 36)
FADED: Color = (112, 120, 134)
UNKNOWN: Color = (92, 96, 104)

# Near is light and warm, far is dark and cold; luminance falls all the way, so it reads in grey.
_DEPTH_STOPS = np.array(
    [
        (253, 244, 190),
        (254, 196, 110),
        (244, 128, 92),
        (200, 68, 118),
        (132, 46, 140),
        (66, 36, 118),
        (14, 14, 48),
    ],
    np.float64,
)


def phrase_color(index: int) -> Color:
    """Return the colour of the phrase at ``index`` of an answer; they repeat after eight."""
    return PHRASE_COLORS[index % len(PHRASE_COLORS)]


def text_color_on(ground: Color) -> Color:
    """Return black or white, whichever is easier to read on ``ground``."""
    red, green, blue = ((channel / 255) ** 2.2 for channel in ground)
    return INK if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.3 else PAPER


def mix(first: Color, second: Color, share: float) -> Color:
    """Return ``first`` with ``share`` of it replaced by ``second``."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def depth_colors(farness: Float[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width 3"]:
    """Return colours for values from 0 (near) to 1 (far)."""
    place = np.clip(farness, 0.0, 1.0)
    stops = np.linspace(0.0, 1.0, len(_DEPTH_STOPS))
    channels = [np.interp(place, stops, _DEPTH_STOPS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)

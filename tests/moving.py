"""Videos for tests: the number of a frame can be read from its pixels."""

from pathlib import Path
from typing import Any

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from deixis.structures import FrameArray

CODECS = {".mp4": "libx264", ".webm": "libvpx-vp9", ".mkv": "libx264"}
BOTTOM, STEP = 30, 10


def numbered(count: int, *, width: int = 64, height: int = 48) -> FrameArray:
    """Return grey frames, each lighter than the previous one, with a red corner at the top left."""
    frames = np.empty((count, height, width, 3), np.uint8)
    frames[:] = (BOTTOM + STEP * np.arange(count))[:, None, None, None]
    frames[:, : height // 3, : width // 3] = (220, 20, 20)
    return frames


def numbers(frames: FrameArray) -> list[int]:
    """Return the numbers of `numbered` frames, in any orientation."""
    height, width = frames.shape[1:3]
    middle = frames[:, height // 2 - 2 : height // 2 + 2, width // 2 - 2 : width // 2 + 2]
    return [round((float(one.mean()) - BOTTOM) / STEP) for one in middle]


def red_corner(frame: UInt8[np.ndarray, "height width 3"]) -> str:
    """Return which corner is red."""
    corners = {"top left": (4, 4), "top right": (4, -5), "bottom left": (-5, 4)}
    corners["bottom right"] = (-5, -5)
    found = [name for name, (y, x) in corners.items() if int(frame[y, x, 0]) - frame[y, x, 1] > 90]
    return found[0]


def write_video(
    path: Path,
    frames: FrameArray,
    *,
    rate: int = 10,
    rotation: int = 0,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    at: list[int] | None = None,
) -> Path:
    """Write an MP4, WebM or Matroska file; ``at`` are the times of the frames, in frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream: Any = container.add_stream(CODECS[path.suffix], rate=rate, options=options or {})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        for number, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            frame.pts = number if at is None else at[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_gif(path: Path, frames: FrameArray, *, delays: list[int] | int = 100) -> Path:
    """Write a GIF; delays are milliseconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [Image.fromarray(frame) for frame in frames]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=delays, loop=0)
    return path

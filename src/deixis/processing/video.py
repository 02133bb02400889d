"""Read frames of a video, spread evenly over it, as upright RGB pixels.

The frames are those that a player shows at evenly spaced times, from the first frame to the last; if
all frames have the same duration, their numbers are evenly spaced. Only these frames are kept, so
memory does not grow with the length of a video. The same file always has the same frames.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from deixis.errors import ImageError
from deixis.geometry import ImageSize
from deixis.media.video_files import (
    DEFAULT_LIMITS,
    GifFrames,
    OpenVideo,
    VideoError,
    VideoHeader,
    VideoLimits,
    check_count,
    damaged,
    is_cut_short,
    opened_video,
    read_video_header,
    shown_name,
    too_large,
)
from deixis.structures import FrameArray, ImageArray, Video

__all__ = [
    "NUM_FRAMES",
    "LoadedVideo",
    "VideoError",
    "VideoHeader",
    "VideoLimits",
    "read_video",
    "read_video_header",
    "spread",
]

NUM_FRAMES = 8
"""Default number of frames to read."""
_MOST_FRAMES = 1024
_MOST_PIXELS = 2**28
"""The most pixels of all requested frames together."""


@dataclass(frozen=True, slots=True)
class LoadedVideo:
    """Frames of a video, upright, RGB, in order.

    ``times`` are the seconds from the first frame at which each frame appears; None for a drawn
    video without a duration.
    """

    frames: FrameArray
    times: tuple[float, ...] | None
    name: str
    format: str

    @property
    def size(self) -> ImageSize:
        """Size of the upright frames."""
        return ImageSize(self.frames.shape[1], self.frames.shape[2])


def read_video(
    source: Video | Path | str | bytes,
    *,
    num_frames: int = NUM_FRAMES,
    limits: VideoLimits = DEFAULT_LIMITS,
) -> LoadedVideo:
    """Read frames that are spread evenly from the first frame of a video to the last.

    With ``num_frames`` 1, the middle frame is read. If a video has fewer frames than requested,
    frames are repeated. Transparent pixels are blended with white.

    Raises:
        ImageError: The video is missing, not a regular file, empty, of another format or codec,
            damaged or beyond the limits, or more than 1024 frames or 2^28 pixels are requested.
        RecipeError: The video is not a GIF, and the extra ``video`` is not installed.
    """
    if not 1 <= num_frames <= _MOST_FRAMES:
        raise ImageError(f"{num_frames} frames of a video: expected 1 to {_MOST_FRAMES}")
    content = source.content if isinstance(source, Video) else source
    if isinstance(content, str):
        content = Path(content)
    if callable(content):
        seconds = source.seconds if isinstance(source, Video) else None
        return _drawn(content(), str(content), seconds, num_frames)
    with opened_video(content, limits=limits) as video:
        if isinstance(video, GifFrames):
            name = f"<{len(content)} bytes>" if isinstance(content, bytes) else shown_name(content)
            _check_wanted(name, num_frames, video.size)
            return _read_gif(video, name, num_frames)
        _check_wanted(video.name, num_frames, video.header.size)
        return _read_stream(video, num_frames, limits)


def spread(first: int, last: int, count: int) -> list[int]:
    """Return ``count`` evenly spaced integers from first to last; the middle one if ``count`` is 1.

    >>> spread(0, 19, 5), spread(3, 9, 1)
    ([0, 4, 9, 14, 19], [6])
    """
    if count == 1:
        return [first + (last - first) // 2]
    return [first + (last - first) * step // (count - 1) for step in range(count)]


def _check_wanted(name: str, count: int, size: ImageSize) -> None:
    if count * size.area > _MOST_PIXELS:
        raise too_large(name, f"{count} frames of {size} wanted, expected fewer or smaller ones")


def _drawn(frames: FrameArray, name: str, seconds: float | None, count: int) -> LoadedVideo:
    total = len(frames)
    if not total:
        raise damaged(name, "no frame")
    chosen = spread(0, total - 1, count)
    times = None if seconds is None else tuple(seconds * number / total for number in chosen)
    return LoadedVideo(np.ascontiguousarray(frames[chosen]), times, name, "drawn")


def _read_gif(gif: GifFrames, name: str, count: int) -> LoadedVideo:
    starts = [0]
    for delay in gif.delays[:-1]:
        starts.append(starts[-1] + delay)
    chosen = [bisect_right(starts, time) - 1 for time in spread(0, starts[-1], count)]
    frames = np.empty((count, *gif.size, 3), np.uint8)
    try:
        with Image.open(BytesIO(gif.data), formats=("GIF",)) as image:
            # each frame is drawn over those before it
            for number in range(chosen[-1] + 1):
                image.seek(number)
                if image.size != (gif.size.width, gif.size.height):
                    raise damaged(name, f"frame {number} is {image.width}x{image.height} pixels")
                if number in chosen:
                    frames[[place == number for place in chosen]] = _on_white(image)
    except (
        OSError,
        ValueError,
        EOFError,
        SyntaxError,
        IndexError,
        Image.DecompressionBombError,
    ) as error:
        raise damaged(name, error) from error
    return LoadedVideo(frames, tuple(starts[number] / 1000 for number in chosen), name, "gif")


def _on_white(image: Image.Image) -> ImageArray:
    ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
    ground.alpha_composite(image.convert("RGBA"))
    return np.asarray(ground.convert("RGB"))


def _read_stream(video: OpenVideo, count: int, limits: VideoLimits) -> LoadedVideo:
    line = _timeline(video, limits)
    step = video.stream.time_base
    if is_cut_short(video, float((line.end - line.first) * step), line.frames):
        raise damaged(video.name, "cut short")
    reader = _Frames(video, line.keys)
    frames = np.empty((count, *video.header.size, 3), np.uint8)
    times: list[float] = []
    previous: Any = None
    for number, target in enumerate(spread(line.first, line.last, count)):
        frame = reader.at(target)
        # a short video repeats frames
        frames[number] = frames[number - 1] if frame is previous else _upright(frame, video)
        times.append(max(0.0, float((frame.pts - line.first) * step)))
        previous = frame
    return LoadedVideo(frames, tuple(times), video.name, video.header.format)


class _Timeline(NamedTuple):
    """Start of the first and the last frame, end of the last frame, and number of frames.

    ``keys`` are the times of key frames.
    """

    first: int
    last: int
    end: int
    frames: int
    keys: Sequence[int]


def _timeline(video: OpenVideo, limits: VideoLimits) -> _Timeline:
    """Read all packets without decoding, since headers may have a wrong number of frames."""
    keys: list[int] = []
    count = 0
    line: _Timeline | None = None
    video.container.seek(0, stream=video.stream)
    for packet in video.container.demux(video.stream):
        if packet.is_corrupt:
            raise damaged(video.name, "cut short")
        time = packet.pts
        if time is None or not packet.size:
            continue
        count += 1
        check_count(video.name, count, video.header.stored, limits)
        if packet.is_keyframe:
            keys.append(time)
        if not packet.is_discard:
            end = time + (packet.duration or 0)
            first, last, known = line[:3] if line is not None else (time, time, end)
            line = _Timeline(min(first, time), max(last, time), max(known, end), count, keys)
    if line is None:
        raise damaged(video.name, "no frame has a time")
    keys.sort()
    return line


class _Frames:
    """The frames on screen at given times, requested in ascending order."""

    def __init__(self, video: OpenVideo, keys: Sequence[int]) -> None:
        self.video = video
        self.keys = keys
        self.coming: Any = None
        self.shown: Any = None
        self.frames: Iterator[Any] = iter(())
        self._start(keys[0] if keys else 0)

    def at(self, time: int) -> Any:
        """Return the frame on screen at a time; the first frame before its start."""
        key = bisect_right(self.keys, time) - 1
        if key >= 0 and self.coming is not None and self.keys[key] > self.coming.pts:
            self._start(self.keys[key])
            if self.coming is not None and self.coming.pts > time:
                # the seek went too far: decode from the start
                self._start(self.keys[0])
        while self.coming is not None and (self.shown is None or self.coming.pts <= time):
            self.shown = self.coming
            self.coming = self._next()
        if self.shown is None:
            raise damaged(self.video.name, "no frame")
        return self.shown

    def _start(self, time: int) -> None:
        self.video.container.seek(time, stream=self.video.stream)
        self.frames = self.video.container.decode(self.video.stream)
        self.shown = None
        self.coming = self._next()

    def _next(self) -> Any:
        frame = next(self.frames, None)
        if frame is None:
            return None
        size = ImageSize(frame.height, frame.width)
        if frame.is_corrupt or frame.pts is None or size != self.video.header.stored:
            raise damaged(self.video.name, f"a frame of {size} is incomplete")
        return frame


def _upright(frame: Any, video: OpenVideo) -> UInt8[np.ndarray, "height width 3"]:
    pixels = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, video.header.rotation // 90))

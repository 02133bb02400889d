"""Video files: their kind, their headers, and access to their frames.

The content decides the kind of a file, never its name: GIF, MP4 (and MOV, which has the same structure)
or WebM (and Matroska). FFmpeg gets the kind of the container and an open file, so no content can make it
open another file. Sizes are those of the **upright** frame, as a player shows it. Pixels are treated as
square.
"""

import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from deixis.errors import ImageError, RecipeError
from deixis.geometry import ImageSize

_ATTACHED_PICTURE = 0x400
"""FFmpeg's flag for a stream that is a cover image."""
CODECS = frozenset({"av1", "h264", "hevc", "mpeg4", "vp8", "vp9"})
_EXPECTED = "MP4, WebM or GIF"
_BRIEF = 20
"""Milliseconds; a shorter delay of a GIF frame is replaced by `_USUAL`, as viewers do."""
_USUAL = 100
_CUT_SHARE, _CUT_SECONDS = 0.25, 0.5
"""A video is truncated if it ends earlier than its header says by more than both of these and two frames."""


@dataclass(frozen=True, slots=True)
class VideoLimits:
    """Limits of a video. A GIF, which is read into memory, may have ``gif_bytes``."""

    num_bytes: int = 512 * 2**20
    gif_bytes: int = 64 * 2**20
    side: int = 8192
    pixels: int = 2**23
    seconds: float = 3600.0
    num_frames: int = 100_000
    all_pixels: int = 2**37


DEFAULT_LIMITS = VideoLimits()


class VideoError(ImageError):
    """A video cannot be used; ``code`` is the reason code for the quarantine."""

    def __init__(self, code: str, name: str, what: str) -> None:
        super().__init__(f"video {name}: {what}")
        self.code = code
        self.name = name
        self.what = what

    def __reduce__(self) -> tuple[type["VideoError"], tuple[str, str, str]]:
        return VideoError, (self.code, self.name, self.what)


@dataclass(frozen=True, slots=True)
class VideoHeader:
    """Facts from the header of a video.

    ``rotation`` is the anticlockwise angle in degrees that turns a stored frame upright. ``num_frames``
    and ``seconds`` are None if the header does not have them.
    """

    format: str
    stored: ImageSize
    rotation: int = 0
    num_frames: int | None = None
    seconds: float | None = None

    @property
    def size(self) -> ImageSize:
        """Size of the upright frames."""
        height, width = self.stored
        return ImageSize(width, height) if self.rotation % 180 else self.stored


class GifFrames(NamedTuple):
    """The bytes of a GIF, and the duration of each frame in milliseconds."""

    data: bytes
    size: ImageSize
    delays: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OpenVideo:
    """An open MP4 or WebM: FFmpeg's container and stream, and the header.

    ``failures`` are the exceptions that FFmpeg raises for damaged data.
    """

    name: str
    header: VideoHeader
    container: Any
    stream: Any
    failures: tuple[type[Exception], ...]


def read_video_header(source: Path | bytes, *, limits: VideoLimits = DEFAULT_LIMITS) -> VideoHeader:
    """Read and check the header of an untrusted video.

    For an MP4 or WebM, one frame is decoded, because only that shows the rotation. For a GIF, all blocks
    are walked over, and none is decoded.

    Raises:
        VideoError: The file is missing, not a regular file, empty, damaged, of another format or codec,
            or beyond the limits.
        RecipeError: The file is not a GIF, and the extra ``video`` is not installed.
    """
    with opened_video(source, limits=limits) as video:
        if isinstance(video, OpenVideo):
            return video.header
        seconds = sum(video.delays) / 1000
        return VideoHeader("gif", video.size, 0, len(video.delays), seconds)


@contextmanager
def opened_video(
    source: Path | bytes, *, limits: VideoLimits = DEFAULT_LIMITS
) -> Iterator[OpenVideo | GifFrames]:
    """Check the header of a video and keep the video open in a ``with`` block.

    Raises:
        VideoError: As for `read_video_header`, and if FFmpeg finds damaged data inside the block.
        RecipeError: As for `read_video_header`.
    """
    name = f"<{len(source)} bytes>" if isinstance(source, bytes) else shown_name(source)
    with _opened_file(source, name) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if not size:
            raise VideoError("video_empty", name, f"no bytes, expected {_EXPECTED}")
        head = file.read(16)
        file.seek(0)
        most = limits.gif_bytes if head.startswith(b"GIF8") else limits.num_bytes
        if size > most:
            raise too_large(name, f"{size} bytes, expected at most {most}")
        if head.startswith((b"GIF87a", b"GIF89a")):
            yield _read_gif(file.read(most + 1), name, limits)
            return
        kind = "mp4" if head[4:8] == b"ftyp" else "webm" if head[:4] == b"\x1aE\xdf\xa3" else None
        if kind is None:
            raise VideoError("video_unreadable", name, f"expected {_EXPECTED}")
        with _opened_stream(file, kind, name, limits) as video:
            yield video


def shown_name(path: Path | str) -> str:
    """The name of a file in printable characters."""
    text = "".join(one if one.isprintable() else "?" for one in str(path))
    return text if len(text) <= 160 else f"{text[:60]}...{text[-60:]}"


def damaged(name: str, reason: object) -> VideoError:
    """The error for a video with damaged content."""
    text = " ".join(str(reason).split())[:160] or type(reason).__name__
    return VideoError("video_unreadable", name, f"damaged ({text})")


def too_large(name: str, what: str) -> VideoError:
    """The error for a video beyond a limit."""
    return VideoError("video_too_large", name, what)


def is_cut_short(video: OpenVideo, seconds: float, count: int) -> bool:
    """Whether a video is truncated, given the duration and number of its frames.

    In a container with several streams, the header may give the duration of the longest one.
    """
    declared = video.header.seconds
    if declared is None or count < 2:
        return False
    if video.stream.duration is None and len(video.container.streams) > 1:
        return False
    steps = 2 * seconds / (count - 1)
    return declared - seconds > max(_CUT_SECONDS, _CUT_SHARE * declared, steps)


def _opened_file(
    source: Path | bytes, name: str
) -> AbstractContextManager[BufferedReader | BytesIO]:
    if isinstance(source, bytes):
        return nullcontext(BytesIO(source))
    # O_NONBLOCK: otherwise, opening a FIFO without a writer waits forever
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(source, flags)
    except FileNotFoundError:
        raise VideoError("video_missing", name, "no such file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError("video_unreadable", name, reason.lower()) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise VideoError("not_regular_file", name, "expected a regular file")
    return os.fdopen(descriptor, "rb")


def _check_extent(name: str, width: int, height: int, limits: VideoLimits) -> None:
    if width < 1 or height < 1:
        raise damaged(name, f"{width}x{height} pixels")
    if max(width, height) > limits.side or width * height > limits.pixels:
        raise too_large(
            name,
            f"{width}x{height} pixels, expected at most {limits.side} a side and "
            f"{limits.pixels} in all",
        )


def _check_length(name: str, header: VideoHeader, limits: VideoLimits) -> None:
    seconds, count = header.seconds, header.num_frames
    if seconds is not None and seconds > limits.seconds:
        raise too_large(name, f"{seconds:.0f} seconds, expected at most {limits.seconds:.0f}")
    if count is not None:
        check_count(name, count, header.stored, limits)


def check_count(name: str, count: int, size: ImageSize, limits: VideoLimits) -> None:
    """Check the number of frames against the limits.

    Raises:
        VideoError: There are too many frames, or too many pixels in all of them.
    """
    if count > limits.num_frames:
        raise too_large(name, f"{count} frames, expected at most {limits.num_frames}")
    if count * size.area > limits.all_pixels:
        raise too_large(
            name, f"{count} frames of {size}, expected at most {limits.all_pixels} pixels in all"
        )


@contextmanager
def _opened_stream(
    file: BufferedReader | BytesIO, kind: str, name: str, limits: VideoLimits
) -> Iterator[OpenVideo]:
    try:
        import av  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise RecipeError(
            f"video {name}: reading MP4 and WebM needs PyAV; install deixis with the extra `video`"
        ) from error
    failures = (
        av.FFmpegError,
        *(OSError, ValueError, EOFError, IndexError, OverflowError, ZeroDivisionError),
    )
    try:
        with av.open(
            file,
            "r",
            format="mp4" if kind == "mp4" else "matroska",
            options={"enable_drefs": "0"} if kind == "mp4" else {},
            metadata_errors="replace",
        ) as container:
            stream = _video_stream(container, name)
            context = stream.codec_context
            _check_extent(name, context.width, context.height, limits)
            # another number of threads, or a tolerated error, would change the frames
            context.thread_type = "NONE"
            context.thread_count = 1
            context.options = {"max_pixels": str(limits.pixels)}
            first = next(container.decode(stream), None)
            if first is None:
                raise damaged(name, "no frame")
            header = _header(kind, first, container, stream)
            if header.rotation % 90:
                raise VideoError("video_unreadable", name, f"turned by {header.rotation} degrees")
            _check_extent(name, header.stored.width, header.stored.height, limits)
            _check_length(name, header, limits)
            yield OpenVideo(name, header, container, stream, failures)
    except ImageError:
        raise
    except failures as error:
        raise damaged(name, getattr(error, "strerror", None) or error) from error


def _video_stream(container: Any, name: str) -> Any:
    for stream in container.streams.video:
        context = stream.codec_context
        if stream.disposition.value & _ATTACHED_PICTURE:
            continue
        codec = "" if context is None else context.codec.canonical_name
        if codec not in CODECS:
            raise VideoError(
                "video_unreadable",
                name,
                f"codec {codec or 'unknown'}, expected one of {sorted(CODECS)}",
            )
        return stream
    raise VideoError("video_unreadable", name, "holds no video")


def _header(kind: str, first: Any, container: Any, stream: Any) -> VideoHeader:
    seconds = None
    if stream.duration is not None:
        seconds = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        seconds = container.duration / 1e6
    if seconds is not None and not (isfinite(seconds) and seconds >= 0):
        seconds = None
    return VideoHeader(
        kind,
        ImageSize(first.height, first.width),
        round(first.rotation) % 360,
        stream.frames or None,
        seconds,
    )


def _read_gif(data: bytes, name: str, limits: VideoLimits) -> GifFrames:
    try:
        width, height, delays = _walk_gif(data, limits, lambda what: damaged(name, what))
    except (IndexError, struct.error):
        raise damaged(name, "cut short") from None
    _check_extent(name, width, height, limits)
    size = ImageSize(height, width)
    check_count(name, len(delays), size, limits)
    if sum(delays) > 1000 * limits.seconds:
        raise too_large(
            name, f"{sum(delays) / 1000:.0f} seconds, expected at most {limits.seconds:.0f}"
        )
    return GifFrames(data, size, tuple(delays))


def _walk_gif(
    data: bytes, limits: VideoLimits, problem: Callable[[str], VideoError]
) -> tuple[int, int, list[int]]:
    """Walk over the blocks of a GIF; returns its width, height and the duration of each frame."""

    def after_table(position: int, flags: int) -> int:
        return position + (3 << ((flags & 7) + 1)) if flags & 0x80 else position

    def after_blocks(position: int) -> int:
        while length := data[position]:
            position += length + 1
        return position + 1

    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = after_table(13, flags)
    delays: list[int] = []
    delay = 0
    while (kind := data[position]) != 0x3B:
        if kind == 0x21:
            if data[position + 1] == 0xF9 and data[position + 2] == 4:
                delay = 10 * struct.unpack_from("<H", data, position + 4)[0]
            position = after_blocks(position + 2)
        elif kind == 0x2C:
            left, top, across, down, flags = struct.unpack_from("<4HB", data, position + 1)
            if left + across > width or top + down > height:
                raise problem("a frame leaves its picture")
            # a byte with the code width precedes the blocks
            position = after_blocks(after_table(position + 10, flags) + 1)
            delays.append(delay if delay >= _BRIEF else _USUAL)
            delay = 0
            if len(delays) > limits.num_frames:
                break
        elif kind == 0:
            position += 1
        else:
            raise problem(f"block {kind:#04x} at {position}")
    if not delays:
        raise problem("no frame")
    return width, height, delays

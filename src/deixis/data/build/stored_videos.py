"""Stores the videos of a shard by name or as bytes, and reads them back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deixis.data.build.stored_images import file_name
from deixis.data.sources.base import BadRecord
from deixis.data.sources.reading.inside import stored_path
from deixis.data.sources.scenes_video import DRAWN_VIDEO, DrawnVideo, drawn_video
from deixis.errors import AnnotationError, RecipeError
from deixis.structures import Video

EMBEDDED_BYTES = 32 * 2**20
"""Most bytes of an embedded video."""


def video_name(video: Video, root: Path) -> str:
    """Return the name of a video in a shard: a path under ``root``, or the id of a drawn video.

    Raises:
        BadRecord: The video has neither a file nor an id and can only be embedded.
    """
    if isinstance(video.content, Path):
        return file_name(video.content, root)
    if isinstance(video.content, DrawnVideo):
        return str(video.content)
    raise BadRecord("bad_record", "a video without a file has to be embedded")


def video_bytes(video: Video) -> bytes:
    """Return the bytes of a video's file.

    Raises:
        BadRecord: The file cannot be read or is too large to be embedded.
        RecipeError: The video is drawn: it has no file, and encoding would change its pixels.
    """
    if isinstance(video.content, bytes):
        return video.content
    if not isinstance(video.content, Path):
        raise RecipeError("drawn clips cannot be embedded\nhint: build without --embed")
    name = video.content.name
    try:
        with video.content.open("rb") as file:
            data = file.read(EMBEDDED_BYTES + 1)
    except OSError as error:
        raise BadRecord("video_unreadable", f"{name}: {error.strerror}") from None
    if len(data) > EMBEDDED_BYTES:
        raise BadRecord("video_too_large", f"{name}: over {EMBEDDED_BYTES} bytes, to be embedded")
    return data


def stored_video(row: Mapping[str, Any], *, root: Path | None) -> Video:
    """Return the video of a shard's row.

    Raises:
        AnnotationError: The row has neither bytes nor a name, ``root`` is missing, or the name
            leads out of ``root``.
    """
    data, name = row["video"]["bytes"], row["video"]["path"]
    known = {"num_frames": row.get("frames"), "seconds": row.get("seconds")}
    if data is not None:
        return Video(data, **known)
    if not name:
        raise AnnotationError("a row has neither a video nor the name of one")
    if name.startswith(DRAWN_VIDEO):
        return Video(drawn_video(name), **known)
    if root is None:
        raise AnnotationError(f"video {name}: say in which folder the videos are")
    return Video(stored_path(name, root), **known)

"""Videos: the source of their frames, and facts from their headers."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from jaxtyping import UInt8
from numpy import ndarray

from deixis.errors import AnnotationError

FrameArray = UInt8[ndarray, "frames height width 3"]
VideoContent = Path | bytes | Callable[[], FrameArray]
"""A file, the bytes of a file, or a function that draws every frame."""


@dataclass(frozen=True, slots=True)
class Video:
    """A video, in place of the image of a sample or conversation.

    ``num_frames`` and ``seconds`` are None if they are unknown without reading the whole video.

    Raises:
        AnnotationError: The video has less than one frame, or its duration is not a valid number.
    """

    content: VideoContent
    num_frames: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.num_frames is not None and self.num_frames < 1:
            raise AnnotationError(f"a video of {self.num_frames} frames, expected at least 1")
        if self.seconds is not None and not (isfinite(self.seconds) and self.seconds >= 0):
            raise AnnotationError(f"a video of {self.seconds} seconds, expected 0 or more")

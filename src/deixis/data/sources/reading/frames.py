"""The frame in which annotations are read: a size and an orientation that override the record's.

A record states the size of its image, and its geometry is in some frame. Usually the size is that of
the frame, but some tools write the size of the stored picture with the boxes of the upright one, or
a resized copy was annotated. The engine reads the picture's header and sets the frame here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from deixis.geometry import ImageSize


@dataclass(frozen=True, slots=True)
class Frame:
    """The known size and orientation of the frame of the next image.

    ``size`` replaces the size in the record; None uses the record's. ``orientation`` is ``raw`` or
    ``upright`` if the source declares the frame, else ``auto``; it decides if a record has no size.
    """

    size: ImageSize | None = None
    orientation: str = "auto"


_current: ContextVar[Frame] = ContextVar("frame", default=Frame())  # noqa: B039  # it is frozen


def current_frame() -> Frame:
    """Return the current frame."""
    return _current.get()


@contextmanager
def reading_frame(frame: Frame) -> Iterator[None]:
    """Read records in a frame inside the ``with`` block."""
    token = _current.set(frame)
    try:
        yield
    finally:
        _current.reset(token)

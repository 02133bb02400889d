"""In which frame annotations are read: two facts of an image that a record may get wrong.

A record says the size of its image, and its geometry lies in a frame. Mostly the size is that of the
frame, but not always: a tool writes the size of the stored picture and the boxes of the upright one, or
a resized copy was annotated. The engine, which looks at the picture, says here what to read by.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from deixis.geometry import ImageSize


@dataclass(frozen=True, slots=True)
class Frame:
    """What is known of the frame of an image that is about to be read.

    ``size`` stands in for whatever size its record says; None takes the record's. ``orientation``
    is that of the frame (``raw`` or ``upright``) where a source declares it, else ``auto``: it
    decides where a record says no size.
    """

    size: ImageSize | None = None
    orientation: str = "auto"


_current: ContextVar[Frame] = ContextVar("frame", default=Frame())  # noqa: B039  # it is frozen


def current_frame() -> Frame:
    """The frame that records are read in now."""
    return _current.get()


@contextmanager
def reading_frame(frame: Frame) -> Iterator[None]:
    """Read records in a frame for as long as the block lasts."""
    token = _current.set(frame)
    try:
        yield
    finally:
        _current.reset(token)

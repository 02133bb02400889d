"""The frame in which annotations are read: the size and orientation of their coordinates.

The size in a record may differ from the frame of its geometry: some tools write the size of the
stored picture with boxes of the upright one, or a resized copy was annotated. The engine reads the
header of the picture and sets the frame here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from deixis.geometry import ImageSize


@dataclass(frozen=True, slots=True)
class Frame:
    """The frame of the image that is read next.

    ``size`` replaces the size in the record; None keeps it. ``orientation`` is the orientation of the
    frame (``raw`` or ``upright``) if the source declares it, else ``auto``; it applies to records
    without a size.
    """

    size: ImageSize | None = None
    orientation: str = "auto"


_current: ContextVar[Frame] = ContextVar("frame", default=Frame())  # noqa: B039  # it is frozen


def current_frame() -> Frame:
    """Return the frame in which records are currently read."""
    return _current.get()


@contextmanager
def reading_frame(frame: Frame) -> Iterator[None]:
    """Set the frame of records within the ``with`` block."""
    token = _current.set(frame)
    try:
        yield
    finally:
        _current.reset(token)

"""The time limit for reading an image."""

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from deixis.data.sources.base import RecordProblem

IMAGE_SECONDS = 30.0
"""Seconds that reading one image may take."""

ImageKey = tuple[int, str]
"""The number of a source, and the key of an image in the source."""
Lost = Mapping[ImageKey, RecordProblem]
"""Images that crash or hang the process that reads them, with the problem."""


class TooSlowError(BaseException):
    """An image was not read in time; not an `Exception`, so that readers do not catch it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TooSlowError` if the ``with`` block takes longer; in the main thread only.

    This interrupts a waiting read and slow Python code, but not native code.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_signal: int, _frame: object) -> None:
        raise TooSlowError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

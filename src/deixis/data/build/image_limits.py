"""How long an image may take, and what is known of those that take too long."""

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from deixis.data.sources.base import RecordProblem

IMAGE_SECONDS = 30.0
"""How long one image may be read."""

ImageKey = tuple[int, str]
"""The number of a source, and an image's key in it."""
Lost = Mapping[ImageKey, RecordProblem]
"""Images that end whoever reads them."""


class TooSlowError(BaseException):
    """An image was not read in time; no `Exception`, so that no reader takes it for its own."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TooSlowError` where the block takes longer; only the main thread can do that.

    It gets a process out of a read that waits, and out of slow Python; not out of native code.
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

"""Decoders that hang, crash or fail; they are pickled for another process."""

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

from deixis.geometry import ImageSize


def by_name(picture: Path | bytes) -> object:
    """Hang or crash, as the bytes of the picture say."""
    word = picture if isinstance(picture, bytes) else picture.read_bytes()
    if word == b"hang":
        time.sleep(600)
    if word == b"die":
        os.kill(os.getpid(), signal.SIGSEGV)
    return SimpleNamespace(size=ImageSize(2, 3))

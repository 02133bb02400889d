"""Decodes pictures in a separate process, which may hang or crash on a damaged picture."""

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

from deixis.data.build.image_limits import IMAGE_SECONDS
from deixis.data.sources.base import BadRecord
from deixis.data.sources.reading.image_header import read_header
from deixis.errors import DeixisError, ImageError
from deixis.geometry import ImageSize

_START = 120.0
"""Seconds that the process may take to start."""

ReadPicture = Callable[[Path | bytes], Any]
"""Decodes a picture; the result has its upright ``size``."""


class PictureReader:
    """Decodes pictures one after the other.

    Args:
        read: Decodes a picture, such as `deixis.processing.images.read_image`; must be picklable.
        seconds: Time limit of one picture.
    """

    def __init__(self, read: ReadPicture, *, seconds: float = IMAGE_SECONDS) -> None:
        self.read = read
        self.seconds = seconds
        self._context = multiprocessing.get_context("spawn")
        self._process: Any = None
        self._pipe: Connection | None = None

    def __enter__(self) -> "PictureReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def look(self, picture: Path | bytes) -> ImageSize:
        """Decode all pixels of a picture and return its upright size.

        Raises:
            BadRecord: The file is missing, damaged, too large, or not in a supported format, or the
                process hung or crashed on it.
            DeixisError: The process does not start.
        """
        pipe = self._started()
        try:
            pipe.send(picture)
            if not pipe.poll(self.seconds):
                self.close()
                raise BadRecord("decode_timeout", f"not read in {self.seconds:g} s")
            told = pipe.recv()
        except (EOFError, OSError):
            code = self._ended()
            name = signal.Signals(-code).name if code and code < 0 else f"exit code {code}"
            raise BadRecord("decoder_crash", f"reading it ended the process: {name}") from None
        if isinstance(told, ImageSize):
            return told
        raise BadRecord(*told)

    def close(self) -> None:
        """End the process."""
        if self._pipe is not None:
            self._pipe.close()
            self._process.kill()
            self._process.join()
            self._pipe = None

    def _started(self) -> Connection:
        if self._pipe is not None:
            return self._pipe
        here, there = self._context.Pipe()
        self._process = self._context.Process(target=_read, args=(there, self.read), daemon=True)
        self._process.start()
        there.close()
        self._pipe = here
        # a process that does not start is not a problem of the picture
        if not here.poll(_START):
            self.close()
            raise DeixisError(f"the process that decodes pictures did not start in {_START:g} s")
        here.recv()
        return here

    def _ended(self) -> int | None:
        self._process.join(1)
        code: int | None = self._process.exitcode
        self.close()
        return code


def _read(pipe: Connection, read: ReadPicture) -> None:
    pipe.send(None)
    while True:
        try:
            picture = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(_looked(picture, read))


def _looked(picture: Path | bytes, read: ReadPicture) -> ImageSize | tuple[str, str]:
    try:
        if isinstance(picture, Path):
            # separates missing files from damaged ones
            read_header(picture)
        size: ImageSize = read(picture).size
    except BadRecord as error:
        return error.code, error.detail
    except ImageError as error:
        return "image_unreadable", str(error)
    return size

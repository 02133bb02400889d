"""Journals: append-only files of lines that record finished work."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from deixis.errors import StorageError
from deixis.storage.files import storing, sync


def append_lines(path: Path, lines: Iterable[str], *, synced: bool = True) -> None:
    """Append lines to a journal; all of them are on the disk when the call returns.

    The folder has to exist; the file is made if it does not. ``synced=False`` does not force the
    lines to the disk.

    Raises:
        StorageError: The lines cannot be written; the journal is unchanged.
    """
    rest = memoryview("".join(f"{line}\n" for line in lines).encode())
    # unbuffered, so that closing the file writes nothing
    with storing(path), path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            while rest:
                rest = rest[file.write(rest) :]
            if synced:
                os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):
                file.truncate(before)
            raise
        if synced and not before:
            sync(path.parent)


def read_lines(path: Path) -> list[bytes]:
    """Return the lines of a journal without line ends; empty if the file does not exist.

    An incomplete last line, left by a kill, is removed from the file.

    Raises:
        StorageError: The file cannot be read, or the last line cannot be removed.
    """
    data = _read(path)
    end = data.rfind(b"\n") + 1
    if end < len(data):
        _cut(path, end)
    return data[:end].split(b"\n")[:-1]


def keep_lines(path: Path, count: int) -> None:
    """Remove all lines of a journal after the first ``count``; it has to have at least ``count``.

    Raises:
        StorageError: The file cannot be read or written.
    """
    lines = _read(path).split(b"\n")[:count]
    _cut(path, sum(len(line) + 1 for line in lines))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise StorageError(f"{path}: cannot read: {(error.strerror or '').lower()}") from error


def _cut(path: Path, size: int) -> None:
    with storing(path), path.open("r+b") as file:
        file.truncate(size)
        os.fsync(file.fileno())

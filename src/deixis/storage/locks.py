"""Locks on folders, which end with the process that holds them."""

import fcntl
import functools
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from weakref import WeakSet

from deixis.errors import LockedError
from deixis.storage.files import make_folder, storing


@contextmanager
def locked_folder(folder: Path, doing: str, *, name: str = ".lock") -> Iterator[None]:
    """Make a folder if need be and keep other processes out of it while the block lasts.

    The lock is a file in the folder that names its process and is removed at the end. A file that
    a killed process left holds nothing.

    Args:
        folder: The folder.
        doing: What the holder does there, for the message of others: ``building there``.
        name: The lock's file.

    Raises:
        LockedError: Another process, or this one, holds it.
        StorageError: The folder or file cannot be made.
    """
    path = folder / name
    make_folder(folder)
    with storing(folder):
        try:
            file = _acquire(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(f"{folder}: {_owner(path)} is {doing}") from None
    with file:
        # on a full disk the lock holds without its owner's name
        with suppress(OSError):
            file.truncate(0)
            file.write(f"process {os.getpid()}".encode())
        try:
            yield
        finally:
            # before the lock ends; where the file is another, the lock of that is another's
            with suppress(OSError):
                if _is_at(file, path):
                    path.unlink()


@contextmanager
def waited_folder(folder: Path, *, name: str = ".lock") -> Iterator[None]:
    """Make a folder if need be and wait until no other process holds its lock.

    The lock's file stays: it costs nothing, and whoever waits has it open.

    Raises:
        StorageError: The folder or file cannot be made.
    """
    make_folder(folder)
    with storing(folder):
        file = _acquire(folder / name, fcntl.LOCK_EX)
    with file:
        yield


def _acquire(path: Path, how: int) -> io.FileIO:
    while True:
        file = io.FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+")
        try:
            fcntl.flock(file, how)
        except BaseException:
            file.close()
            raise
        if _is_at(file, path):
            _closed_in_children().add(file)
            return file
        # the holder before removed it between our opening and our locking
        file.close()


def _is_at(file: io.FileIO, path: Path) -> bool:
    try:
        return not file.closed and os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _owner(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:100].strip() or "another process"
    except OSError:
        return "another process"


@functools.cache
def _closed_in_children() -> "WeakSet[io.FileIO]":
    """Files of locks that forked processes close at once: else they hold the lock of a dead parent."""
    held: WeakSet[io.FileIO] = WeakSet()

    def close() -> None:
        for file in list(held):
            file.close()

    os.register_at_fork(after_in_child=close)
    return held

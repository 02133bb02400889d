"""Locks on folders, released when the process that holds them ends."""

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
    """Lock a folder while the block runs; the folder is made if it does not exist.

    The lock is a file in the folder that names the process and is removed at the end. The file of a
    killed process does not lock the folder.

    Args:
        folder: The folder.
        doing: The work of this process, for the error of other processes: ``building there``.
        name: Name of the lock file.

    Raises:
        LockedError: Another process, or this one, holds the lock.
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
        # on a full disk, the lock works without the owner's name
        with suppress(OSError):
            file.truncate(0)
            file.write(f"process {os.getpid()}".encode())
        try:
            yield
        finally:
            # remove the file before unlocking, unless another process has replaced it
            with suppress(OSError):
                if _is_at(file, path):
                    path.unlink()


@contextmanager
def waited_folder(folder: Path, *, name: str = ".lock") -> Iterator[None]:
    """Wait until no other process holds the lock of a folder, and lock it while the block runs.

    The folder is made if it does not exist. The lock file stays, since waiting processes have it
    open.

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
        # the previous holder removed the file after it was opened here and before it was locked
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
    """Return the lock files that forked processes close, so that they do not keep a parent's lock."""
    held: WeakSet[io.FileIO] = WeakSet()

    def close() -> None:
        for file in list(held):
            file.close()

    os.register_at_fork(after_in_child=close)
    return held

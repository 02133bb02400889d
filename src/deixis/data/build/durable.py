"""Files that are whole under their name or not there, even when the power goes."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deixis.errors import StorageError


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into one error that names the path.

    Raises:
        StorageError: Something in the block could not be written.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path}: cannot write: {(error.strerror or str(error)).lower()}"
        ) from error


def write_file(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees all of it or none, and a crash leaves it so.

    Raises:
        StorageError: It cannot be written; nothing is left of the attempt.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with storing(path):
        try:
            with draft.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_line(path: Path, line: str) -> None:
    """Add a line to a file, durably.

    Raises:
        StorageError: It cannot be written.
    """
    with storing(path), path.open("ab") as file:
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def whole_lines(path: Path) -> list[str]:
    """The lines of a file that were written to their end; what follows the last one is cut off."""
    if not path.exists():
        return []
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end < len(data):
        with storing(path), path.open("r+b") as file:
            file.truncate(end)
            os.fsync(file.fileno())
    return data[:end].decode("utf-8", errors="replace").splitlines()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

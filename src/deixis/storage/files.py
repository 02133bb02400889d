"""Files that are whole under their name, or not there."""

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from deixis.errors import StorageError

# Digits only are the process numbers of earlier versions.
_DRAFT = re.compile(r"\..+\.[0-9a-f]+\.tmp")

_NO_FOLDER_SYNC = {errno.EACCES, errno.EINVAL, errno.ENOTSUP}
"""What some network and user-space file systems answer when a folder is forced to the disk."""


@contextmanager
def storing(what: Path | str, *also: type[Exception]) -> Iterator[None]:
    """Turn a refused write into one error that names what was written.

    Args:
        what: The start of the message, such as the path.
        also: Exceptions of a library that writes the file, beside OSError.

    Raises:
        StorageError: The block raised OSError or one of ``also``.
    """
    refusals: tuple[type[Exception], ...] = (OSError, *also)
    try:
        yield
    except refusals as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:300]
        raise StorageError(f"{what}: cannot write: {reason.lower()}") from error


def draft_of(path: Path) -> Path:
    """Return a name beside ``path`` that no other writer uses and that `clear_drafts` finds."""
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.tmp")


def discard(path: Path) -> None:
    """Remove a file or folder if it is there; a failure to do so is ignored.

    A folder gets a draft's name first: a kill leaves no part of it under its own.
    """
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path.rename(draft_of(path)), ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def clear_drafts(folder: Path) -> None:
    """Remove drafts that killed processes left in a folder; the caller holds the folder's lock."""
    for path in folder.glob(".*.tmp"):
        if _DRAFT.fullmatch(path.name):
            discard(path)


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk.

    Raises:
        OSError: The disk refuses it.
    """
    is_folder = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not (is_folder and error.errno in _NO_FOLDER_SYNC):
            raise


def make_folder(path: Path) -> None:
    """Make a folder and the missing folders above it, durably; an existing folder stays.

    Raises:
        StorageError: It cannot be made.
    """
    if path.is_dir():
        return
    with storing(path):
        missing = [one for one in (path, *path.parents) if not one.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for one in reversed(missing):
            sync(one.parent)


def rename(path: Path, target: Path) -> None:
    """Give another name to a file or folder that is on the disk already, durably.

    Raises:
        StorageError: It cannot be renamed.
    """
    with storing(target):
        path.replace(target)
        sync(target.parent)


@contextmanager
def whole_file(path: Path, *, synced: bool = True) -> Iterator[BinaryIO]:
    """Give a new file that takes the name ``path`` when the block ends without an error.

    The folder exists. ``synced=False`` does not force the file to the disk.

    Raises:
        StorageError: The file cannot be written, or the block raised OSError; the file that was
            there stays, and no draft is left.
    """
    draft = draft_of(path)
    with storing(path):
        try:
            with draft.open("xb") as file:
                yield file
                if synced:
                    file.flush()
                    os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            discard(draft)
            raise
        if synced:
            sync(path.parent)


def write_file(path: Path, data: bytes | str, *, synced: bool = True) -> None:
    """Write a file whole; text is written as UTF-8.

    The folder exists. ``synced=False`` does not force the file to the disk.

    Raises:
        StorageError: As `whole_file`.
    """
    with whole_file(path, synced=synced) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def write_json(path: Path, value: object) -> None:
    """Write a JSON file whole: strict JSON in UTF-8, indented by one space.

    Raises:
        StorageError: As `whole_file`.
        ValueError: A number is not finite.
    """
    write_file(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

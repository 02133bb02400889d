"""Files that are written completely or not at all."""

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

# Earlier versions used process numbers, which the pattern matches too.
_DRAFT = re.compile(r"\..+\.[0-9a-f]+\.tmp")

_NO_FOLDER_SYNC = {errno.EACCES, errno.EINVAL, errno.ENOTSUP}
"""Errors of network and user-space file systems that cannot fsync a folder."""


@contextmanager
def storing(what: Path | str, *also: type[Exception]) -> Iterator[None]:
    """Convert errors of a write to a `StorageError` that names the file or folder.

    Args:
        what: The start of the message, such as the path.
        also: Exceptions of a library that writes the file, in addition to OSError.

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
    """Return an unused draft name in the folder of ``path``, which `clear_drafts` recognises."""
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.tmp")


def discard(path: Path) -> None:
    """Remove a file or folder if it exists; failures are ignored.

    A folder is renamed to a draft first, so that a kill leaves no partial folder under its name.
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
        OSError: The fsync fails.
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
    """Make a folder and its missing parents durably; an existing folder stays.

    Raises:
        StorageError: A folder cannot be made.
    """
    if path.is_dir():
        return
    with storing(path):
        missing = [one for one in (path, *path.parents) if not one.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for one in reversed(missing):
            sync(one.parent)


def rename(path: Path, target: Path) -> None:
    """Rename a file or folder durably; its content is on the disk already.

    Raises:
        StorageError: The rename fails.
    """
    with storing(target):
        path.replace(target)
        sync(target.parent)


@contextmanager
def whole_file(path: Path, *, synced: bool = True) -> Iterator[BinaryIO]:
    """Yield a new file that is renamed to ``path`` when the block ends without an error.

    The folder has to exist. ``synced=False`` does not force the file to the disk.

    Raises:
        StorageError: The file cannot be written, or the block raised OSError; an existing file
            stays, and no draft is left.
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
    """Write a file with `whole_file`; text is encoded as UTF-8.

    The folder has to exist. ``synced=False`` does not force the file to the disk.

    Raises:
        StorageError: The file cannot be written.
    """
    with whole_file(path, synced=synced) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def write_json(path: Path, value: object) -> None:
    """Write a file of strict JSON with `whole_file`, in UTF-8, indented by one space.

    Raises:
        StorageError: The file cannot be written.
        ValueError: A number is not finite.
    """
    write_file(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

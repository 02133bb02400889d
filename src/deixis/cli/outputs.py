"""Output files and folders: checked before the work, and written atomically."""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from deixis.errors import StorageError


class OutputFile:
    """A file that gets its name only after the work has succeeded."""

    def __init__(self, path: Path, draft: Path) -> None:
        self.path = path
        self.draft = draft
        self.written = False

    def write(self, data: bytes) -> None:
        """Write the whole content.

        Raises:
            StorageError: The content cannot be written.
        """
        try:
            with self.draft.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _refused(self.path, error) from error
        self.written = True


@contextmanager
def output_file(path: Path) -> Iterator[OutputFile]:
    """Reserve ``path`` now; write its content when the block ends without an error.

    A draft is made beside it at once, so that a folder without write access is found before any
    work. On an error or a signal to end, the draft is removed and an existing file of that name
    stays as it was.

    Raises:
        StorageError: The folder is missing or cannot be written, or the name is taken by
            something that is not a regular file.
    """
    target = _resolved(path)
    _check_place(path, target)
    if target.exists() and not target.is_file():
        kind = "a folder" if target.is_dir() else "not a regular file"
        raise StorageError(f"output {path}: is {kind}, expected a file name")
    try:
        descriptor, name = tempfile.mkstemp(
            prefix=f".{target.name[:80]}.", suffix=".tmp", dir=target.parent
        )
    except OSError as error:
        raise _refused(path, error) from error
    os.close(descriptor)
    output = OutputFile(path, Path(name))
    try:
        yield output
        if output.written:
            _commit(output.draft, target, path)
    finally:
        with suppress(OSError):
            output.draft.unlink(missing_ok=True)


@contextmanager
def output_folder(path: Path) -> Iterator[Path]:
    """Yield a draft folder that becomes ``path`` when the block ends without an error.

    Raises:
        StorageError: ``path`` exists and is not an empty folder, its parent is missing, or it
            cannot be written.
    """
    target = _resolved(path)
    _check_place(path, target)
    if target.exists() and not target.is_dir():
        raise StorageError(f"output {path}: is a file, expected a new or empty folder")
    if target.is_dir() and any(target.iterdir()):
        raise StorageError(f"output {path}: is not empty, expected a new or empty folder")
    try:
        draft = Path(
            tempfile.mkdtemp(prefix=f".{target.name[:80]}.", suffix=".tmp", dir=target.parent)
        )
    except OSError as error:
        raise _refused(path, error) from error
    try:
        yield draft
        draft.chmod(0o755 & ~_umask())
        try:
            draft.replace(target)
        except OSError as error:
            raise _refused(path, error) from error
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def check_creatable(path: Path) -> None:
    """Check that a folder can be made and written at ``path``; nothing is left there.

    Raises:
        StorageError: The folder cannot be made or written.
    """
    target = _resolved(path)
    if target.exists() and not target.is_dir():
        raise StorageError(f"output {path}: is a file, expected a folder")
    existing = target
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise StorageError(f"output {path}: {existing} is not a folder")
    try:
        Path(tempfile.mkdtemp(prefix=".deixis.", suffix=".tmp", dir=existing)).rmdir()
    except OSError as error:
        raise _refused(path, error) from error


def print_json(value: Any) -> None:
    """Print strict JSON on stdout."""
    print_result(json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1))


def print_result(text: str) -> None:
    """Print text on stdout; characters outside the terminal's encoding become ``?``."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, errors="replace").decode(encoding))


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise StorageError(f"output {path}: {error}") from error


def _check_place(path: Path, target: Path) -> None:
    if not target.parent.is_dir():
        what = "is not a folder" if target.parent.exists() else "does not exist"
        raise StorageError(f"output {path}: the folder {target.parent} {what}")
    try:
        target.lstat()
    except FileNotFoundError:
        pass
    except OSError as error:
        # the name itself is too long
        raise _refused(path, error) from error


def _commit(draft: Path, target: Path, path: Path) -> None:
    try:
        # mkstemp makes private files; a result gets the permissions of any new file
        draft.chmod(0o666 & ~_umask())
        draft.replace(target)
    except OSError as error:
        raise _refused(path, error) from error


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _refused(path: Path, error: OSError) -> StorageError:
    return StorageError(f"output {path}: cannot write: {(error.strerror or str(error)).lower()}")

"""Output files and folders: checked before the work, and written atomically."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from deixis.errors import StorageError
from deixis.storage import discard, draft_of, publish, storing, whole_folder


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
        with storing(f"output {self.path}"):
            self.draft.write_bytes(data)
        self.written = True


@contextmanager
def output_file(path: Path) -> Iterator[OutputFile]:
    """Reserve ``path`` now; write its content when the block ends without an error.

    A draft is made beside it at once, so that a folder without write access is found before any
    work. On an error or a signal to end, the draft is removed and an existing file of that name
    stays as it was.

    Raises:
        StorageError: The folder is missing or cannot be written, or a folder or special file
            has the name.
    """
    target = _resolved(path)
    _check_place(path, target)
    if target.exists() and not target.is_file():
        kind = "a folder" if target.is_dir() else "not a regular file"
        raise StorageError(f"output {path}: is {kind}, expected a file name")
    output = OutputFile(path, draft_of(target))
    try:
        with storing(f"output {path}"):
            output.draft.touch(exist_ok=False)
        yield output
        if output.written:
            with storing(f"output {path}"):
                publish(output.draft, target)
    finally:
        discard(output.draft)


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
    with whole_folder(target) as draft:
        yield draft


def check_creatable(path: Path) -> None:
    """Check that a folder can be made and written at ``path``; no files are left.

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
    with storing(f"output {path}"):
        draft = draft_of(existing / "deixis")
        draft.mkdir()
        draft.rmdir()


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
    # such as a name that is too long
    with storing(f"output {path}"), suppress(FileNotFoundError):
        target.lstat()

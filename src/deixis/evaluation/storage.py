"""Files that are either whole or not there, and runs that go on where they were stopped."""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deixis.errors import BenchmarkError, LockedError, StorageError
from deixis.evaluation.predictions import Row, dump_row, parse_row


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: cannot write: {error.strerror or error}") from error


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old one or all of the new one.

    Raises:
        StorageError: It cannot be written.
    """
    draft = path.with_name(f".{path.name}.draft")
    with _writing(path):
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Make a folder if need be and keep other processes from evaluating into it.

    Raises:
        StorageError: It cannot be made.
        LockedError: Another process holds it.
    """
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("w")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LockedError(f"{folder}: another process is evaluating into it") from error
        yield


def claim_folder(folder: Path, run: Row) -> None:
    """Mark a folder as that of one run, or check that it is.

    Raises:
        BenchmarkError: It holds predictions of another run.
        StorageError: It cannot be written.
    """
    path = folder / "run.json"
    text = json.dumps(run, indent=2, sort_keys=True) + "\n"
    try:
        found = path.read_text(encoding="utf-8") if path.exists() else None
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{path}: cannot read: {error}") from error
    if found is None:
        write_whole(path, text)
    elif found != text:
        raise BenchmarkError(
            f"{folder} holds predictions of another run\n"
            "hint: choose another folder, or delete this one"
        )


class Journal:
    """Predictions in the order of the run, appended batch by batch.

    While a run lasts the file has a name of its own; ``finish`` gives it the final one. Batches
    that an earlier run completed are taken from it; a batch that it did not complete is cut off.
    """

    def __init__(self, folder: Path) -> None:
        self._final = folder / "predictions.jsonl"
        self._path = folder / "predictions.partial.jsonl"
        self._next = 0
        with _writing(self._path):
            if self._final.exists():
                self._final.replace(self._path)
            # Unbuffered: nothing is left to be written when the file is closed.
            self._file = self._path.open("a+b", buffering=0)
            self._file.seek(0)
            self._rows, self._offsets = _complete_rows(self._file.read())

    def take(self, benchmark: str, ids: Sequence[str]) -> list[Row] | None:
        """Return the rows of the next batch, if an earlier run completed it."""
        rows = self._rows[self._next : self._next + len(ids)]
        if [(row.get("benchmark"), row["id"]) for row in rows] == [(benchmark, id_) for id_ in ids]:
            self._next += len(ids)
            return rows
        self._file.truncate(self._offsets[self._next])
        del self._rows[self._next :], self._offsets[self._next + 1 :]
        return None

    def append(self, rows: Sequence[Row]) -> None:
        """Write the rows of a batch.

        Raises:
            StorageError: They cannot be written.
        """
        text = "".join(dump_row(row) for row in rows).encode()
        rest = memoryview(text)
        with _writing(self._path):
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        self._rows += rows
        self._next += len(rows)
        self._offsets += [self._offsets[-1] + len(text)] * len(rows)

    def finish(self) -> Path:
        """Cut off what no benchmark asked for, give the file its final name and return that.

        Raises:
            StorageError: The file cannot be renamed.
        """
        with _writing(self._final):
            self._file.truncate(self._offsets[self._next])
            self.close()
            self._path.replace(self._final)
        return self._final

    def close(self) -> None:
        """Close the file; what is written stays for the next run."""
        self._file.close()


def _complete_rows(content: bytes) -> tuple[list[Row], list[int]]:
    """Return the rows up to the first damaged line, and where each row starts and the last ends."""
    rows: list[Row] = []
    offsets = [0]
    for line in content.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        try:
            rows.append(parse_row(line.decode()))
        except (BenchmarkError, UnicodeDecodeError):
            break
        offsets.append(offsets[-1] + len(line))
    return rows, offsets

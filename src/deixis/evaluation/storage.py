"""The folder of an evaluation run, and its journal to resume from."""

import json
from collections.abc import Sequence
from pathlib import Path

from deixis.errors import BenchmarkError, StorageError
from deixis.evaluation.predictions import Row, dump_row, parse_row
from deixis.storage import append_lines, clear_drafts, keep_lines, read_lines, rename, write_file


def claim_folder(folder: Path, run: Row) -> None:
    """Mark a locked folder as that of a run, or check its mark.

    Drafts that a killed run left are removed.

    Raises:
        BenchmarkError: The folder holds predictions of another run.
        StorageError: The folder cannot be written.
    """
    path = folder / "run.json"
    text = json.dumps(run, indent=2, sort_keys=True) + "\n"
    try:
        found = path.read_text(encoding="utf-8") if path.exists() else None
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{path}: cannot read: {error}") from error
    if found is None:
        write_file(path, text)
    elif found != text:
        raise BenchmarkError(
            f"{folder} holds predictions of another run\n"
            "hint: choose another folder, or delete this one"
        )
    clear_drafts(folder)


class Journal:
    """Predictions in the order of the run, appended batch by batch.

    During a run the file has a temporary name; ``finish`` renames it. Complete batches of an earlier
    run are reused; an incomplete batch is cut off.

    Raises:
        StorageError: The file cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self._final = folder / "predictions.jsonl"
        self._path = folder / "predictions.partial.jsonl"
        self._next = 0
        if self._final.exists():
            rename(self._final, self._path)
        # detect a file that cannot be written before any question is asked
        append_lines(self._path, ())
        lines = read_lines(self._path)
        self._lines = len(lines)
        self._rows = _rows(lines)

    def take(self, benchmark: str, ids: Sequence[str]) -> list[Row] | None:
        """Return the rows of the next batch, if an earlier run completed it."""
        rows = self._rows[self._next : self._next + len(ids)]
        if [(row.get("benchmark"), row["id"]) for row in rows] == [(benchmark, id_) for id_ in ids]:
            self._next += len(ids)
            return rows
        self._cut()
        return None

    def append(self, rows: Sequence[Row]) -> None:
        """Write the rows of a batch.

        Raises:
            StorageError: The rows cannot be written.
        """
        append_lines(self._path, map(dump_row, rows))
        self._rows += rows
        self._next += len(rows)
        self._lines += len(rows)

    def finish(self) -> Path:
        """Cut off rows beyond the benchmarks, rename the file and return its final path.

        Raises:
            StorageError: The file cannot be written or renamed.
        """
        self._cut()
        rename(self._path, self._final)
        return self._final

    def _cut(self) -> None:
        if self._lines > self._next:
            keep_lines(self._path, self._next)
            self._lines = self._next
            del self._rows[self._next :]


def _rows(lines: Sequence[bytes]) -> list[Row]:
    """Return the rows before the first damaged line."""
    rows: list[Row] = []
    for line in lines:
        try:
            rows.append(parse_row(line.decode()))
        except (BenchmarkError, UnicodeDecodeError):
            break
    return rows

"""Folders of generated data: each belongs to one plan and holds files of JSON lines."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from deixis.errors import RecipeError, StorageError
from deixis.storage import clear_drafts, whole_file, write_file

_OWN = re.compile(r"data|\.build|\.build\.lock|\.plan\.json\.[0-9a-f]+\.tmp")


def claim(out: Path, digest: str, content: Mapping[str, Any]) -> None:
    """Write the plan into a locked folder, or check that the folder belongs to the plan.

    Removes the unfinished files of a killed run.

    Raises:
        StorageError: The folder holds other files or cannot be written.
        RecipeError: The folder belongs to another plan.
    """
    path = out / "plan.json"
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["digest"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise StorageError(f"{path}: damaged: {error}") from error
        if found != digest:
            raise RecipeError(
                f"{out} holds the output of another plan, or its annotations have changed; "
                "expected the same sources, model, prompts and options"
            )
    else:
        if any(not _OWN.fullmatch(one.name) for one in out.iterdir()) or any(
            (out / "data").iterdir()
        ):
            raise StorageError(f"output {out}: is not empty, expected a new or empty folder")
        text = json.dumps({"digest": digest, **content}, indent=1, ensure_ascii=False)
        write_file(path, f"{text}\n")
    for folder in (out, out / "data"):
        clear_drafts(folder)


def dump_line(value: Mapping[str, Any]) -> str:
    """Return a value as a line of JSON without the line end."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class LinesFile:
    """Writes a file of JSON lines and describes it for the manifest.

    Args:
        name: The name of the file in the manifest.
        file: The open file.
    """

    def __init__(self, name: str, file: BinaryIO) -> None:
        self.name = name
        self.file = file
        self.digest = hashlib.sha256()
        self.lines = self.bytes = 0

    def write(self, value: Mapping[str, Any]) -> None:
        """Write a value as a line."""
        data = f"{dump_line(value)}\n".encode()
        self.file.write(data)
        self.digest.update(data)
        self.lines += 1
        self.bytes += len(data)

    def describe(self) -> dict[str, Any]:
        """Return the name, number of lines, size in bytes and SHA-256 for the manifest."""
        sha256 = self.digest.hexdigest()
        return {"name": self.name, "lines": self.lines, "bytes": self.bytes, "sha256": sha256}


@contextmanager
def lines_file(out: Path, name: str) -> Iterator[LinesFile]:
    """Open a file of JSON lines in ``out``; it appears whole at the end of the ``with`` block.

    Raises:
        StorageError: The file cannot be written.
    """
    with whole_file(out / name) as file:
        yield LinesFile(name, file)

"""Folders of generated data: the plan that each belongs to, and its files of JSON lines."""

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
    """Take a locked folder for a plan, or see that it is the plan's already.

    Drafts that a killed run left are removed.

    Raises:
        StorageError: It holds something else, or cannot be written.
        RecipeError: It is of another plan.
    """
    path = out / "plan.json"
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["digest"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise StorageError(f"{path}: damaged: {error}") from error
        if found != digest:
            raise RecipeError(
                f"{out} holds what another plan made, or its annotations have changed since; "
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
    """A value as a line of JSON, without its end."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class LinesFile:
    """A file of JSON lines, and what a manifest says of it.

    Args:
        name: Its name in the manifest.
        file: Where the lines go.
    """

    def __init__(self, name: str, file: BinaryIO) -> None:
        self.name = name
        self.file = file
        self.digest = hashlib.sha256()
        self.lines = self.bytes = 0

    def write(self, value: Mapping[str, Any]) -> None:
        """Add a line."""
        data = f"{dump_line(value)}\n".encode()
        self.file.write(data)
        self.digest.update(data)
        self.lines += 1
        self.bytes += len(data)

    def describe(self) -> dict[str, Any]:
        """Name, lines, bytes and SHA-256, for the manifest."""
        sha256 = self.digest.hexdigest()
        return {"name": self.name, "lines": self.lines, "bytes": self.bytes, "sha256": sha256}


@contextmanager
def lines_file(out: Path, name: str) -> Iterator[LinesFile]:
    """Give a file of JSON lines in ``out``, which is whole under its name when the block has ended.

    Raises:
        StorageError: It cannot be written.
    """
    with whole_file(out / name) as file:
        yield LinesFile(name, file)

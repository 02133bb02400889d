"""Folders of generated data: whose they are, and files of lines that are whole or not there."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from deixis.data.build.durable import storing, sync_folder, write_file
from deixis.errors import RecipeError, StorageError

_OWN = re.compile(r"data|\.build|\.build\.lock|\.plan\.json\.\d+\.tmp")


def claim(out: Path, digest: str, content: Mapping[str, Any]) -> None:
    """Take a folder for a plan, or see that it is the plan's already.

    Raises:
        StorageError: It holds something else, or cannot be written.
        RecipeError: It is of another plan.
    """
    path = out / "plan.json"
    if not path.exists():
        if any(not _OWN.fullmatch(one.name) for one in out.iterdir()) or any(
            (out / "data").iterdir()
        ):
            raise StorageError(f"output {out}: is not empty, expected a new or empty folder")
        text = json.dumps({"digest": digest, **content}, indent=1, ensure_ascii=False)
        write_file(path, f"{text}\n".encode())
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["digest"]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise StorageError(f"{path}: damaged: {error}") from error
    if found != digest:
        raise RecipeError(
            f"{out} holds what another plan made, or its annotations have changed since; "
            "expected the same sources, model, prompts and options"
        )


def dump_line(value: Mapping[str, Any]) -> str:
    """A value as a line of JSON, without its end."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def append_lines(path: Path, lines: list[str]) -> None:
    """Add lines to a file, all on the disk at once.

    Raises:
        StorageError: It cannot be written.
    """
    with storing(path), path.open("ab") as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
        file.flush()
        os.fsync(file.fileno())


class LinesFile:
    """A file of JSON lines that takes its name when it is whole.

    Args:
        path: The file.
        root: The folder that its name in a manifest starts from.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self.path = path
        self.name = path.relative_to(root).as_posix()
        self.draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self.digest = hashlib.sha256()
        self.lines = self.bytes = 0
        self.file: BinaryIO

    def __enter__(self) -> "LinesFile":
        with storing(self.path):
            for old in self.path.parent.glob(f".{self.path.name}.*.tmp"):
                old.unlink(missing_ok=True)
            self.file = self.draft.open("wb")
        return self

    def write(self, value: Mapping[str, Any]) -> None:
        """Add a line."""
        data = f"{dump_line(value)}\n".encode()
        with storing(self.path):
            self.file.write(data)
        self.digest.update(data)
        self.lines += 1
        self.bytes += len(data)

    def commit(self) -> dict[str, Any]:
        """Give the file its name, and say what is in it."""
        with storing(self.path):
            self.file.flush()
            os.fsync(self.file.fileno())
            self.draft.replace(self.path)
            sync_folder(self.path.parent)
        sha256 = self.digest.hexdigest()
        return {"name": self.name, "lines": self.lines, "bytes": self.bytes, "sha256": sha256}

    def __exit__(self, *_: object) -> None:
        self.file.close()
        with suppress(OSError):
            self.draft.unlink(missing_ok=True)

"""Writes files record by record, so that memory stays bounded.

The files are parts of a folder. `deixis.storage.whole_folder` makes the folder durable against power
failures.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from deixis.storage import make_folder, storing, whole_file


def dump(value: Any) -> bytes:
    """Return a JSON value as UTF-8 on one line."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


class Records:
    """A temporary file of JSON values, one per line, which is later copied into a document.

    Raises:
        StorageError: The file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        with storing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = path.open("wb")

    def add(self, values: list[Any]) -> None:
        """Append values; all are encoded before the first is written."""
        data = b"".join(dump(value) + b"\n" for value in values)
        with storing(self.path):
            self._file.write(data)
        self.count += len(values)

    def close(self) -> None:
        """Close the temporary file."""
        with storing(self.path):
            self._file.close()

    def copy_into(self, file: BinaryIO) -> None:
        """Write the values as elements of a JSON list, one per line."""
        with self.path.open("rb") as lines:
            file.writelines(
                (b",\n" if number else b"\n") + line[:-1] for number, line in enumerate(lines)
            )


def write_document(path: Path, head: Mapping[str, Any], lists: Mapping[str, Records]) -> None:
    """Write a JSON object with the fields of ``head`` and long lists.

    Raises:
        StorageError: The file cannot be written.
    """
    with created(path) as file:
        file.write(b"{")
        for number, (name, value) in enumerate(head.items()):
            file.write((b",\n" if number else b"\n") + json.dumps(name).encode() + b": ")
            file.write(dump(value))
        for number, (name, records) in enumerate(lists.items()):
            first = not head and not number
            file.write((b"\n" if first else b",\n") + json.dumps(name).encode() + b": [")
            records.copy_into(file)
            file.write(b"\n]")
        file.write(b"\n}\n")


def write_list(path: Path, records: Records) -> None:
    """Write a JSON list.

    Raises:
        StorageError: The file cannot be written.
    """
    with created(path) as file:
        file.write(b"[")
        records.copy_into(file)
        file.write(b"\n]\n")


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8 text.

    Raises:
        StorageError: The file cannot be written.
    """
    with created(path) as file:
        file.write(text.encode())


@contextmanager
def created(path: Path) -> Iterator[BinaryIO]:
    """Open a new file and make its folder; the file appears whole, but is not synced to the disk.

    Raises:
        StorageError: The file cannot be written.
    """
    make_folder(path.parent)
    with whole_file(path, synced=False) as file:
        yield file


def copy_file(source: Path, target: Path) -> None:
    """Copy the bytes of a file, and make the target's folder if needed.

    Raises:
        StorageError: The target cannot be written.
        OSError: The source cannot be read.
    """
    with source.open("rb") as data, created(target) as file:
        shutil.copyfileobj(data, file, 2**20)

"""Files that grow record by record, so that memory does not.

They are parts of a folder: where it has to outlive a power failure, the caller writes it by
`deixis.storage.whole_folder`.
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
    """One JSON value, in UTF-8 and on one line."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


class Records:
    """A draft of JSON values, one a line, that is later put into a document.

    Raises:
        StorageError: The disk refuses it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        with storing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = path.open("wb")

    def add(self, values: list[Any]) -> None:
        """Append values: all of them are encoded before the first is written."""
        data = b"".join(dump(value) + b"\n" for value in values)
        with storing(self.path):
            self._file.write(data)
        self.count += len(values)

    def close(self) -> None:
        """End the draft."""
        with storing(self.path):
            self._file.close()

    def copy_into(self, file: BinaryIO) -> None:
        """Write the values as elements of a JSON list, one a line."""
        with self.path.open("rb") as lines:
            file.writelines(
                (b",\n" if number else b"\n") + line[:-1] for number, line in enumerate(lines)
            )


def write_document(path: Path, head: Mapping[str, Any], lists: Mapping[str, Records]) -> None:
    """Write a JSON object of a few fields and of lists that may be long.

    Raises:
        StorageError: The disk refuses it.
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
        StorageError: The disk refuses it.
    """
    with created(path) as file:
        file.write(b"[")
        records.copy_into(file)
        file.write(b"\n]\n")


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8 text.

    Raises:
        StorageError: The disk refuses it.
    """
    with created(path) as file:
        file.write(text.encode())


@contextmanager
def created(path: Path) -> Iterator[BinaryIO]:
    """Give a new file, with its folder; whole under its name, but not forced to the disk.

    Raises:
        StorageError: The disk refuses it.
    """
    make_folder(path.parent)
    with whole_file(path, synced=False) as file:
        yield file


def copy_file(source: Path, target: Path) -> None:
    """Copy the bytes of a file into a new folder, where need be.

    Raises:
        StorageError: The disk refuses it.
        OSError: The source cannot be read.
    """
    with source.open("rb") as data, created(target) as file:
        shutil.copyfileobj(data, file, 2**20)

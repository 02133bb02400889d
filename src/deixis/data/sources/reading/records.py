"""Reading of records from a JSON list, a list inside a JSON object, or JSON lines.

Copies of a published file may use another of these layouts. Lines that are printed Python
dictionaries, with single quotes, are parsed as literals and never executed.
"""

import ast
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from deixis.data.sources.base import BadRecord, RecordProblem
from deixis.data.sources.reading.streaming import (
    json_lines,
    list_elements,
    named_elements,
    opened,
    parse_json,
)
from deixis.errors import AnnotationError

Made = TypeVar("Made")

LITERAL_LIMIT = 8192
"""The most characters of a line that is parsed as a Python literal."""

FILE_LIMIT = 2**27
"""The most bytes of a file with one record: enough for a picture of the largest size in base64."""


class Record(NamedTuple):
    """A record: its place, JSON text and value, and its name if the file is an object of records."""

    place: str
    text: str
    value: Any
    name: str = ""


def records(path: Path, member: str = "") -> Iterator[Record | RecordProblem]:
    """Yield the records of a file in their order, in constant memory.

    Args:
        path: A JSON list or JSON lines; with ``member`` also an object that has a list of that name.
        member: The name of the list.

    Raises:
        AnnotationError: The file is missing, or so damaged that its records cannot be separated.
    """
    if member or _first_character(path) == "[":
        for element in list_elements(path, (member,) if member else None):
            place = f"{path.name}: {member}[{element.number}]"
            yield Record(place, element.text, element.value)
        return
    for number, line in json_lines(path):
        place = f"{path.name}: line {number}"
        try:
            yield _line(line, place)
        except BadRecord as error:
            yield error.problem(place)


def named_records(path: Path) -> Iterator[Record]:
    """Yield the records of a file that is an object of records by their names.

    Raises:
        AnnotationError: The file is missing, not an object, or cut off.
    """
    for element in named_elements(path):
        place = f"{path.name}: {element.member[:80]!r}"
        yield Record(place, element.text, element.value, element.member)


def parts_of(
    found: Iterable[Record | RecordProblem], part: Callable[[Record], Made | None]
) -> Iterator[Made | RecordProblem]:
    """Yield ``part(record)`` for each record, or a problem if it raises `BadRecord`.

    Records for which it returns None are skipped.
    """
    for one in found:
        if isinstance(one, RecordProblem):
            yield one
            continue
        try:
            made = part(one)
        except BadRecord as error:
            yield error.problem(one.place)
            continue
        if made is not None:
            yield made


def file_record(path: Path, place: str) -> Record:
    """Read a file that is one JSON document.

    Raises:
        BadRecord: The file is missing, too large, not UTF-8 or not JSON.
    """
    try:
        with opened(path) as file:
            data = file.read(FILE_LIMIT + 1)
    except AnnotationError as error:
        raise BadRecord("bad_record", str(error)) from None
    if len(data) > FILE_LIMIT:
        raise BadRecord("bad_record", f"{place}: more than {FILE_LIMIT} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRecord("bad_encoding", f"{place}: {error.reason} at byte {error.start}") from None
    return Record(place, text, parse_json(text))


def json_files(folder: Path) -> Iterator[Path]:
    """Yield the JSON files of a folder and its subfolders in arbitrary order, in constant memory.

    Raises:
        AnnotationError: A folder cannot be read.
    """
    pending = [folder]
    try:
        while pending:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(Path(entry.path))
                    elif entry.name.endswith(".json"):
                        yield Path(entry.path)
    except OSError as error:
        raise AnnotationError(f"{folder}: cannot read: {error}") from error


def place_in(path: Path, root: Path) -> str:
    """Return the printable path of a file relative to a folder, for messages."""
    name = path.name if path == root else str(path.relative_to(root))
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def digest(text: str) -> str:
    """Return a short name for a record without a name; it depends only on the text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _first_character(path: Path) -> str:
    with opened(path) as file:
        for _ in range(1024):
            data = file.read(1024).removeprefix(b"\xef\xbb\xbf")
            if not data:
                break
            if text := data.strip():
                return text[:1].decode("latin-1")
    return ""


def _line(line: str, place: str) -> Record:
    try:
        return Record(place, line, parse_json(line))
    except BadRecord:
        if not line.lstrip().startswith("{'"):
            raise
    return _literal(line.strip(), place)


def _literal(line: str, place: str) -> Record:
    if len(line) > LITERAL_LIMIT:
        raise BadRecord("bad_json", f"a literal of {len(line)} characters")
    try:
        # Python only warns of an invalid escape
        with warnings.catch_warnings(action="ignore", category=Warning):
            value = ast.literal_eval(line)
        # JSON has no such value; writing it would change it
        text = json.dumps(value, allow_nan=False)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise BadRecord("bad_json", "neither JSON nor a Python literal") from None
    return Record(place, text, parse_json(text))

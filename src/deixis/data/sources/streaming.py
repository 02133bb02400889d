"""JSON files of any size, read in constant memory."""

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from deixis.data.sources.base import BadRecord
from deixis.errors import AnnotationError

CHUNK = 2**20
ELEMENT_LIMIT = 2**26
"""The most characters of one record; a file's own structure has no limit."""
LINE_LIMIT = 2**26

UTF_16 = (b"\xff\xfe", b"\xfe\xff")
"""How files begin that some editors write as Unicode."""

_BLANK = re.compile(r"[ \t\n\r]*")
_BIG = 400
"""Digits; a longer integer is no coordinate and no id."""


@runtime_checkable
class Readable(Protocol):
    """A file of bytes, plain or unpacked on the way."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; none at the end."""

    def readline(self, size: int, /) -> bytes:
        """Return a line, or ``size`` bytes of it."""


class Element(NamedTuple):
    """An element of a list in a file: the list's name, its number from 0, value and text."""

    member: str
    number: int
    value: Any
    text: str


class Unparsed(str):
    """Stands for a number that is none (NaN, Infinity, thousands of digits)."""

    __slots__ = ()


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        times = Counter(name for name, _ in pairs)
        made |= {name: Unparsed("given twice") for name, count in times.items() if count > 1}
    return made


def _integer(digits: str) -> Any:
    return int(digits) if len(digits) <= _BIG else Unparsed(digits[:40])


_QUICK = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=Unparsed)
_CAREFUL = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=Unparsed, parse_int=_integer)


def parse_json(text: str) -> Any:
    """Parse one JSON document; numbers that are none come back as `Unparsed`.

    A field that is given twice becomes `Unparsed` too, so that whoever wants it finds the fault.

    Raises:
        BadRecord: It is not JSON, or nested too deeply.
    """
    try:
        value, end = _decode(text, _BLANK.match(text, 0).end())  # type: ignore[union-attr]
    except RecursionError:
        raise BadRecord("bad_json", "nested too deeply") from None
    except ValueError as error:
        raise BadRecord("bad_json", str(error)) from None
    if _BLANK.match(text, end).end() != len(text):  # type: ignore[union-attr]
        raise BadRecord("bad_json", f"text after the value, at {end}")
    return value


def _decode(text: str, position: int) -> tuple[Any, int]:
    try:
        return _QUICK.raw_decode(text, position)
    except json.JSONDecodeError:
        raise
    except ValueError:
        # an integer of thousands of digits
        return _CAREFUL.raw_decode(text, position)


def list_elements(
    path: Path, members: Collection[str] | None = None, *, objects: bool = False
) -> Iterator[Element]:
    """Yield the elements of the lists in a file's top-level object, or of its top-level list.

    Args:
        path: The file; ``.gz`` is unpacked on the way.
        members: Names of the lists that are wanted; the rest of the object is passed over. None for
            a file that is one list, whose elements have an empty member.
        objects: A wanted member may also be an object; its values are the elements then.

    Raises:
        AnnotationError: The file is missing, not of that shape, or cut off; the message says at
            which character.
    """
    with opened(path) as file:
        yield from _Reader(file, path).elements(members, objects=objects)


def named_elements(path: Path) -> Iterator[Element]:
    """Yield the members of a file's top-level object, whatever their names; each is an element.

    For files that are one object of records by their ids. A name that comes twice is yielded twice.

    Raises:
        AnnotationError: The file is missing, not an object, or cut off.
    """
    with opened(path) as file:
        yield from _Reader(file, path).members()


def member_value(path: Path, member: str) -> Any:
    """Return one member of a file's top-level object, which has to fit into memory.

    Raises:
        AnnotationError: The file has no such member, or is damaged before its end.
    """
    with opened(path) as file:
        for element in _Reader(file, path).elements((member,), whole=True):
            return element.value
    raise AnnotationError(f"{path}: expected a member {member!r}, found none")


def json_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a JSON-lines file with their numbers from 1; empty lines are skipped.

    What is not UTF-8 comes back with U+FFFD in its place, which no reader takes for JSON's own
    text without noticing: `parse_json` is the place that decides.

    Raises:
        AnnotationError: The file is missing, cannot be unpacked, or has a line beyond the limit.
    """
    with opened(path) as file:
        number = 0
        while line := file.readline(LINE_LIMIT + 1):
            number += 1
            if len(line) > LINE_LIMIT:
                raise AnnotationError(f"{path}: line {number} has more than {LINE_LIMIT} bytes")
            text = line.decode("utf-8", errors="surrogateescape").removeprefix("\ufeff")
            if text.strip():
                yield number, text.rstrip("\r\n")


@contextmanager
def opened(path: Path) -> Iterator[Readable]:
    """Open a file for reading, unpacking gzip.

    Raises:
        AnnotationError: It is missing, not a regular file, or damaged.
    """
    try:
        if not path.is_file():
            kind = "is a folder" if path.is_dir() else "does not exist"
            raise AnnotationError(f"{path}: {kind}, expected an annotation file")
        with path.open("rb") as raw:
            start = raw.read(2)
            zipped = start == b"\x1f\x8b"
            if start in UTF_16:
                raise AnnotationError(f"{path}: is UTF-16, expected UTF-8: save it as that")
            raw.seek(0)
            if zipped:
                with gzip.open(raw, "rb") as file:
                    yield file
            else:
                yield raw
    except (OSError, EOFError, zlib.error) as error:
        raise AnnotationError(f"{path}: cannot read: {error}") from error


class _Reader:
    """A window over a file's text that moves forward only."""

    def __init__(self, file: Readable, path: Path) -> None:
        self.file = file
        self.path = path
        self.text = ""
        self.at = 0
        self.passed = 0
        self.rest = b""
        self.ended = False

    def elements(
        self, members: Collection[str] | None, *, whole: bool = False, objects: bool = False
    ) -> Iterator[Element]:
        self.fill()
        if self.text.startswith("\ufeff"):
            self.at = 1
        if members is None:
            self.expect("[", "a list")
            yield from self.items("")
        else:
            self.expect("{", "an object")
            yield from self.object_members(members, whole=whole, objects=objects)
        if self.peek() != "":
            raise self.fault("text after the end")

    def object_members(
        self, members: Collection[str], *, whole: bool, objects: bool
    ) -> Iterator[Element]:
        seen: set[str] = set()
        if self.peek() == "}":
            self.at += 1
            return
        while True:
            name, _ = self.value()
            if not isinstance(name, str):
                raise self.fault("expected a member's name")
            if name in seen:
                raise self.fault(f"member {name!r} comes twice")
            seen.add(name)
            self.expect(":", "a colon")
            if name not in members:
                self.skip()
            elif whole:
                value, text = self.value()
                yield Element(name, 0, value, text)
            elif objects and self.peek() == "{":
                self.at += 1
                for element in self.pairs():
                    yield element._replace(member=name)
            else:
                self.expect("[", f"a list in {name!r}")
                yield from self.items(name)
            if self.ends("}"):
                return

    def skip(self) -> None:
        """Pass over a value; a list or an object in pieces, since it may be most of the file."""
        opening = self.peek()
        if opening not in {"[", "{"}:
            self.value()
            return
        self.at += 1
        for _ in self.items("") if opening == "[" else self.pairs():
            pass

    def members(self) -> Iterator[Element]:
        self.fill()
        if self.text.startswith("\ufeff"):
            self.at = 1
        self.expect("{", "an object")
        yield from self.pairs()
        if self.peek() != "":
            raise self.fault("text after the end")

    def pairs(self) -> Iterator[Element]:
        """The members of an object that is open, whatever their names."""
        number, done = 0, self.peek() == "}"
        self.at += done
        while not done:
            name, _ = self.value()
            if not isinstance(name, str):
                raise self.fault("expected a member's name")
            self.expect(":", "a colon")
            value, text = self.value()
            yield Element(name, number, value, text)
            number, done = number + 1, self.ends("}")

    def items(self, member: str) -> Iterator[Element]:
        if self.peek() == "]":
            self.at += 1
            return
        number = 0
        while True:
            value, text = self.value()
            yield Element(member, number, value, text)
            number += 1
            if self.ends("]"):
                return

    def ends(self, closing: str) -> bool:
        """Pass a comma, or the end of a list or object."""
        found = self.peek()
        if found not in {",", closing} or found == "":
            raise self.fault(f"expected ',' or {closing!r}, got {found!r}")
        self.at += 1
        return found == closing

    def expect(self, character: str, what: str) -> None:
        found = self.peek()
        if found != character:
            raise self.fault(f"expected {what}, got {found!r}" if found else f"expected {what}")
        self.at += 1

    def peek(self) -> str:
        """The next character that is not blank; empty at the end of the file."""
        while True:
            match = _BLANK.match(self.text, self.at)
            self.at = self.at if match is None else match.end()
            if self.at < len(self.text):
                return self.text[self.at]
            if self.ended:
                return ""
            self.fill()

    def value(self) -> tuple[Any, str]:
        self.peek()
        reach = CHUNK
        while True:
            try:
                value, end = _decode(self.text, self.at)
            except RecursionError:
                raise self.fault("nested too deeply") from None
            except ValueError as error:
                if self.ended or len(self.text) - self.at > ELEMENT_LIMIT:
                    reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                    raise self.fault(f"{reason}: damaged or cut off") from None
            else:
                # a number at the end of the window may go on
                if end < len(self.text) or self.ended:
                    text = self.text[self.at : end]
                    self.at = end
                    return value, text
            self.fill(reach)
            reach *= 2

    def fill(self, count: int = CHUNK) -> None:
        self.passed += self.at
        more = self.file.read(count)
        self.ended = not more
        data = self.rest + more
        text, self.rest = _split_utf8(data, last=self.ended)
        self.text = self.text[self.at :] + text
        self.at = 0

    def fault(self, reason: str) -> AnnotationError:
        return AnnotationError(f"{self.path}: at character {self.passed + self.at}: {reason}")


def _split_utf8(data: bytes, *, last: bool) -> tuple[str, bytes]:
    """Decode all whole characters; the bytes of a cut one are kept for the next time."""
    if not last:
        for back in range(1, min(4, len(data)) + 1):
            byte = data[-back]
            if byte & 0xC0 != 0x80:
                need = 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
                if need > back:
                    return data[:-back].decode("utf-8", "surrogateescape"), data[-back:]
                break
    return data.decode("utf-8", "surrogateescape"), b""

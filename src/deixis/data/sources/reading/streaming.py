"""JSON files of any size, read in constant memory."""

# ijson (3.6, its C backend) took twice the time on 300 MB of COCO annotations. It does not return the
# text of a record, keeps the last of duplicate fields, and stops at a NaN, which here is a problem of
# one record only.

import codecs
import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from deixis.data.sources.base import BadRecord
from deixis.errors import AnnotationError

CHUNK = 2**20
ELEMENT_LIMIT = 2**26
"""The most characters of one record; the size of the file is not limited."""
LINE_LIMIT = 2**26

UTF_16 = (b"\xff\xfe", b"\xfe\xff")
"""Byte order marks of UTF-16."""

_BLANK = re.compile(r"[ \t\n\r]*")
_BIG = 400
"""The most digits of an integer; coordinates and ids are shorter."""


@runtime_checkable
class Readable(Protocol):
    """A file of bytes, plain or decompressed while it is read."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; empty at the end of the file."""

    def readline(self, size: int, /) -> bytes:
        """Return the next line, or its first ``size`` bytes."""


class Element(NamedTuple):
    """An element of a list in a file: the name of the list, its index from 0, value and text."""

    member: str
    number: int
    value: Any
    text: str


class Unparsed(str):
    """A value that JSON readers must not accept: NaN, Infinity, integers of thousands of digits."""

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
    """Parse one JSON document; NaN, Infinity and very long integers become `Unparsed`.

    A duplicate field becomes `Unparsed` too, so that reading it raises an error.

    Raises:
        BadRecord: The text is not JSON, or nested too deeply.
    """
    try:
        value, end = _decode(text, _past_blanks(text, 0))
    except RecursionError:
        raise BadRecord("bad_json", "nested too deeply") from None
    except ValueError as error:
        raise BadRecord("bad_json", str(error)) from None
    if _past_blanks(text, end) != len(text):
        raise BadRecord("bad_json", f"text after the value, at {end}")
    return value


def _past_blanks(text: str, position: int) -> int:
    found = _BLANK.match(text, position)
    return position if found is None else found.end()


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
        members: Names of the wanted lists; other members of the object are skipped. None for a file
            that is one list, whose elements have an empty member name.
        objects: A wanted member may also be an object, whose values are then the elements.

    Raises:
        AnnotationError: The file is missing, has another structure, or is cut off; the message has
            the position as a character index.
    """
    with opened(path) as file:
        reader = _Reader(file, path)
        if members is None:
            yield from reader.document("[", "a list", reader.items)
        else:
            inner = partial(reader.members, members, objects=objects)
            yield from reader.document("{", "an object", inner)


def named_elements(path: Path) -> Iterator[Element]:
    """Yield all members of a file's top-level object as elements.

    For files that are one object of records by id. A duplicate name is yielded twice.

    Raises:
        AnnotationError: The file is missing, not an object, or cut off.
    """
    with opened(path) as file:
        reader = _Reader(file, path)
        yield from reader.document("{", "an object", reader.pairs)


def member_value(path: Path, member: str) -> Any:
    """Return one member of a file's top-level object; the member has to fit into memory.

    Raises:
        AnnotationError: The file has no such member, or is damaged before its end.
    """
    with opened(path) as file:
        reader = _Reader(file, path)
        inner = partial(reader.members, (member,), whole=True)
        for element in reader.document("{", "an object", inner):
            return element.value
    raise AnnotationError(f"{path}: expected a member {member!r}, found none")


def json_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a JSON-lines file with their numbers from 1; empty lines are skipped.

    Bytes that are not UTF-8 are replaced by U+FFFD; `parse_json` decides whether the line is valid.

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
    """Open a file for reading; gzip is decompressed.

    Raises:
        AnnotationError: The file is missing, not a regular file, or damaged.
    """
    try:
        if not path.is_file():
            kind = "is a folder" if path.is_dir() else "does not exist"
            raise AnnotationError(f"{path}: {kind}, expected an annotation file")
        with path.open("rb") as raw:
            start = raw.read(2)
            zipped = start == b"\x1f\x8b"
            if start in UTF_16:
                raise AnnotationError(f"{path}: is UTF-16, expected UTF-8")
            raw.seek(0)
            if zipped:
                with gzip.open(raw, "rb") as file:
                    yield file
            else:
                yield raw
    except (OSError, EOFError, zlib.error) as error:
        raise AnnotationError(f"{path}: cannot read: {error}") from error


class _Reader:
    """A JSON parser over a window of the file's text that only moves forward."""

    def __init__(self, file: Readable, path: Path) -> None:
        self.file = file
        self.path = path
        self.decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.text = ""
        self.at = 0
        self.passed = 0
        self.ended = False

    def document(
        self, opening: str, what: str, inner: Callable[[], Iterator[Element]]
    ) -> Iterator[Element]:
        """Read the whole file; ``inner`` reads the top-level list or object after its bracket."""
        self.fill()
        self.at = int(self.text.startswith("\ufeff"))
        self.expect(opening, what)
        yield from inner()
        if self.peek() != "":
            raise self.problem("text after the end")

    def members(
        self, members: Collection[str], *, whole: bool = False, objects: bool = False
    ) -> Iterator[Element]:
        """Yield the elements of the wanted lists of an open object, or its wanted members whole."""
        seen: set[str] = set()
        for name in self.names():
            if name in seen:
                raise self.problem(f"member {name!r} comes twice")
            seen.add(name)
            if name not in members:
                self.skip()
            elif whole:
                yield Element(name, 0, *self.value())
            elif objects and self.peek() == "{":
                self.at += 1
                yield from (element._replace(member=name) for element in self.pairs())
            else:
                self.expect("[", f"a list in {name!r}")
                yield from self.items(name)

    def skip(self) -> None:
        """Skip a value; lists and objects are skipped piece by piece, since they may be large."""
        opening = self.peek()
        if opening not in {"[", "{"}:
            self.value()
            return
        self.at += 1
        for _ in self.items() if opening == "[" else self.pairs():
            pass

    def names(self) -> Iterator[str]:
        """Yield the member names of an open object; the caller reads each value before the next."""
        done = self.peek() == "}"
        self.at += done
        while not done:
            name, _ = self.value()
            if not isinstance(name, str):
                raise self.problem("expected a member's name")
            self.expect(":", "a colon")
            yield name
            done = self.ends("}")

    def pairs(self) -> Iterator[Element]:
        """Yield all members of an open object."""
        for number, name in enumerate(self.names()):
            yield Element(name, number, *self.value())

    def items(self, member: str = "") -> Iterator[Element]:
        """Yield the elements of an open list."""
        number, done = 0, self.peek() == "]"
        self.at += done
        while not done:
            yield Element(member, number, *self.value())
            number, done = number + 1, self.ends("]")

    def ends(self, closing: str) -> bool:
        """Consume a comma or the closing bracket; return whether it was the bracket."""
        found = self.peek()
        if found not in {",", closing} or found == "":
            raise self.problem(f"expected ',' or {closing!r}, got {found!r}")
        self.at += 1
        return found == closing

    def expect(self, character: str, what: str) -> None:
        found = self.peek()
        if found != character:
            raise self.problem(f"expected {what}, got {found!r}" if found else f"expected {what}")
        self.at += 1

    def peek(self) -> str:
        """Return the next character that is not blank, or an empty text at the end of the file."""
        while True:
            self.at = _past_blanks(self.text, self.at)
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self.fill()

    def value(self) -> tuple[Any, str]:
        self.peek()
        reach = CHUNK
        while True:
            try:
                value, end = _decode(self.text, self.at)
            except RecursionError:
                raise self.problem("nested too deeply") from None
            except ValueError as error:
                if self.ended or len(self.text) - self.at > ELEMENT_LIMIT:
                    reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                    raise self.problem(f"{reason}: damaged or cut off") from None
            else:
                # a number at the end of the window may continue
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
        self.text = self.text[self.at :] + self.decoder.decode(more, self.ended)
        self.at = 0

    def problem(self, reason: str) -> AnnotationError:
        return AnnotationError(f"{self.path}: at character {self.passed + self.at}: {reason}")

"""A reader of pickles with plain data, which never imports or calls anything that a file names.

Python's own unpickler imports and calls the functions that a file names. This reader supports lists,
tuples, dicts, texts, bytes, numbers, None and NumPy's scalars, and refuses all other files. It reads
every protocol; texts of Python 2 are read as UTF-8.
"""

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from deixis.data.sources.reading.streaming import opened
from deixis.errors import AnnotationError

FILE_LIMIT = 2**28
"""The most bytes of a pickle, which is read into memory; the largest in use have about 40 MB."""

STEP_LIMIT = 2**24
"""Most instructions of a pickle."""

DEPTH_LIMIT = 64
"""The deepest nesting of containers."""

COST_RATE, COST_SLACK = 40, 2**20
"""The memory limit of a file in bytes: this many for each byte read so far, plus the slack.

One byte of a file can create an empty dict of 64 bytes. The files of RefCOCO need 9 to 21 bytes of
memory per byte.
"""

_LONG_LIMIT = 32
"""The most bytes of an integer; coordinates and ids are shorter."""
_SCALAR_LIMIT = 8
"""The most bytes of a NumPy number."""
_NUMBER_LIMIT = 400
"""The most characters of a number in decimal; Python writes at most 320."""
# Approximate bytes of objects, with their places on the stack or in their container.
_STEP, _PLACE, _VALUE, _CONTAINER = 8, 8, 48, 72
_ENTRY, _FIRST_ENTRY, _REMEMBERED = 48, 128, 80
_DTYPE = re.compile(r"[iuf][248]|[iu]1|b1")
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.?))", re.DOTALL)
_ESCAPES = {b"\\": b"\\", b"'": b"'", b'"': b'"', b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_NUMPY = {
    ("numpy", "dtype"): "dtype",
    ("numpy.core.multiarray", "scalar"): "scalar",
    ("numpy._core.multiarray", "scalar"): "scalar",
    ("_codecs", "encode"): "encode",
}


_TOO_COSTLY = f"asks for over {COST_RATE} bytes of memory per byte of the file"


class _Refused(Exception):  # noqa: N818
    """The reason why a pickle is refused."""


@dataclass(frozen=True, slots=True)
class _Name:
    """One of the four names used in pickled scalars; it is never resolved to a callable."""

    name: str


@dataclass(slots=True)
class _Dtype:
    code: str
    order: str = "<"


class _Mark:
    """The start of a container's items on the stack."""


_MARK: Final = _Mark()


def read_pickle(path: Path) -> object:
    """Return the plain data of a pickle; ``.gz`` is unpacked.

    The memory of every instruction is counted before it runs, so time and memory are at most
    proportional to the size of the file. Containers may be shared or contain themselves: code that
    traverses them needs a limit.

    Raises:
        AnnotationError: The file is missing, damaged, too large, nested too deeply, needs more memory
            than its size allows, or contains anything but plain data.
    """
    with opened(path) as file:
        data = file.read(FILE_LIMIT + 1)
    if len(data) > FILE_LIMIT:
        raise AnnotationError(f"{path}: expected a pickle of at most {FILE_LIMIT} bytes")
    machine = _Machine(data)
    try:
        return machine.run()
    except _Refused as error:
        raise AnnotationError(f"{path}: at byte {machine.start}: {error}") from None
    except (IndexError, ValueError, TypeError, KeyError, struct.error) as error:
        reason = str(error) or type(error).__name__
        raise AnnotationError(
            f"{path}: at byte {machine.start}: not a pickle, or cut off ({reason})"
        ) from None


class _Machine:
    """The stack machine that runs a pickle's instructions.

    Each value on the stack has its depth; a value that is recalled from the memo has depth 0.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.start = 0
        self.cost = 0
        self.stack: list[object] = []
        self.depths: list[int] = []
        self.memo: dict[int, object] = {}

    def run(self) -> object:
        data, known = self.data, _PRICED
        for _ in range(STEP_LIMIT):
            self.start = self.at
            instruction = data[self.at]
            self.at += 1
            if instruction == _STOP:
                (value,) = self.stack
                return value
            act, price = known[instruction]
            if act is None:
                raise _Refused(f"instruction {bytes([instruction])!r} is not part of plain data")
            self.cost += price
            if self.cost > COST_RATE * self.at + COST_SLACK:
                raise _Refused(_TOO_COSTLY)
            act(self)
        raise _Refused(f"more than {STEP_LIMIT} instructions")

    def charge(self, cost: int) -> None:
        self.cost += cost
        if self.cost > COST_RATE * self.at + COST_SLACK:
            raise _Refused(_TOO_COSTLY)

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.data):
            raise _Refused("cut off")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    def line(self) -> bytes:
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise _Refused("cut off")
        taken = self.data[self.at : end]
        self.at = end + 1
        return taken

    def push(self, value: object) -> None:
        self.stack.append(value)
        self.depths.append(0)

    def push_filled(self, value: object, depth: int) -> None:
        """Push a container whose items have the given depth."""
        self.push(value)
        self.deepen(depth)

    def deepen(self, depth: int) -> None:
        """Update the depth of the container at the top for a new item."""
        if depth >= self.depths[-1]:
            if depth >= DEPTH_LIMIT:
                raise _Refused(f"nested over {DEPTH_LIMIT} deep")
            self.depths[-1] = depth + 1

    def pop(self) -> tuple[object, int]:
        """Remove and return the value at the top and its depth."""
        value = self.stack.pop()
        if value is _MARK:
            raise _Refused("a container ends that never began")
        return value, self.depths.pop()

    def items(self) -> tuple[list[object], int]:
        """Remove the last mark; return the values above it and their greatest depth."""
        for position in range(len(self.stack) - 1, -1, -1):
            if self.stack[position] is _MARK:
                found = self.stack[position + 1 :]
                depth = max(self.depths[position:])
                del self.stack[position:], self.depths[position:]
                return found, depth
        raise _Refused("a container ends that never began")

    def list_at_top(self) -> list[object]:
        top = self.stack[-1]
        if not isinstance(top, list):
            raise _Refused(f"items of a list are put into a {type(top).__name__}")
        return top

    def fill_dict(self, pairs: list[object], depth: int) -> None:
        top = self.stack[-1]
        if not isinstance(top, dict):
            raise _Refused(f"items of a dict are put into a {type(top).__name__}")
        if len(pairs) % 2:
            raise _Refused("a dict has a key without a value")
        self.charge(_ENTRY * (len(pairs) // 2) + (_FIRST_ENTRY if pairs and not top else 0))
        self.deepen(depth)
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, str | int):
                raise _Refused(f"a dict has a {type(key).__name__} for a key")
            top[key] = value

    def named(self, module: object, name: object) -> None:
        # values other than texts may be nested, and slow to compare and to print
        known = (
            _NUMPY.get((module, name))
            if isinstance(module, str) and isinstance(name, str)
            else None
        )
        if known is None:
            raise _Refused(f"refers to {_told(module)}.{_told(name)}, expected plain data")
        self.push(_Name(known))

    def reduce(self) -> None:
        arguments, _ = self.pop()
        name, _ = self.pop()
        if not isinstance(name, _Name) or not isinstance(arguments, tuple) or not arguments:
            raise _Refused("calls a function that is not part of plain data")
        first = arguments[0]
        if name.name == "dtype" and isinstance(first, str) and _DTYPE.fullmatch(first):
            self.push(_Dtype(first))
        elif name.name == "encode" and isinstance(first, str) and arguments[1:] == ("latin1",):
            # a text that is remembered can be encoded again and again
            self.charge(len(first))
            self.push(first.encode("latin-1"))
        elif name.name == "scalar" and isinstance(first, _Dtype) and len(arguments) == 2:
            self.push(_scalar(first, arguments[1]))
        else:
            raise _Refused("a NumPy scalar has an unsupported type")

    def build(self) -> None:
        state, _ = self.pop()
        top = self.stack[-1]
        if not isinstance(top, _Dtype) or not isinstance(state, tuple) or len(state) < 2:
            raise _Refused("sets the state of an object that is not plain data")
        if state[1] not in ("<", ">", "|", "="):
            raise _Refused("a NumPy scalar has an unsupported type")
        top.order = str(state[1])

    def remember(self, number: int) -> None:
        value = self.stack[-1]
        if value is _MARK:
            raise _Refused("a mark is remembered")
        if number not in self.memo:
            self.charge(_REMEMBERED)
        self.memo[number] = value


def _told(name: object) -> str:
    """Return a name in a pickle as text for a message."""
    if not isinstance(name, str):
        return f"a {type(name).__name__}"
    return name if len(name) <= 80 else f"{name[:77]}..."


def _scalar(dtype: _Dtype, data: object) -> object:
    if isinstance(data, str):
        # Python 2 wrote the bytes as a text
        data = data[: _SCALAR_LIMIT + 1].encode("latin-1")
    if not isinstance(data, bytes):
        raise _Refused("a NumPy scalar has no bytes")
    if len(data) > _SCALAR_LIMIT:
        raise _Refused(f"a NumPy scalar has {len(data)} bytes")
    order = "<" if dtype.order == "=" else dtype.order
    (value,) = np.frombuffer(data, np.dtype(f"{order}{dtype.code}")).tolist()
    return value


def _text(data: bytes) -> str:
    """Return a text of Python 2: UTF-8, or each byte a character (as the bytes of a scalar are)."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _quoted(machine: _Machine) -> None:
    line = machine.line().rstrip(b"\r")
    if len(line) < 2 or line[:1] not in {b"'", b'"'} or line[-1:] != line[:1]:
        raise _Refused("a text without quotes")
    inner = line[1:-1]
    machine.push(_text(_ESCAPE.sub(_unescaped, inner) if b"\\" in inner else inner))


def _unescaped(found: re.Match[bytes]) -> bytes:
    if found[1]:
        return bytes([int(found[1], 16)])
    if found[2] not in _ESCAPES:
        raise _Refused(f"a text has an escape {found[0]!r}")
    return _ESCAPES[found[2]]


def _decimal(machine: _Machine) -> None:
    line = machine.line()
    if line in {b"00", b"01"}:
        machine.push(line == b"01")
    else:
        machine.push(_whole(line))


def _whole(line: bytes) -> int:
    if len(line) > 2 * _LONG_LIMIT:
        raise _Refused("an integer is too long")
    return int(line)


def _long(machine: _Machine, length: int) -> None:
    if length > _LONG_LIMIT:
        raise _Refused("an integer is too long")
    machine.push(int.from_bytes(machine.take(length), "little", signed=True))


def _written_float(machine: _Machine) -> None:
    line = machine.line()
    if len(line) > _NUMBER_LIMIT:
        raise _Refused("a number is too long")
    machine.push(float(line))


def _float(machine: _Machine) -> None:
    (value,) = struct.unpack(">d", machine.take(8))
    machine.push(value)


def _put_list(machine: _Machine) -> None:
    values, depth = machine.items()
    machine.push_filled(values, depth)


def _put_dict(machine: _Machine) -> None:
    pairs, depth = machine.items()
    machine.push({})
    machine.fill_dict(pairs, depth)


def _fill_dict(machine: _Machine) -> None:
    machine.fill_dict(*machine.items())


def _set_item(machine: _Machine) -> None:
    value, depth = machine.pop()
    key, _ = machine.pop()
    machine.fill_dict([key, value], depth)


def _append(machine: _Machine) -> None:
    value, depth = machine.pop()
    machine.list_at_top().append(value)
    machine.deepen(depth)


def _extend(machine: _Machine) -> None:
    values, depth = machine.items()
    machine.list_at_top().extend(values)
    machine.deepen(depth)


def _put_marked_tuple(machine: _Machine) -> None:
    values, depth = machine.items()
    machine.push_filled(tuple(values), depth)


def _put_tuple(machine: _Machine, count: int) -> None:
    above = [machine.pop() for _ in range(count)]
    depth = max(one for _, one in above)
    machine.push_filled(tuple(value for value, _ in reversed(above)), depth)


def _named_above(machine: _Machine) -> None:
    name, _ = machine.pop()
    module, _ = machine.pop()
    machine.named(module, name)


def _drop(machine: _Machine) -> None:
    machine.pop()


def _skip(length: int) -> Callable[[_Machine], None]:
    """Skip an argument that does not affect the value."""

    def act(machine: _Machine) -> None:
        machine.take(length)

    return act


def _unicode(length: int) -> Callable[[_Machine], None]:
    def act(machine: _Machine) -> None:
        text = machine.take(machine.number(length))
        machine.push(text.decode("utf-8", "surrogatepass"))

    return act


def _string(length: int) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(_text(machine.take(machine.number(length))))


def _bytes(length: int) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(machine.take(machine.number(length)))


def _constant(value: object) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(value)


def _put(length: int) -> Callable[[_Machine], None]:
    return lambda machine: machine.remember(machine.number(length))


def _get(length: int) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(machine.memo[machine.number(length)])


_STOP = ord(".")
# Instructions by protocol; those that call, import or extend are missing.
_INSTRUCTIONS: Mapping[int, Callable[[_Machine], None]] = {
    ord("("): _constant(_MARK),
    ord("0"): _drop,
    ord("N"): _constant(None),
    ord("I"): _decimal,
    ord("L"): lambda machine: machine.push(_whole(machine.line().rstrip(b"L"))),
    ord("F"): _written_float,
    ord("S"): _quoted,
    ord("V"): lambda machine: machine.push(machine.line().decode("raw-unicode-escape")),
    ord("l"): _put_list,
    ord("d"): _put_dict,
    ord("t"): _put_marked_tuple,
    ord("a"): _append,
    ord("s"): _set_item,
    ord("p"): lambda machine: machine.remember(_whole(machine.line())),
    ord("g"): lambda machine: machine.push(machine.memo[_whole(machine.line())]),
    ord("c"): lambda machine: machine.named(machine.line().decode(), machine.line().decode()),
    ord("R"): lambda machine: machine.reduce(),
    ord("b"): lambda machine: machine.build(),
    # protocol 1
    ord("J"): lambda machine: machine.push(int.from_bytes(machine.take(4), "little", signed=True)),
    ord("K"): lambda machine: machine.push(machine.number(1)),
    ord("M"): lambda machine: machine.push(machine.number(2)),
    ord("G"): _float,
    ord("T"): _string(4),
    ord("U"): _string(1),
    ord("X"): _unicode(4),
    ord("]"): lambda machine: machine.push([]),
    ord("}"): lambda machine: machine.push({}),
    ord(")"): _constant(()),
    ord("e"): _extend,
    ord("u"): _fill_dict,
    ord("q"): _put(1),
    ord("r"): _put(4),
    ord("h"): _get(1),
    ord("j"): _get(4),
    # protocol 2
    0x80: _skip(1),
    0x85: lambda machine: _put_tuple(machine, 1),
    0x86: lambda machine: _put_tuple(machine, 2),
    0x87: lambda machine: _put_tuple(machine, 3),
    0x88: _constant(True),
    0x89: _constant(False),
    0x8A: lambda machine: _long(machine, machine.number(1)),
    0x8B: lambda machine: _long(machine, machine.number(4)),
    # protocols 3 and 4
    ord("B"): _bytes(4),
    ord("C"): _bytes(1),
    0x8C: _unicode(1),
    0x8D: _unicode(8),
    0x8E: _bytes(8),
    0x93: _named_above,
    0x94: lambda machine: machine.remember(len(machine.memo)),
    0x95: _skip(8),
}
_PRICES: Mapping[int, int] = {
    **dict.fromkeys(map(ord, "]}ld"), _CONTAINER),
    **dict.fromkeys((ord("t"), 0x85, 0x86, 0x87), _CONTAINER),
    **dict.fromkeys(map(ord, "ILFSVcRJMGTUXBC"), _VALUE),
    **dict.fromkeys((0x8A, 0x8B, 0x8C, 0x8D, 0x8E, 0x93), _VALUE),
    # these push existing objects: constants, small numbers, values of the memo
    **dict.fromkeys(map(ord, "(NK)ghj"), _PLACE),
    **dict.fromkeys((0x88, 0x89), _PLACE),
    # a list over-allocates when it grows
    **dict.fromkeys(map(ord, "ae"), _PLACE),
}
_PRICED = [(_INSTRUCTIONS.get(code), _STEP + _PRICES.get(code, 0)) for code in range(256)]

"""XML files, read with suspicion: no document types, so no entities; nothing is fetched."""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET
from xml.parsers import expat

from deixis.data.sources.base import BadRecord
from deixis.data.sources.fields import as_number, as_text
from deixis.data.sources.streaming import CHUNK, opened
from deixis.errors import AnnotationError
from deixis.geometry.checks import shown

FILE_LIMIT = 2**23
"""Bytes of an annotation file; those in use have some kilobytes."""
DEPTH_LIMIT = 64
NODE_LIMIT = 500_000
"""Elements in one of the elements that `xml_children` yields."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def read_small_text(path: Path, code: str) -> str:
    """The text of a small file; bytes that are not UTF-8 stay as surrogates, for `as_text` to find.

    A byte order mark is no text.

    Raises:
        BadRecord: There is no such regular file (``unknown_annotation``), or it is too large or
            cannot be read (``code``).
    """
    try:
        if not path.is_file():
            raise BadRecord("unknown_annotation", f"{path.name}: no such file")
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT + 1)
    except (OSError, ValueError) as error:
        raise BadRecord(code, f"{path.name}: cannot read: {error}") from None
    if len(data) > FILE_LIMIT:
        raise BadRecord(code, f"{path.name}: over {FILE_LIMIT} bytes")
    return data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")


def parse_xml(text: str) -> ET.Element:
    """Parse a document, as UTF-8 whatever it declares.

    Raises:
        BadRecord: It is not XML, not UTF-8, nested too deeply, or declares a document type.
    """
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRecord("bad_encoding", "XML: not UTF-8") from None
    builder = ET.TreeBuilder()
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEPTH_LIMIT:
            raise BadRecord("bad_xml", f"XML: nested more than {DEPTH_LIMIT} deep")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    def refuse(*_: object) -> None:
        raise BadRecord("bad_xml", "XML: declares a document type, which is not read")

    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise BadRecord("bad_xml", f"XML: {error}") from None
    return builder.close()


def xml_children(path: Path, root: str) -> Iterator[ET.Element]:
    """Yield the children of a document's root, one at a time: the file may be of any size.

    Args:
        path: The file; ``.gz`` is unpacked on the way.
        root: What the root has to be called.

    Raises:
        AnnotationError: The file is missing, not XML in UTF-8, cut off, nested too deeply, declares a
            document type, has another root, or a child has more than 500,000 elements.
    """
    builder = ET.TreeBuilder()
    depth = nodes = 0
    ready: list[ET.Element] = []

    def refuse(*_: object) -> None:
        raise AnnotationError(f"{path}: declares a document type, which is not read")

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, nodes, builder
        depth += 1
        if depth == 1:
            if name != root:
                raise AnnotationError(f"{path}: expected the root <{root}>, got <{name[:80]}>")
            return
        if depth == 2:
            builder, nodes = ET.TreeBuilder(), 0
        nodes += 1
        if depth > DEPTH_LIMIT or nodes > NODE_LIMIT:
            raise AnnotationError(
                f"{path}: at line {parser.CurrentLineNumber}: nested more than {DEPTH_LIMIT} deep, "
                f"or more than {NODE_LIMIT} elements in one"
            )
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        if depth >= 1:
            builder.end(name)
        if depth == 1:
            ready.append(builder.close())

    def data(text: str) -> None:
        if depth >= 2:
            builder.data(text)

    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = data
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    with opened(path) as file:
        try:
            while chunk := file.read(CHUNK):
                parser.Parse(chunk, False)
                yield from ready
                ready.clear()
            parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise AnnotationError(f"{path}: XML: {error}") from None
    yield from ready


def attribute_text(element: ET.Element, name: str) -> str:
    """The text of an attribute, which is not empty.

    Raises:
        BadRecord: The attribute is missing or empty.
    """
    if name not in element.attrib:
        raise BadRecord("bad_record", f"<{element.tag}>: {name} is missing")
    return as_text(element.attrib[name], name)


def attribute_number(element: ET.Element, name: str, default: float | None = None) -> float:
    """The number that an attribute holds.

    Raises:
        BadRecord: It holds no finite number, or is not there and has no default.
    """
    if default is not None and name not in element.attrib:
        return default
    return text_number(attribute_text(element, name), name)


def text_number(text: str, name: str) -> float:
    """The finite number that a text is; ``12``, ``12.5`` and ``1e-3`` are numbers.

    Raises:
        BadRecord: It is none.
    """
    if len(text) > 40 or not _NUMBER.fullmatch(text):
        raise BadRecord("bad_number", f"{name}: expected a number, got {shown(text)}")
    return as_number(float(text), name)


def child(element: ET.Element, tag: str) -> ET.Element:
    """The only child of a name.

    Raises:
        BadRecord: There is none, or there are several.
    """
    found = element.findall(tag)
    if len(found) != 1:
        raise BadRecord("bad_record", f"{element.tag}: expected one <{tag}>, got {len(found)}")
    return found[0]


def child_text(element: ET.Element, tag: str) -> str:
    """The text of the only child of a name, which is not empty.

    Raises:
        BadRecord: It is not there once, or has no text.
    """
    return as_text(child(element, tag).text or "", tag)


def child_number(element: ET.Element, tag: str) -> float:
    """The number that the only child of a name holds; ``12`` and ``12.5`` are numbers.

    Raises:
        BadRecord: It is not there once, or holds no finite number.
    """
    return text_number(child_text(element, tag), tag)


def child_flag(element: ET.Element, tag: str) -> bool:
    """Whether a child of a name holds a number other than 0; no where there is none.

    Raises:
        BadRecord: It holds no number, or is there several times.
    """
    return element.find(tag) is not None and child_number(element, tag) != 0

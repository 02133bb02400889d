"""XML files, read with defusedxml: without document types, entities or external resources."""

import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from xml.etree import ElementTree as ET

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from deixis.data.sources.base import BadRecord
from deixis.data.sources.reading.fields import as_number, as_text
from deixis.data.sources.reading.streaming import CHUNK, opened
from deixis.errors import AnnotationError
from deixis.geometry.checks import shown

FILE_LIMIT = 2**23
"""The most bytes of a small annotation file; those in use have some kilobytes."""
DEPTH_LIMIT = 64
NODE_LIMIT = 500_000
"""The most elements within an element of `xml_children`."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def read_small_text(path: Path, code: str) -> str:
    """Return the text of a small file without its byte order mark.

    Bytes that are not UTF-8 become surrogates, which `as_text` refuses.

    Raises:
        BadRecord: The regular file does not exist (``unknown_annotation``), is too large, or cannot
            be read (both ``code``).
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


class _Builder(ET.TreeBuilder):
    """Builds elements within bounds; ``ready`` has the complete children of the root.

    Text is kept from ``text_depth`` on, where 1 is the root.
    """

    def __init__(self, text_depth: int) -> None:
        super().__init__()
        self.text_depth = text_depth
        self.depth = self.nodes = 0
        self.ready: list[ET.Element] = []
        self.root = ET.Element("")

    def start(self, tag: str, attrs: dict[str, str], /) -> ET.Element:
        self.depth += 1
        self.nodes = self.nodes + 1 if self.depth > 2 else 1
        if self.depth > DEPTH_LIMIT or self.nodes > NODE_LIMIT:
            raise BadRecord(
                "bad_xml",
                f"XML: nested more than {DEPTH_LIMIT} deep, or more than {NODE_LIMIT} elements in one",
            )
        # namespaces are ignored
        element = super().start(tag.rpartition("}")[2], attrs)
        if self.depth == 1:
            self.root = element
        return element

    def end(self, tag: str, /) -> ET.Element:
        self.depth -= 1
        element = super().end(tag.rpartition("}")[2])
        if self.depth == 1:
            self.ready.append(element)
        return element

    def data(self, data: str, /) -> None:
        if self.depth >= self.text_depth:
            super().data(data)


def _parsed(chunks: Iterable[bytes], *, text_depth: int) -> Iterator[_Builder]:
    """Yield the builder after each chunk, and at the end of the document.

    Raises:
        BadRecord: The text is not XML in UTF-8, declares a document type, or is beyond the limits.
    """
    builder = _Builder(text_depth)
    parser = DefusedXMLParser(target=builder, encoding="utf-8", forbid_dtd=True)
    try:
        for chunk in chunks:
            parser.feed(chunk)
            yield builder
        parser.close()
    except DefusedXmlException:
        raise BadRecord("bad_xml", "XML: declares a document type, which is not read") from None
    except ET.ParseError as error:
        raise BadRecord("bad_xml", f"XML: {error}") from None
    yield builder


def parse_xml(text: str) -> ET.Element:
    """Parse a document as UTF-8, regardless of the encoding that it declares.

    Raises:
        BadRecord: The text is not XML, not UTF-8, nested too deeply, or declares a document type.
    """
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRecord("bad_encoding", "XML: not UTF-8") from None
    *_, builder = _parsed([data], text_depth=1)
    return builder.root


def xml_children(path: Path, root: str) -> Iterator[ET.Element]:
    """Yield the children of a document's root in constant memory.

    Args:
        path: The file; ``.gz`` is decompressed.
        root: The expected tag of the root.

    Raises:
        AnnotationError: The file is missing, not XML in UTF-8, cut off, nested too deeply, declares a
            document type, has another root, or a child has more than 500,000 elements.
    """
    with opened(path) as file:
        try:
            for builder in _parsed(iter(partial(file.read, CHUNK), b""), text_depth=2):
                if builder.root.tag not in {"", root}:
                    found = f"<{builder.root.tag[:80]}>"
                    raise AnnotationError(f"{path}: expected the root <{root}>, got {found}")
                yield from builder.ready
                builder.ready.clear()
                builder.root.clear()
        except BadRecord as error:
            raise AnnotationError(f"{path}: {error.detail}") from None


def attribute_text(element: ET.Element, name: str) -> str:
    """Return the text of a required attribute.

    Raises:
        BadRecord: The attribute is missing or empty.
    """
    if name not in element.attrib:
        raise BadRecord("bad_record", f"<{element.tag}>: {name} is missing")
    return as_text(element.attrib[name], name)


def attribute_number(element: ET.Element, name: str, default: float | None = None) -> float:
    """Return the number of an attribute, or the default if it is missing.

    Raises:
        BadRecord: The value is not a finite number, or it is missing and has no default.
    """
    if default is not None and name not in element.attrib:
        return default
    return text_number(attribute_text(element, name), name)


def text_number(text: str, name: str) -> float:
    """Return the finite number in a text, such as ``12``, ``12.5`` or ``1e-3``.

    Raises:
        BadRecord: The text is not a finite number.
    """
    if len(text) > 40 or not _NUMBER.fullmatch(text):
        raise BadRecord("bad_number", f"{name}: expected a number, got {shown(text)}")
    return as_number(float(text), name)


def child(element: ET.Element, tag: str) -> ET.Element:
    """Return the only child with a tag.

    Raises:
        BadRecord: The element has no such child, or several.
    """
    found = element.findall(tag)
    if len(found) != 1:
        raise BadRecord("bad_record", f"{element.tag}: expected one <{tag}>, got {len(found)}")
    return found[0]


def child_text(element: ET.Element, tag: str) -> str:
    """Return the text of the only child with a tag.

    Raises:
        BadRecord: The element has not exactly one such child, or the child has no text.
    """
    return as_text(child(element, tag).text or "", tag)


def child_number(element: ET.Element, tag: str) -> float:
    """Return the number in the only child with a tag, such as ``12`` or ``12.5``.

    Raises:
        BadRecord: The element has not exactly one such child, or its text is not a finite number.
    """
    return text_number(child_text(element, tag), tag)


def child_flag(element: ET.Element, tag: str) -> bool:
    """Return whether the child with a tag has a number other than 0; false if it is missing.

    Raises:
        BadRecord: The child's text is not a number, or the element has several such children.
    """
    return element.find(tag) is not None and child_number(element, tag) != 0

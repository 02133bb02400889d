import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deixis.data.sources.base import BadRecord
from deixis.data.sources.reading import xml_files
from deixis.data.sources.reading.xml_files import (
    child,
    child_flag,
    child_number,
    child_text,
    parse_xml,
    read_small_text,
)


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        "<!DOCTYPE a><a/>",
    ],
)
def test_a_document_type_is_refused(text: str) -> None:
    with pytest.raises(BadRecord, match="document type") as caught:
        parse_xml(text)
    assert caught.value.code == "bad_xml"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "bad_xml"),
        ("<a>", "bad_xml"),
        ("<a></b>", "bad_xml"),
        ("<a/><a/>", "bad_xml"),
        ("<a>&x;</a>", "bad_xml"),
        ("<a>&#0;</a>", "bad_xml"),
        ("<a>" * 65 + "</a>" * 65, "bad_xml"),
        ("<a>" * 100_000, "bad_xml"),
        ("<a>\udcff</a>", "bad_encoding"),
        ("plain", "bad_xml"),
    ],
)
def test_invalid_xml_is_refused(text: str, code: str) -> None:
    with pytest.raises(BadRecord) as caught:
        parse_xml(text)
    assert caught.value.code == code


def test_the_declared_encoding_does_not_count() -> None:
    assert parse_xml('<?xml version="1.0" encoding="latin-1"?><a>é</a>').text == "é"


@given(text=st.text(max_size=200))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for document in (text, f"<a>{text}</a>"):
        with suppress(BadRecord):
            parse_xml(document)


def test_children_are_read_once() -> None:
    root = parse_xml("<o><n> a b </n><x>1</x><x>2</x><e/><f>1</f><z>0</z><t>12.50</t></o>")
    assert child_text(root, "n") == "a b"
    assert child_number(root, "t") == 12.5
    assert child_flag(root, "f")
    assert not child_flag(root, "z")
    assert not child_flag(root, "none")
    for tag, code in (("x", "bad_record"), ("none", "bad_record"), ("e", "bad_text")):
        with pytest.raises(BadRecord) as caught:
            child_text(root, tag)
        assert caught.value.code == code
    with pytest.raises(BadRecord, match=r"expected one <x>, got 2"):
        child(root, "x")


@pytest.mark.parametrize(
    "text",
    ["nan", "inf", "1e999", "0x10", "1_0", "\uff11\uff12", "1,5", "true", "1 2", "9" * 5000, "--1"],
)
def test_values_that_are_not_finite_numbers_are_refused(text: str) -> None:
    with pytest.raises(BadRecord) as caught:
        child_number(parse_xml(f"<o><n>{text}</n></o>"), "n")
    assert caught.value.code == "bad_number"


def test_invalid_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("missing", "folder", "pipe", "link"):
        with pytest.raises(BadRecord) as caught:
            read_small_text(tmp_path / name, "bad_xml")
        assert caught.value.code == "unknown_annotation"
    monkeypatch.setattr(xml_files, "FILE_LIMIT", 10)
    (tmp_path / "large").write_text("x" * 11)
    with pytest.raises(BadRecord, match="over 10 bytes") as caught:
        read_small_text(tmp_path / "large", "bad_xml")
    assert caught.value.code == "bad_xml"
    (tmp_path / "bytes").write_bytes(b"\xff")
    assert read_small_text(tmp_path / "bytes", "bad_xml") == "\udcff"

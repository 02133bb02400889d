import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deixis.data.sources import BadRecord
from deixis.data.sources.reading import streaming
from deixis.data.sources.reading.streaming import (
    Unparsed,
    json_lines,
    list_elements,
    member_value,
    parse_json,
)
from deixis.errors import AnnotationError

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(params=[7, 2**20])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Windows of seven bytes cut every token somewhere."""
    monkeypatch.setattr(streaming, "CHUNK", request.param)
    monkeypatch.setattr(streaming._Reader.fill, "__defaults__", (request.param,))
    return int(request.param)


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.usefixtures("chunk")
@given(
    images=st.lists(VALUES, max_size=5),
    notes=st.lists(VALUES, max_size=5),
    other=VALUES,
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
)
def test_elements_are_those_that_json_finds(
    tmp_path_factory: pytest.TempPathFactory,
    images: list[Any],
    notes: list[Any],
    other: Any,
    *,
    indent: int | None,
    ascii_only: bool,
) -> None:
    document = {"info": other, "images": images, "annotations": notes}
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    path = written(
        tmp_path_factory.mktemp("json") / "a.json", text.encode("utf-8", "surrogatepass")
    )
    found: dict[str, list[Any]] = {"images": [], "annotations": []}
    for element in list_elements(path, ("images", "annotations")):
        assert element.number == len(found[element.member])
        found[element.member].append(element.value)
        assert json.loads(element.text) == element.value
    assert found == {"images": images, "annotations": notes}
    assert member_value(path, "info") == other


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("cut", range(1, 60, 5))
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    text = '{"images": [{"id": 1, "name": "ä"}, {"id": 22}], "annotations": [3.25, 4]}'
    path = written(tmp_path / "a.json", text.encode()[:-cut])
    with pytest.raises(AnnotationError, match="at character"):
        list(list_elements(path, ("images", "annotations")))


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "3", '{"images": {}}', '{"images": [1 2]}', '{"images": [1,]}', "{3: []}"),
        *('{"images": []} x', '{"images": [], "images": []}', '{"images": [}', "\x00"),
        '{"images": [' + "[" * 3_000 + "]}",
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(AnnotationError):
        list(list_elements(written(tmp_path / "a.json", text), ("images",)))


@pytest.mark.usefixtures("chunk")
def test_a_list_at_the_top_is_read_too(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", '\ufeff [1, {"a": [2]}, "x"]\n')
    assert [element.value for element in list_elements(path)] == [1, {"a": [2]}, "x"]


@pytest.mark.usefixtures("chunk")
def test_packed_files_are_unpacked_and_damaged_ones_refused(tmp_path: Path) -> None:
    data = gzip.compress(b'{"images": [1, 2]}')
    path = written(tmp_path / "a.json.gz", data)
    assert [element.value for element in list_elements(path, ("images",))] == [1, 2]
    for damaged in (data[:-9], data + b"garbage"):
        with pytest.raises(AnnotationError):
            list(list_elements(written(tmp_path / "b.json.gz", damaged), ("images",)))
    with pytest.raises(AnnotationError, match="does not exist"):
        list(list_elements(tmp_path / "none.json"))
    with pytest.raises(AnnotationError, match="is a folder"):
        list(list_elements(tmp_path))


@pytest.mark.usefixtures("chunk")
def test_invalid_numbers_are_refused(tmp_path: Path) -> None:
    digits = "9" * 5000
    text = (
        f'{{"images": [{{"a": NaN}}, {{"a": -Infinity}}, {{"a": {digits}}}, {{"a": 1, "a": 2}}]}}'
    )
    path = written(tmp_path / "a.json", text)
    values = [element.value["a"] for element in list_elements(path, ("images",))]
    assert all(isinstance(value, Unparsed) for value in values)


@pytest.mark.parametrize("text", ["", "{", "[1] 2", "[" * 100_000, "{'a': 1}"])
def test_a_line_that_is_not_json_is_a_bad_record(text: str) -> None:
    with pytest.raises(BadRecord) as error:
        parse_json(text)
    assert error.value.code == "bad_json"


def test_lines_are_numbered_as_an_editor_numbers_them(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", b'{"a": 1}\r\n\n  \n"\xff"\n3')
    assert list(json_lines(path)) == [(1, '{"a": 1}'), (4, '"\udcff"'), (5, "3")]


_PEAK = """
import sys, tracemalloc
from pathlib import Path
from deixis.data.sources.reading.streaming import list_elements
tracemalloc.start()
for _ in list_elements(Path(sys.argv[1]), ("images",)):
    pass
print(tracemalloc.get_traced_memory()[1])
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    record = json.dumps({"id": 1, "segmentation": [list(range(60))]})
    peaks = []
    for count in (20_000, 80_000):
        path = written(tmp_path / "a.json", f'{{"images": [{", ".join([record] * count)}]}}')
        # in a process of its own: checking types at run time takes memory too
        ended = subprocess.run(  # noqa: S603
            [sys.executable, "-c", _PEAK, str(path)], check=True, capture_output=True, text=True
        )
        peaks.append(int(ended.stdout))
    assert peaks[1] < 1.1 * peaks[0]


def test_every_field_that_is_given_twice_is_found() -> None:
    found = parse_json('{"a": 1, "b": 2, "c": 3, "b": 4, "c": 5, "c": 6}')
    assert found["a"] == 1
    assert [type(found[name]) for name in ("b", "c")] == [Unparsed, Unparsed]


class _Key(str):
    """A name that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        _Key.compared += 1
        return str(self) == other

    def __hash__(self) -> int:
        return hash(str(self))


def test_fields_given_twice_among_many_are_found_without_comparing_all_with_all() -> None:
    def compared(count: int) -> int:
        _Key.compared = 0
        names = [*range(count), count - 1]
        streaming._pairs([(_Key(f"name {name}"), name) for name in names])
        return _Key.compared

    assert compared(800) <= 2.5 * compared(400) + 50

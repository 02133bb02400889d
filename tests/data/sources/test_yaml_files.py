import pytest
from hypothesis import given
from hypothesis import strategies as st

from deixis.data.sources import BadRecord
from deixis.data.sources.reading import yaml_files
from deixis.data.sources.reading.yaml_files import read_yaml


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("# nothing", {}),
        ("a: b  # c\n# d\n\ne:\nf: ~\ng: null", {"a": "b", "e": None, "f": None, "g": None}),
        ("names: ['a, b', \"c\\u00e9\", d e]", {"names": ["a, b", "c\u00e9", "d e"]}),
        ("names: [\n  a,\n  b,\n]\nx: 1", {"names": ["a", "b"], "x": "1"}),
        ("names:\n- a\n- 'it''s'\nnc: 2", {"names": ["a", "it's"], "nc": "2"}),
        ('names:\n  0: "a: b # c"\n  1: no', {"names": {"0": "a: b # c", "1": "no"}}),
        ("---\nurl: https://x.y/z#a\nempty: []", {"url": "https://x.y/z#a", "empty": []}),
        ("download: |\n  import os\n    os.x()\nnc: 1", {"download": "import os\n  os.x()\n", "nc": "1"}),
        ("roboflow:\n  a: 1\n  b:\n    c: 2", {"roboflow": {"a": "1", "b": {"c": "2"}}}),
        ("a: {0: cat, 1: dog}", {"a": {"0": "cat", "1": "dog"}}),
        ("a: {0: 'a, b', 1: \"c: d\"}  # classes", {"a": {"0": "a, b", "1": "c: d"}}),
        ("a: {0: cat,\n  1: big dog}", {"a": {"0": "cat", "1": "big dog"}}),
        ("a: {'0': cat, \"1\": it's, 2: 'it''s',}", {"a": {"0": "cat", "1": "it's", "2": "it's"}}),
        ("a: {}\nb: {cat}", {"a": {}, "b": {"cat": None}}),
        ("a: &x b\nc: *x", {"a": "b", "c": "b"}),
        ("a: &x {p: 1, q: 2}\nc:\n  <<: *x\n  q: 3", {"a": {"p": "1", "q": "2"}, "c": {"p": "1", "q": "3"}}),
        ("a: 2024-01-02\nb: 1_000\nc: 0x1F\nd: on", {"a": "2024-01-02", "b": "1_000", "c": "0x1F", "d": "on"}),
        ("a: long\n  text\nb: >\n  x\n  y\n", {"a": "long text", "b": "x y\n"}),
    ],
)  # fmt: skip
def test_yaml_is_read_as_texts(text: str, expected: object) -> None:
    assert read_yaml(text) == expected
    assert read_yaml(f"\ufeff{text}".replace("\n", "\r\n")) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("just words", "expected names with values, got 'just words'"),
        ("- a\n- b", "expected names with values"),
        ("a: *x", "line 1: found undefined alias 'x'"),
        ("<<: *x", "undefined alias"),
        ("a: !!python/object/apply:os.system [ls]", "tag .*python/object/apply:os.system.* is not"),
        ("a: !!int 5", "tag .* is not read"),
        ("a: !<x> 5", "tag 'x' is not read"),
        ("a: !!map 5", "expected a mapping node"),
        ("a: !!str [5]", "expected a scalar node"),
        ("a: 1\na: 2", "'a': comes twice"),
        ("a: 1\nb:\n  'a': 1\n  a: 2", "'a': comes twice"),
        ("names: {0: cat, 0: dog}", "'0': comes twice"),
        ("names: [a, b", "line 1: expected ',' or"),
        ("a: 1\nnames: [a]]", "line 2: "),
        ("names: 'a", "unexpected end of stream"),
        ("names: a\n  b: c", "mapping values are not allowed"),
        ("names:\n  0: a\n    b: c", "mapping values are not allowed"),
        ("names: {0: cat} x", "line 1: "),
        (": a", "line 1: expected <block end>"),
        ("a: {~: b}", "expected a name and a value"),
        ("? [a]\n: b", "expected a name and a value"),
        ("a: 1\n---\nb: 2", "found another document"),
        ("a: \x00", "unacceptable character #x0000"),
        ("a: \udcff", "unacceptable character"),
        ("a: &x [*x]", "an alias inside the value"),
        ("a: &x {<<: *x}", "an alias inside the value"),
        ("a: [" + "[" * 5000, "nested more than 32 deep"),
        ("a: " + "{a: " * 5000, "nested more than 32 deep"),
        ("\n".join(f"{' ' * depth}a:" for depth in range(400)), "nested more than 32 deep"),
        ("x" * 2**20 + ": a", "1048579 characters, at most 1048576 expected"),
        ("a" + " " * 100_000, "expected names with values"),
    ],
)
def test_other_yaml_is_refused(text: str, words: str) -> None:
    with pytest.raises(BadRecord, match=words):
        read_yaml(text)


def test_aliases_of_aliases_are_counted_before_they_are_followed() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    with pytest.raises(BadRecord, match="more than 500000 values"):
        read_yaml("\n".join(lines))
    lines = ["a0: &a0 {k: v}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 30)]
    with pytest.raises(BadRecord, match="more than 500000 values"):
        read_yaml("\n".join(lines))


def test_a_list_over_many_lines_is_read() -> None:
    lines = ",\n".join(f"a{number}" for number in range(20_000))
    assert len(read_yaml(f"names: [\n{lines}\n]\n")["names"]) == 20_000


def test_values_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_files, "NODE_LIMIT", 5)
    assert read_yaml("a: [b, c]") == {"a": ["b", "c"]}
    with pytest.raises(BadRecord, match="more than 5 values"):
        read_yaml("a: [b, c, d]")


@given(st.text(alphabet="ab:#-[]{}'\"\\, \n&*|0\ufeff\x00\u00e9!?<", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read = read_yaml(text)
    except BadRecord:
        read = {}
    assert all(isinstance(name, str) for name in read)

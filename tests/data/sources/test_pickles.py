import gzip
import os
import pickle
import struct
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deixis.data.sources import pickles
from deixis.data.sources.pickles import read_pickle
from deixis.errors import AnnotationError

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(0, 300), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.fixture
def written(tmp_path: Path) -> Any:
    def write(data: bytes) -> Path:
        path = tmp_path / "refs(unc).p"
        path.write_bytes(data)
        return path

    return write


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pickles") / "refs.p"


@settings(max_examples=150, deadline=None)
@given(value=PLAIN, protocol=st.integers(0, 5))
def test_plain_data_of_every_protocol_is_read_as_python_reads_it(
    value: object, protocol: int, scratch: Path
) -> None:
    # before protocol 3, bytes were written as a call
    data = pickle.dumps(value, protocol=protocol)
    scratch.write_bytes(data)
    if b"_codecs" in data or b"__builtin__" in data:
        return
    assert read_pickle(scratch) == value


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes, scratch: Path) -> None:
    scratch.write_bytes(data)
    with suppress(AnnotationError):
        read_pickle(scratch)


@settings(max_examples=100, deadline=None)
@given(cut=st.integers(0, 400), protocol=st.integers(0, 5))
def test_a_pickle_that_is_cut_off_is_refused(cut: int, protocol: int, scratch: Path) -> None:
    data = pickle.dumps([{"ref_id": 1, "raw": "the man", "box": [1.5, -3]}] * 3, protocol=protocol)
    scratch.write_bytes(data[: min(cut, len(data) - 1)])
    with pytest.raises(AnnotationError, match=r"at byte \d+"):
        read_pickle(scratch)


@pytest.mark.parametrize("protocol", range(6))
def test_scalars_of_numpy_become_plain_numbers(written: Any, protocol: int) -> None:
    values = [np.int64(-5), np.uint8(200), np.float32(1.5), np.float64(0.1), np.bool_(True)]
    found = read_pickle(written(pickle.dumps(values, protocol=protocol)))
    assert found == [-5, 200, 1.5, 0.1, True]
    assert [type(one) for one in found] == [int, int, float, float, bool]


def test_texts_of_python_2_are_utf8(written: Any) -> None:
    assert read_pickle(written(b"(lp1\nS'caf\\xc3\\xa9 \"x\"'\np2\naU\x05caf\xc3\xa9a.")) == [
        'café "x"',
        "café",
    ]


class Attack:
    def __init__(self, target: Any, *arguments: object) -> None:
        self.call = (target, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_calls_something_is_refused_and_nothing_is_called(
    written: Any, protocol: int, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    attack = Attack(os.system, f"touch {trace}")
    for value in (attack, [attack], {"ref_id": attack}, Attack(exec, f"open({str(trace)!r}, 'w')")):
        with pytest.raises(AnnotationError, match="expected plain data"):
            read_pickle(written(pickle.dumps(value, protocol=protocol)))
    assert not trace.exists()


@pytest.mark.parametrize(
    "value",
    [
        {1, 2},
        OrderedDict(a=1),
        np.arange(3),
        np.str_("x"),
        np.datetime64("2020-01-01"),
        complex(1, 2),
        Path("/etc"),
        ValueError("x"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_objects_are_refused(written: Any, value: object) -> None:
    with pytest.raises(AnnotationError, match=r"plain (data|number)"):
        read_pickle(written(pickle.dumps(value)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "cut off"),
        (b"\x80\x02cos\nsystem\n(S'id'\ntR.", "refers to os.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "refers to os.system"),
        (b"(S'os'\nS'system'\n\x93.", "refers to os.system"),
        (b"(ios\nsystem\n.", "none of plain data"),
        (b"\x82\x01.", "none of plain data"),
        (b"Pid\n.", "none of plain data"),
        (b"}}o.", "none of plain data"),
        (b"](R.", "never began"),
        (b"])R.", "none of plain data"),
        (b"S'a\\qb'\n.", "escape"),
        (b"cnumpy\ndtype\n(S'O8'\ntR.", "no plain number"),
        (b"cnumpy\ndtype\n(S'i8'\ntR(I3\nS'x'\nN.", "not a pickle"),
        (b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.", "no plain number"),
        (b"]]b.", "state"),
        (b"\x8a\xff" + b"\x01" * 255 + b".", "too long"),
        (b"I" + b"9" * 5000 + b"\n.", "too long"),
        (b"(].", "not a pickle"),
        (b"]e.", "never began"),
        (b"(a.", "never began"),
        (b"K\x01K\x02a.", "a list are put into a int"),
        (b"]K\x01K\x02s.", "a dict are put into a list"),
        (b"(K\x01d.", "without a value"),
        (b"}]K\x01s.", "list for a key"),
        (b"h\x05.", "not a pickle"),
        (b"(q\x00.", "mark is remembered"),
        (b"S'x\n.", "quotes"),
        (b"X\xff\xff\xff\xff.", "cut off"),
        (struct.pack("<cQ", b"\x8e", 2**62) + b".", "cut off"),
        (b"Ix\n.", "not a pickle"),
        (b"I1", "cut off"),
        (b"cnumpy\ndtype\n(S'i8'\ntR(I3\nS'x'\ntb.", "no plain number"),
        (b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'i8'\ntRI1\ntR.", "no bytes"),
        (b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'i8'\ntRS'x'\ntR.", "not a pickle"),
    ],
)
def test_damage_and_refused_instructions_say_what_and_where(
    written: Any, data: bytes, reason: str
) -> None:
    with pytest.raises(AnnotationError, match=rf"refs\(unc\).p: at byte \d+: .*{reason}"):
        read_pickle(written(data))


def test_a_remembered_place_far_away_costs_no_memory(written: Any) -> None:
    # Python's own unpickler makes room for all places before it
    data = b"]r" + (2**32 - 1).to_bytes(4, "little") + b"."
    assert read_pickle(written(data)) == []


def test_size_and_number_of_instructions_are_bounded(
    written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickles, "STEP_LIMIT", 100)
    monkeypatch.setattr(pickles, "FILE_LIMIT", 1000)
    assert read_pickle(written(b"N0" * 49 + b"N.")) is None
    with pytest.raises(AnnotationError, match="more than 100 instructions"):
        read_pickle(written(b"]" * 200 + b"."))
    with pytest.raises(AnnotationError, match="at most 1000 bytes"):
        read_pickle(written(b"N" * 1001))
    with pytest.raises(AnnotationError, match="at most 1000 bytes"):
        read_pickle(written(gzip.compress(b"N" * 1_000_000)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="does not exist"):
        read_pickle(tmp_path / "refs.p")

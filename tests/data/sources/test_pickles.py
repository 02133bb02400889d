import gzip
import os
import pickle
import re
import struct
import tracemalloc
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deixis.data.sources.reading import pickles
from deixis.data.sources.reading.pickles import read_pickle
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
    with pytest.raises(AnnotationError, match=r"plain data|unsupported type"):
        read_pickle(written(pickle.dumps(value)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "cut off"),
        (b"\x80\x02cos\nsystem\n(S'id'\ntR.", "refers to os.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "refers to os.system"),
        (b"(S'os'\nS'system'\n\x93.", "refers to os.system"),
        (b"(ios\nsystem\n.", "not part of plain data"),
        (b"\x82\x01.", "not part of plain data"),
        (b"Pid\n.", "not part of plain data"),
        (b"}}o.", "not part of plain data"),
        (b"](R.", "never began"),
        (b"])R.", "not part of plain data"),
        (b"S'a\\qb'\n.", "escape"),
        (b"cnumpy\ndtype\n(S'O8'\ntR.", "unsupported type"),
        (b"cnumpy\ndtype\n(S'i8'\ntR(I3\nS'x'\nN.", "not a pickle"),
        (b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.", "unsupported type"),
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
        (b"cnumpy\ndtype\n(S'i8'\ntR(I3\nS'x'\ntb.", "unsupported type"),
        (b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'i8'\ntRI1\ntR.", "no bytes"),
        (b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'i8'\ntRS'x'\ntR.", "not a pickle"),
    ],
)
def test_messages_name_damage_and_refused_instructions_with_their_place(
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


def _nested_names(levels: int) -> bytes:
    """A pickle that refers to a module whose name is a tuple of tuples, each of ten equal ones."""
    inner = b"(" + b"]" * 10 + b"tq\x00"
    for _ in range(levels):
        inner += b"0(" + b"h\x00" * 10 + b"tq\x00"
    return b"\x80\x04" + inner + b"\x8c\x01x\x93."


@pytest.mark.parametrize("levels", [1, 8, 30])
def test_a_name_that_is_not_a_text_is_not_printed(written: Any, levels: int) -> None:
    data = _nested_names(levels)
    with pytest.raises(AnnotationError, match=r"refers to a tuple\.x, expected plain data"):
        read_pickle(written(data))


def test_a_long_name_is_cut_in_the_message(written: Any) -> None:
    with pytest.raises(AnnotationError, match=r"refers to a{77}\.\.\.\.b, expected") as raised:
        read_pickle(written(b"c" + b"a" * 100_000 + b"\nb\n."))
    assert len(str(raised.value)) < 500


UNITS = [
    *(b"]", b"}", b")", b"(t", b"]\x94", b"}\x94", b")\x85", b"]K\x01a", b"}K\x01K\x01s"),
    *(
        b"(K\x01K\x01d",
        b"\x8c\x02ab\x94",
        b"\x8c\x00",
        b"C\x02abq\x00",
        b"N",
        b"K\x05",
        b"M\xff\xff",
    ),
    *(b"J\xff\xff\xff\x7f", b"I9\n", b"F1\n", b"V\xff\n", b"S'xy'\n", b"]0", b"h\x00", b"]q\x00"),
    *(b"]e", b"](Ke", b"(", b"a", b"u", b"\x86", b"\x87", b"cnumpy\ndtype\n", b"(U\x02i8tR", b"R"),
    *(
        b"c_codecs\nencode\n(h\x00U\x06latin1tR0",
        b"b",
        b"0",
        b"l",
        b"\x93",
        b"p9\n",
        b"g9\n",
        b"\x88",
    ),
]


@settings(max_examples=200, deadline=None)
@given(units=st.lists(st.sampled_from(UNITS), max_size=20), times=st.integers(1, 3))
def test_any_instructions_are_obeyed_or_refused(
    units: list[bytes], times: int, scratch: Path
) -> None:
    scratch.write_bytes(b"\x80\x04" + b"".join(units) * times + b".")
    with suppress(AnnotationError):
        read_pickle(scratch)


@pytest.mark.parametrize(
    "unit",
    [
        *(b"]", b"}", b"]\x94", b")\x85", b"}K\x01K\x01s", b"(K\x01K\x01d", b"\x8c\x02ab\x94"),
        *(b"M\xff\xff", b"N", b"](](](]", b"I1\nI0\n", b"V\xff\xff\n", b"(M\xff\xffM\xff\xfft"),
    ],
)
def test_memory_grows_with_the_bytes_of_the_file_at_most(
    unit: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickles, "COST_SLACK", 2**14)
    data = b"(" + unit * (3_000 // len(unit)) + b"l."
    tracemalloc.start()
    try:
        with suppress(pickles._Refused):
            pickles._Machine(data).run()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= pickles.COST_RATE * 3_000 + 2**14


@pytest.mark.parametrize("unit", [b"]", b"}", b")\x85", b"](l", b"}K\x01K\x01s", b"]\x94"])
def test_a_file_that_is_mostly_containers_is_refused_at_its_beginning(
    written: Any, unit: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickles, "COST_SLACK", 2**13)
    with pytest.raises(AnnotationError, match="asks for over 40 bytes of memory") as raised:
        read_pickle(written(b"(" + unit * (200_000 // len(unit)) + b"l."))
    at = re.search(r"at byte (\d+)", str(raised.value))
    assert at is not None
    assert int(at[1]) < 2_000


def test_a_text_that_is_encoded_again_and_again_is_charged_each_time(written: Any) -> None:
    text = b"X" + struct.pack("<I", 100_000) + b"x" * 100_000 + b"q\x00"
    again = b"c_codecs\nencode\n(h\x00U\x06latin1tR"
    found = read_pickle(written(b"(" + text + again * 3 + b"l."))
    assert found == ["x" * 100_000, *[b"x" * 100_000] * 3]
    with pytest.raises(AnnotationError, match="asks for over"):
        read_pickle(written(b"(" + text + again * 1000 + b"l."))


@pytest.mark.parametrize("opened", [b"]", b"(", b"}K\x01"])
def test_nesting_is_bounded(written: Any, opened: bytes) -> None:
    closed = {b"]": b"a", b"(": b"l", b"}K\x01": b"s"}[opened]
    deepest = b"N" if opened != b"(" else b""

    def nested(levels: int) -> bytes:
        return opened * levels + deepest + closed * levels + b"."

    assert read_pickle(written(nested(pickles.DEPTH_LIMIT)))
    with pytest.raises(AnnotationError, match="nested over 64 deep"):
        read_pickle(written(nested(pickles.DEPTH_LIMIT + 1)))


@pytest.mark.parametrize("data", [b"F" + b"9" * 5000 + b"\n.", b"L" + b"9" * 5000 + b"L\n."])
def test_numbers_of_thousands_of_digits_are_refused(written: Any, data: bytes) -> None:
    with pytest.raises(AnnotationError, match="is too long"):
        read_pickle(written(data))


def test_a_scalar_of_a_large_text_is_refused_before_it_is_unpacked(written: Any) -> None:
    data = (
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'i8'\ntR(I3\nS'<'\ntbS'"
        + b"x" * 80_000
        + b"'\ntR."
    )
    with pytest.raises(AnnotationError, match="a NumPy scalar has 9 bytes"):
        read_pickle(written(data))


@pytest.mark.parametrize("protocol", range(6))
def test_published_refs_stay_far_below_the_limits(
    written: Any, protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["the", "man", "in", "blue", "left"]
    refs = [
        {
            "sent_ids": [number * 3 + place for place in range(3)],
            "file_name": f"COCO_train2014_{number:012d}_{number}.jpg",
            "ann_id": 100_000 + number,
            "ref_id": number,
            "image_id": 500_000 + number,
            "split": "train",
            "sentences": [
                {
                    "tokens": words[place:],
                    "raw": " ".join(words[place:]),
                    "sent_id": number * 3 + place,
                    "sent": " ".join(words[place:]),
                }
                for place in range(3)
            ],
            "category_id": number % 90,
        }
        for number in range(60)
    ]
    monkeypatch.setattr(pickles, "COST_RATE", pickles.COST_RATE // 2)
    monkeypatch.setattr(pickles, "COST_SLACK", 4096)
    assert read_pickle(written(pickle.dumps(refs, protocol=protocol))) == refs

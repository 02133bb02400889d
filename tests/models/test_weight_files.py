"""Damaged and malicious weight files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from deixis.errors import CheckpointError, ModelError
from deixis.models.hub import checked_name, is_hub_id
from deixis.models.weight_files import check_folder, check_weights, read_weights

TENSORS = {
    "a": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "b": torch.ones(3, dtype=torch.bfloat16),
    "c": torch.zeros(0, 4),
    "d": torch.tensor(7, dtype=torch.int64),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "x.safetensors"
    save_file(TENSORS, found, metadata={"format": "pt"})
    return found


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def write(path: Path, header: bytes, rest: bytes) -> None:
    path.write_bytes(len(header).to_bytes(8, "little") + header + rest)


def with_entry(name: str, **fields: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        header, rest = header_of(path)
        header[name] = {**header[name], **fields}
        write(path, json.dumps(header).encode(), rest)

    return change


def twice(path: Path) -> None:
    header, rest = header_of(path)
    text = json.dumps(header)
    write(path, (text[:-1] + ', "a"' + json.dumps({"a": header["a"]})[4:]).encode(), rest)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "header of 0 bytes"),
    "bomb": (
        lambda path: path.write_bytes((10**8 + 1).to_bytes(8, "little") + b"{" * 99),
        "header",
    ),
    "huge": (lambda path: path.write_bytes(b"\xff" * 8 + b"{}"), "header of 18446744073709551615"),
    "no JSON": (
        lambda path: write(path, b"{", b""),
        "not a safetensors file, or damaged: Expecting",
    ),
    "deep": (lambda path: write(path, b"[" * 100_000, b""), "not a safetensors file, or damaged"),
    "a list": (lambda path: write(path, b"[]", b""), "a header that is not a JSON object"),
    "twice": (twice, "a key of its header is repeated"),
    "overlap": (with_entry("b", data_offsets=[0, 6]), "overlaps another"),
    "hole": (with_entry("a", data_offsets=[1000, 1024]), "leaves a gap before it"),
    "backwards": (with_entry("a", data_offsets=[24, 0]), "tensor 'a' has no valid type, shape and"),
    "negative": (
        with_entry("a", shape=[-2, -3]),
        "tensor 'a' has no valid type, shape and offsets",
    ),
    "overflow": (
        with_entry("a", shape=[2**62, 8]),
        "tensor 'a' has no valid type, shape and offsets",
    ),
    "shape": (with_entry("a", shape=[3, 3]), "tensor 'a' has no valid type, shape and offsets"),
    "dtype": (with_entry("a", dtype="F33"), "tensor 'a' has no valid type, shape and offsets"),
    "true": (with_entry("d", shape=[True]), "tensor 'd' has no valid type, shape and offsets"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes, expected"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"x"), "bytes, expected"),
    "gone": (Path.unlink, "cannot read: no such file"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_an_invalid_file_is_a_one_line_error(kind: str, path: Path) -> None:
    damage, message = DAMAGE[kind]
    damage(path)
    with pytest.raises(CheckpointError) as told:
        read_weights(path, "model x")
    with pytest.raises(CheckpointError) as caught:
        check_weights(path)
    assert str(told.value) == f"model x: {caught.value}"
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_valid_file_gives_its_types_and_tensors(path: Path) -> None:
    assert check_weights(path) == {"a": "F32", "b": "BF16", "c": "F32", "d": "I64"}
    found = read_weights(path, "x")
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e5m2]
)
def test_a_number_that_is_not_finite_is_refused_by_name(
    path: Path, dtype: torch.dtype, value: float
) -> None:
    bad = torch.ones(3, 3)
    bad[1, 2] = value
    save_file({**TENSORS, "layer.bad": bad.to(dtype)}, path)
    with pytest.raises(CheckpointError, match=r"layer\.bad: holds a number that is not finite"):
        check_weights(path)


def test_finite_numbers_with_an_infinite_sum_are_accepted(path: Path) -> None:
    most = torch.finfo(torch.float32).max
    save_file({"a": torch.full((4,), most), "b": torch.full((9,), 65504.0).half()}, path)
    assert check_weights(path) == {"a": "F32", "b": "F16"}


def test_shards_are_checked_against_their_index(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "one.safetensors")
    save_file({"b": torch.ones(2)}, tmp_path / "two.safetensors")
    index = tmp_path / "model.safetensors.index.json"

    def refused(places: object, message: str) -> None:
        index.write_text(json.dumps({"weight_map": places}))
        with pytest.raises(CheckpointError, match=message):
            check_folder(tmp_path, "model x")

    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}))
    assert check_folder(tmp_path, "model x") == {"a": "F32", "b": "F32"}
    refused({"a": "three.safetensors"}, "shard three.safetensors is missing")
    refused({"a": "../one.safetensors"}, "expected names of files in its folder")
    refused({"c": "one.safetensors"}, "tensor 'c' is in no shard")
    refused([], "expected a weight_map")
    index.write_text("{")
    with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json: "):
        check_folder(tmp_path, "model x")
    index.unlink()
    (tmp_path / "two.safetensors").write_bytes(b"x")
    with pytest.raises(
        CheckpointError, match=r"two\.safetensors: not a safetensors file, or damaged"
    ):
        check_folder(tmp_path, "model x")
    assert load_file(tmp_path / "one.safetensors")["a"].tolist() == [1, 1]


@pytest.mark.parametrize(
    "name", ["", "  ", "x" * 300, "a/" * 2500, "x\0y", "x\ny", "\x1b[31m", "\udcff" * 200]
)
def test_invalid_names_are_a_one_line_error(name: str) -> None:
    with pytest.raises(ModelError, match=r"^model ") as caught:
        checked_name(name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("owner/name", True),
        ("HuggingFaceTB/SmolLM2-135M", True),
        ("../nosuch", False),
        ("./nosuch", False),
        ("a--b/c", False),
        ("a/b--c", False),
        ("a..b/c", False),
        ("a/b/c", False),
        ("a", False),
        ("~/model", False),
        ("a/", False),
        ("/a", False),
        ("x" * 97 + "/y", False),
    ],
)
def test_hub_ids_are_distinguished_from_paths(name: str, expected: object) -> None:
    assert is_hub_id(name) is expected

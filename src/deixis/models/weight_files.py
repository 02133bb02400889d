"""Safetensors files, checked before they are read.

The library keeps the last of two equal keys, reads headers of any size, and accepts numbers that
are not finite. A single such weight makes the answers of a model meaningless.
"""

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from deixis.errors import CheckpointError

HEADER_LIMIT = 2**24
"""Largest header in bytes."""

INDEX = "model.safetensors.index.json"

_SHORTEST = 8
"""Size in bytes of the header's length at the start of a file."""

_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E8M0": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
    "C64": 8,
}

_CHUNK = 2**24
"""Numbers checked at a time, so that no tensor is copied as a whole."""


def check_weights(path: Path) -> dict[str, str]:
    """Check a safetensors file: its header, its completeness, and that every number is finite.

    Returns the type of each tensor by name, as written in the file: ``"BF16"``.

    Raises:
        CheckpointError: The file is not safetensors or is damaged, repeats a name, has tensors that
            overlap or leave gaps, or holds a number that is not finite.
    """
    kinds = check_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            for name, kind in kinds.items():
                if "F" in kind and not _is_finite(file.get_tensor(name)):
                    raise CheckpointError(
                        f"{path}: {name}: holds a number that is not finite (NaN or infinity)"
                    )
    except (SafetensorError, OSError) as error:
        raise _damaged(path, str(error).splitlines()[0]) from error
    return kinds


def read_weights(path: Path, what: str) -> dict[str, Tensor]:
    """Check a safetensors file with `check_weights` and read it; errors start with ``what``.

    Raises:
        CheckpointError: As `check_weights`.
    """
    try:
        check_weights(path)
        return load_file(path)
    except (CheckpointError, SafetensorError, OSError) as error:
        raise CheckpointError(f"{what}: {str(error).splitlines()[0]}") from error


def check_folder(folder: Path, what: str) -> dict[str, str]:
    """Check the weights that transformers would read from a folder; return types by name.

    These are the shards of an index, else ``model.safetensors``, else all safetensors files. For a
    folder without any the result is empty; the reader reports the missing file. Errors start with
    ``what``.

    Raises:
        CheckpointError: A file is damaged (see `check_weights`), the index is damaged, or a shard
            of the index is missing.
    """
    try:
        return _checked(folder)
    except CheckpointError as error:
        raise CheckpointError(f"{what}: {error}") from error


def _checked(folder: Path) -> dict[str, str]:
    index, single = folder / INDEX, folder / "model.safetensors"
    if single.is_file() or not index.is_file():
        paths = [single] if single.is_file() else sorted(folder.glob("*.safetensors"))
        return {name: kind for path in paths for name, kind in check_weights(path).items()}
    kinds: dict[str, str] = {}
    places = shards(index)
    for name in sorted(set(places.values())):
        if not (folder / name).is_file():
            raise CheckpointError(f"{index}: shard {name} is missing")
        kinds |= check_weights(folder / name)
    absent = sorted(places.keys() - kinds.keys())
    if absent:
        raise CheckpointError(f"{index}: tensor {absent[0]!r} is in no shard")
    return kinds


def shards(index: Path) -> dict[str, str]:
    """Return the file of each tensor by an index of shards; all lie in the index's folder.

    Raises:
        CheckpointError: The index is damaged, or names a file elsewhere.
    """
    try:
        read: object = json.loads(index.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        raise CheckpointError(f"{index}: {error}") from error
    weights = read.get("weight_map") if isinstance(read, Mapping) else None
    if not isinstance(weights, Mapping) or not all(isinstance(n, str) for n in weights.values()):
        raise CheckpointError(f"{index}: expected a weight_map of keys to file names")
    outside = sorted({name for name in weights.values() if Path(name).name != name or not name})
    if outside:
        raise CheckpointError(f"{index}: expected names of files in its folder, got {outside}")
    return dict(weights)


def check_header(path: Path) -> dict[str, str]:
    """Check the header of a safetensors file against the file's size; return types by name.

    Raises:
        CheckpointError: As for `check_weights`, except for numbers that are not finite.
    """
    try:
        with path.open("rb") as opened:
            size = path.stat().st_size
            start = opened.read(_SHORTEST)
            length = int.from_bytes(start, "little")
            if len(start) < _SHORTEST or length > min(HEADER_LIMIT, size):
                raise _damaged(path, f"header of {length} bytes")
            header: object = json.loads(opened.read(length), object_pairs_hook=_without_repeats)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CheckpointError(f"{path}: cannot read: {reason}") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(header, dict):
        raise _damaged(path, "a header that is not a JSON object")
    header.pop("__metadata__", None)
    kinds: dict[str, str] = {}
    spans = []
    for name, told in header.items():
        found = _entry(told)
        if found is None:
            raise _damaged(path, f"tensor {str(name)[:80]!r} has no valid type, shape and offsets")
        kinds[name], begin, end = found
        spans.append((begin, end, name))
    place = 0
    for begin, end, name in sorted(spans):
        if begin != place:
            what = "overlaps another" if begin < place else "leaves a gap before it"
            raise _damaged(path, f"tensor {name[:80]!r} {what}")
        place = end
    if _SHORTEST + length + place != size:
        raise _damaged(path, f"{size} bytes, expected {_SHORTEST + length + place}")
    return kinds


def _entry(told: object) -> tuple[str, int, int] | None:
    """Return type, first byte and end of a tensor; None for an invalid description."""
    if not isinstance(told, dict) or told.keys() != {"dtype", "shape", "data_offsets"}:
        return None
    kind, shape, offsets = told["dtype"], told["shape"], told["data_offsets"]
    if not isinstance(kind, str) or kind not in _BYTES:
        return None
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        return None
    begin, end = offsets
    return (kind, begin, end) if end - begin == prod(shape) * _BYTES[kind] else None


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value < 2**63 for value in values
    )


def _is_finite(tensor: Tensor) -> bool:
    for chunk in tensor.flatten().split(_CHUNK):
        part = chunk.float() if chunk.element_size() == 1 else chunk
        # the sum is finite only if all terms are, and needs no memory
        if not part.sum(dtype=torch.promote_types(part.dtype, torch.float32)).isfinite() and not (
            part.isfinite().all()
        ):
            return False
    return True


def _damaged(path: Path, reason: str) -> CheckpointError:
    words = " ".join(reason.split())
    return CheckpointError(f"{path}: not a safetensors file, or damaged: {words[:200]}")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; refuse repeated keys, of which the library keeps the last."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key of its header is repeated")
    return made

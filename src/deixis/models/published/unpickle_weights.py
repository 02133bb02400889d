"""A separate program that reads tensors of pickled files and writes them as safetensors.

This is the only file of deixis that lets torch read a pickle. It runs as a child process that does
not import deixis. The reader of torch then accepts tensors and plain containers and refuses
everything else; other failures end the child process only.

Run: python -I unpickle_weights.py SOURCE TARGET [SOURCE TARGET …]
It prints a line of JSON for each file: ``beside``, names of values that are not tensors, or
``refused``, the reason.
"""

import json
import resource
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

WRAPPERS = ("state_dict", "model", "module")
"""Keys under which training code saves the weights together with other data."""

NAMES_LIMIT = 2**26
"""Largest size in bytes of the pickle in an archive, which has names and shapes only."""


class Refused(Exception):  # noqa: N818
    """The reason to refuse a file."""


def convert(source: Path, target: Path) -> list[str]:
    """Write the tensors of a file; return the names of its other values."""
    size = source.stat().st_size
    archive = zipfile.is_zipfile(source)
    if archive:
        _check_archive(source, size)
    try:
        # the only call; weights_only makes torch refuse all but tensors and containers
        loaded: object = torch.load(source, map_location="cpu", weights_only=True, mmap=archive)
    except Exception as error:
        raise Refused(_reason(error)) from error
    beside: list[str] = []
    for name in WRAPPERS:
        inner = loaded.get(name) if isinstance(loaded, Mapping) else None
        if (
            isinstance(loaded, Mapping)
            and isinstance(inner, Mapping)
            and any(isinstance(value, torch.Tensor) for value in inner.values())
        ):
            beside = sorted(str(key) for key in loaded if key != name)
            loaded = inner
            break
    if not isinstance(loaded, Mapping) or not all(isinstance(key, str) for key in loaded):
        raise Refused("expected tensors by name")
    tensors = {key: value for key, value in loaded.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise Refused("it has no tensor with a name")
    total = 0
    for key, tensor in tensors.items():
        _check_tensor(key, tensor)
        total += tensor.nbytes
    # shared tensors are written twice
    if total > 4 * size:
        raise Refused(f"its tensors claim {total} bytes, the file has {size}")
    save_file(_apart(tensors), target)
    return beside + sorted(key for key in loaded if key not in tensors)


def _check_archive(source: Path, size: int) -> None:
    with zipfile.ZipFile(source) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise Refused("its archive is compressed, which torch does not write")
    if sum(entry.file_size for entry in entries) > size:
        raise Refused("its archive claims more bytes than the file has")
    if any(entry.file_size > NAMES_LIMIT for entry in entries if entry.filename.endswith(".pkl")):
        raise Refused(f"its names take more than {NAMES_LIMIT} bytes")


def _check_tensor(key: str, tensor: torch.Tensor) -> None:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex():
        raise Refused(f"{key!r} is not a plain dense tensor")
    if tensor.nbytes > tensor.untyped_storage().nbytes():
        raise Refused(f"{key!r} claims more numbers than it stores")
    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        raise Refused(f"{key!r} holds numbers that are not finite")


def _apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors with the same values that do not share storage."""
    seen: set[int] = set()
    apart: dict[str, torch.Tensor] = {}
    for key, tensor in tensors.items():
        storage = tensor.untyped_storage()
        whole = storage.nbytes() == tensor.nbytes and storage.data_ptr() not in seen
        seen.add(storage.data_ptr())
        own = tensor.detach()
        apart[key] = own if whole and own.is_contiguous() else own.contiguous().clone()
    return apart


def _reason(error: Exception) -> str:
    text = str(error)
    if "Unsupported global: GLOBAL " in text:
        name = text.split("Unsupported global: GLOBAL ", 1)[1].split(maxsplit=1)[0]
        return f"it refers to {name}, which is not a tensor"
    return f"it is not a file of tensors, or damaged ({type(error).__name__})"


def main(paths: Sequence[Path]) -> None:
    """Convert every pair of a source and a target, and print the answer for each."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for source, target in zip(paths[::2], paths[1::2], strict=True):
        try:
            told: dict[str, object] = {"beside": convert(source, target)}
        except Refused as refusal:
            told = {"refused": str(refusal)}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])

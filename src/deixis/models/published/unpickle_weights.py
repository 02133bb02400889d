"""A program of its own: read tensors of one pickled file and write them as safetensors.

This is the only file of deixis that lets torch read a pickle. It is run as a child process, with
nothing of deixis imported; torch's own reader then knows tensors and plain containers and refuses
whatever else a file names, and what it cannot refuse can only end the child.

Run: python -I unpickle_weights.py SOURCE TARGET
It prints one JSON object: what was left out, or why the file is refused (exit code 3).
"""

import json
import resource
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

REFUSED = 3
"""Exit code where a file is refused."""

WRAPPERS = ("state_dict", "model", "module")
"""Under these, training code puts the weights beside other things."""

NAMES_LIMIT = 2**26
"""The most bytes of the pickle inside an archive: names and shapes, no weights."""


class Refused(Exception):  # noqa: N818
    """Why a file is not read."""


def main(source: Path, target: Path) -> dict[str, object]:
    """Write what is a tensor, and say what is not."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    size = source.stat().st_size
    archive = zipfile.is_zipfile(source)
    if archive:
        _check_archive(source, size)
    try:
        # the sole place; weights_only makes torch refuse all but tensors and containers
        loaded: object = torch.load(source, map_location="cpu", weights_only=True, mmap=archive)
    except Exception as error:
        raise Refused(_reason(error)) from error
    beside: list[str] = []
    for name in WRAPPERS:
        inner = loaded.get(name) if isinstance(loaded, Mapping) else None
        if isinstance(inner, Mapping) and any(isinstance(v, torch.Tensor) for v in inner.values()):
            beside = sorted(str(key) for key in loaded if key != name)
            loaded = inner
            break
    if not isinstance(loaded, Mapping) or not all(isinstance(key, str) for key in loaded):
        raise Refused("expected names with tensors")
    tensors = {key: value for key, value in loaded.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise Refused("there is no tensor with a name in it")
    total = 0
    for key, tensor in tensors.items():
        _check_tensor(key, tensor)
        total += tensor.nbytes
    # tied weights are written twice
    if total > 4 * size:
        raise Refused(f"its tensors claim {total} bytes, the file has {size}")
    save_file({key: _own(tensor) for key, tensor in tensors.items()}, target)
    return {"beside": beside + sorted(key for key in loaded if key not in tensors)}


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


def _own(tensor: torch.Tensor) -> torch.Tensor:
    """The numbers of a tensor alone, where it shares or strides its storage."""
    whole = tensor.untyped_storage().nbytes() == tensor.nbytes
    own = tensor.detach()
    return own if whole and own.is_contiguous() else own.contiguous().clone()


def _reason(error: Exception) -> str:
    text = str(error)
    if "Unsupported global: GLOBAL " in text:
        name = text.split("Unsupported global: GLOBAL ")[1].split()[0]
        return f"it refers to {name}, which is no tensor"
    return f"it is no file of tensors, or damaged ({type(error).__name__})"


if __name__ == "__main__":
    try:
        print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))))
    except Refused as refusal:
        print(json.dumps({"refused": str(refusal)}))
        sys.exit(REFUSED)

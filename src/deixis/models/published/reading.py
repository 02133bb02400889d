"""Read files of published weights without running code in them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from deixis.errors import CheckpointError
from deixis.models.weight_files import check_header, shards

PICKLED = (".bin", ".pt", ".pth")
_SUFFIXES = {*PICKLED, ".safetensors"}
SECONDS = 3600
"""Time limit in seconds for the pickled files of a folder."""

NOT_WEIGHTS = {
    "optimizer": "optimizer state",
    "rng_state": "state of random generators",
    "scheduler": "state of the learning rate schedule",
    "training_args": "settings of a training run",
}
"""Files of training runs without weights, by the start of their names."""

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""Start of a Git LFS pointer, a file that only names the content."""
JSON_LIMIT = 2**26
"""Largest size in bytes of a JSON file."""

_PROGRAM = Path(__file__).parent / "unpickle_weights.py"


@dataclass(frozen=True, slots=True)
class WeightFile:
    """A weight file as safetensors; ``path`` is the published file, ``readable`` the one to open.

    ``beside`` names values in the file that are not tensors.
    """

    path: Path
    readable: Path
    beside: tuple[str, ...] = ()


def weight_files(folder: Path) -> tuple[list[Path], dict[str, str]]:
    """Return the weight files of a folder, and other files with the reason to skip them.

    With an index of shards, these are its shards and any further weight files.

    Raises:
        CheckpointError: The folder does not exist or has no weight file, a shard is missing, or a
            file is a link, lies outside of the folder or is a Git LFS pointer.
    """
    if not folder.is_dir():
        hint = f"\nhint: name the folder of that file, {folder.parent}" if folder.is_file() else ""
        raise CheckpointError(f"{folder}: expected a folder of published weights{hint}")
    found: list[Path] = []
    passed: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix not in _SUFFIXES:
            continue
        reason = next(
            (why for start, why in NOT_WEIGHTS.items() if path.name.startswith(start)), None
        )
        if reason is not None:
            passed[path.name] = reason
            continue
        if path.is_symlink() or not path.is_file():
            raise CheckpointError(
                f"{path}: expected a regular file\n"
                "hint: download into a folder of its own (hf download NAME --local-dir DIR)"
            )
        _check_pointer(path)
        found.append(path)
    for index in sorted(folder.glob("*.index.json")):
        missing = set(shards(index).values()) - {path.name for path in found}
        if missing:
            raise CheckpointError(f"{index}: shards are missing: {sorted(missing)}")
    if not found:
        inside = sorted(
            path.name
            for path in folder.iterdir()
            if path.is_dir() and any(one.suffix in _SUFFIXES for one in path.glob("*"))
        )
        hint = f"\nhint: its folders {inside} have some" if inside else ""
        raise CheckpointError(f"{folder}: no .pth, .pt, .bin or .safetensors file in it{hint}")
    return found, passed


def indexed_keys(folder: Path) -> dict[str, str]:
    """Return the keys in indexes of shards, each with its file."""
    return {
        key: name
        for index in sorted(folder.glob("*.index.json"))
        for key, name in shards(index).items()
    }


def published_config(folder: Path) -> Mapping[str, Any]:
    """Return the content of ``config.json``; empty without that file.

    Raises:
        CheckpointError: The file is damaged.
    """
    path = folder / "config.json"
    return read_object(path) if path.is_file() else {}


def config_field(config: Mapping[str, Any], name: str) -> object:
    """Return a field by its dotted name, or None."""
    value: object = config
    for step in name.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def added_tokens(folder: Path) -> dict[str, int]:
    """Return the tokens that were added to a published tokenizer, with their indices.

    They are read from ``added_tokens.json``, ``tokenizer_config.json`` and ``tokenizer.json``, as
    far as these exist.

    Raises:
        CheckpointError: A file is damaged, or two files contradict each other.
    """
    found: dict[str, int] = {}
    for name, read in _TOKEN_READERS.items():
        path = folder / name
        if not path.is_file():
            continue
        try:
            tokens = read(read_object(path))
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{path}: expected added tokens with indices") from error
        for token, number in tokens.items():
            if found.setdefault(token, number) != number:
                raise CheckpointError(
                    f"{path}: token {token!r} has index {number}, in another file {found[token]}"
                )
    return found


def read_object(path: Path) -> Mapping[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: The file is not a JSON object, or is too large.
    """
    if path.stat().st_size > JSON_LIMIT:
        raise CheckpointError(f"{path}: expected at most {JSON_LIMIT} bytes")
    try:
        read: object = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    if not isinstance(read, Mapping):
        raise CheckpointError(f"{path}: expected a JSON object")
    return read


_TOKEN_READERS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, int]]] = {
    "added_tokens.json": lambda read: {str(token): int(n) for token, n in read.items()},
    "tokenizer_config.json": lambda read: {
        str(one["content"]): int(n) for n, one in read.get("added_tokens_decoder", {}).items()
    },
    "tokenizer.json": lambda read: {
        str(one["content"]): int(one["id"]) for one in read.get("added_tokens", [])
    },
}


def readable_files(paths: Sequence[Path], scratch: Path) -> list[WeightFile]:
    """Return files as safetensors; pickled ones are converted into ``scratch``.

    Raises:
        CheckpointError: A file is damaged, has references other than to tensors, or holds a number
            that is not finite.
    """
    pickled = [path for path in paths if path.suffix in PICKLED]
    told = dict(zip(pickled, unpickled(pickled, scratch), strict=True))
    files = []
    for path in paths:
        if path not in told:
            check_header(path)
            files.append(WeightFile(path, path))
            continue
        answer = told[path]
        if "refused" in answer:
            raise CheckpointError(
                f"{path}: refused: {answer['refused']}\n"
                "hint: if you trust its origin, save its tensors as .safetensors"
            )
        files.append(WeightFile(path, _target(path, scratch), tuple(answer["beside"])))
    return files


def unpickled(paths: Sequence[Path], scratch: Path) -> list[dict[str, Any]]:
    """Convert pickled files in another process; return its answer for each file.

    An answer has ``beside``, names of values that are not tensors, or ``refused``, a reason. If the
    process dies, the current file and all later ones are refused.
    """
    if not paths:
        return []
    pairs = [str(each.resolve()) for path in paths for each in (path, _target(path, scratch))]
    # without environment variables, and without modules from the working folder
    command = [sys.executable, "-I", str(_PROGRAM), *pairs]
    environment = {"PATH": os.defpath, "OMP_NUM_THREADS": "1"}
    ending = f"its reader took more than {SECONDS} seconds"
    try:
        done = subprocess.run(  # noqa: S603
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
        output, ending = done.stdout, f"its reader ended with {done.returncode}"
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
    told = [json.loads(line) for line in output.splitlines()]
    return told + [{"refused": ending}] * (len(paths) - len(told))


def shapes_of(file: WeightFile) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor by key.

    Raises:
        CheckpointError: The file is damaged.
    """
    try:
        with safe_open(file.readable, framework="pt") as tensors:
            return {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file.path}: damaged or cut off: {error}") from error


def _target(path: Path, scratch: Path) -> Path:
    return scratch / f"{path.name}.safetensors"


def _check_pointer(path: Path) -> None:
    try:
        with path.open("rb") as opened:
            start = opened.read(len(LFS_POINTER))
    except OSError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if start == LFS_POINTER:
        raise CheckpointError(
            f"{path}: a pointer of Git LFS, not the file itself\n"
            "hint: fetch it (git lfs pull), or download with hf download NAME --local-dir DIR"
        )

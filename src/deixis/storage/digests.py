"""Digests of files and JSON values, and manifests that contain their own digest."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, reading it in pieces.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_files(paths: Iterable[Path]) -> str:
    """Return the SHA-256 over the names and contents of files, in the order given.

    Raises:
        OSError: A file cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def json_digest(value: object) -> str:
    """Return the SHA-256 of a value in canonical JSON: ASCII, sorted keys, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def seal(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest with an added field ``digest``: the `json_digest` of all other fields."""
    return {**manifest, "digest": json_digest(manifest)}


def is_sealed(manifest: Mapping[str, Any]) -> bool:
    """Return whether the ``digest`` of a manifest matches its other fields (see `seal`)."""
    rest = {name: value for name, value in manifest.items() if name != "digest"}
    return bool(manifest.get("digest") == json_digest(rest))

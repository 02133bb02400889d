"""Model folders by name: a local folder, or a download from the hub for ``owner/name``."""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # lazily there

from deixis.errors import ModelError

LONGEST = 4096
"""Largest number of characters in a name, as for a path."""


def checked_name(name: str, what: str = "model") -> str:
    """Return a name unchanged if it may be a path or a hub id.

    Raises:
        ModelError: The name is empty, too long or has a character that cannot be printed.
    """
    shown = repr(name) if len(repr(name)) <= 80 else f"{repr(name)[:77]}..."
    if not name.strip():
        raise ModelError(f"{what} {shown}: empty name, expected a model, a folder or a hub id")
    parts = name.split("/")
    if len(name.encode(errors="replace")) > LONGEST or any(
        len(part.encode(errors="replace")) > 255 for part in parts
    ):
        raise ModelError(
            f"{what} {shown}: a name of {len(name)} characters, expected a model, a folder or a "
            "hub id"
        )
    if not name.isprintable():
        raise ModelError(f"{what} {shown}: a name with a character that cannot be printed")
    return name


def is_hub_id(name: str) -> bool:
    """Return whether a name is an ``owner/name`` of the hub."""
    if name.count("/") != 1 or name.startswith((".", "~")):
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def download(
    name: str, patterns: Sequence[str], *, what: str = "model", revision: str | None = None
) -> Path:
    """Download a hub id and return its folder; files that match no pattern are skipped.

    Raises:
        ModelError: The download failed.
    """
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise ModelError(f"{what} {name!r} is not a folder, and its download failed") from error

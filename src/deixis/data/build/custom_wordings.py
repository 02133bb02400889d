"""A user's own wordings in a build: they change its bytes, so their hash belongs to its plan."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from deixis.data.tasks import Rules
from deixis.data.wording import Wordings
from deixis.storage import sha256_of


def with_wordings(path: Path | None, rules: Rules | None = None) -> tuple[Rules, dict[str, Any]]:
    """Rules whose wordings come from a file, and what the plan records of it.

    Raises:
        RecipeError: The file does not hold wordings.
    """
    rules = rules or Rules()
    if path is None:
        return rules, {}
    words = Wordings.default().with_file(path)
    return replace(rules, wording=words.of), {"wordings": sha256_of(path)}

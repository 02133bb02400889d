"""Adds a user's wordings to a build. They change its bytes, so the plan records their hash."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from deixis.data.tasks import Rules
from deixis.data.wording import Wordings
from deixis.storage import sha256_of


def with_wordings(path: Path | None, rules: Rules | None = None) -> tuple[Rules, dict[str, Any]]:
    """Return rules with the wordings of a file, and the plan's record of that file.

    Raises:
        RecipeError: The file does not hold valid wordings.
    """
    rules = rules or Rules()
    if path is None:
        return rules, {}
    words = Wordings.default().with_file(path)
    return replace(rules, wording=words.of), {"wordings": sha256_of(path)}

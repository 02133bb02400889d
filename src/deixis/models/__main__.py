"""Print the tables at the end of ``docs/parts.md``: ``python -m deixis.models``."""

import sys

from deixis.models.catalogue import PARTS, uses

_HEAD = "| part | code | from | parameters | used by | proof |\n|---|---|---|---|---|---|\n"


def parts_tables() -> str:
    """Return a table for each group of parts, as Markdown."""
    used = uses(tuple(part.code for part in PARTS))
    groups: dict[str, list[str]] = {}
    for part in PARTS:
        numbers = "<br>".join(size.describe() for size in part.sizes) or "none"
        code = part.code.removeprefix("deixis.").removeprefix("models.")
        groups.setdefault(part.group, []).append(
            f"| {part.what} | `{code}` | {part.source} | {numbers} | {used[part.code]} "
            f"| `{part.test}` |\n"
        )
    return "\n".join(f"## {group}\n\n{_HEAD}{''.join(rows)}" for group, rows in groups.items())


if __name__ == "__main__":
    sys.stdout.write(parts_tables())

"""Print the table of formats for the documentation: ``python -m deixis.data.sources``."""

from deixis.data.sources.registry import FORMATS


def table() -> str:
    """Return the table of formats in Markdown."""
    lines = ["| format | what | tried on |", "|---|---|---|"]
    lines += [f"| `{name}` | {one.summary} | {one.tried} |" for name, one in FORMATS.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())  # noqa: T201

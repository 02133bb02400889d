"""Print the table of wordings that ``docs/wordings.md`` shows: ``python -m deixis.data.wording``."""

import sys

from deixis.data.wording.grammar import wordings
from deixis.data.wording.slots import WORDED_TASKS


def table() -> str:
    """Return a Markdown table of all tasks with the number of wordings and three examples."""
    rows = ["| task | wordings | for example |", "|---|---|---|"]
    for task in WORDED_TASKS:
        texts = wordings(task)
        samples = "<br>".join(f"`{texts[len(texts) * third // 3]}`" for third in range(3))
        rows.append(f"| `{task}` | {len(texts)} | {samples} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())

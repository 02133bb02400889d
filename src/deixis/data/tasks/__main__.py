"""Print the tables that ``docs/tasks.md`` shows: ``python -m deixis.data.tasks``."""

import sys

from deixis.data.tasks.registry import TASKS
from deixis.data.tasks.rules import describe_rules


def tasks_table() -> str:
    """Return a Markdown table of all tasks with the columns takes, gives and needs."""
    rows = ["| task | what it is | takes | gives | needs |", "|---|---|---|---|---|"]
    rows += [
        f"| `{spec.name}` | {spec.summary} | {', '.join(spec.takes)} | {', '.join(spec.gives)} "
        f"| {spec.needs} |"
        for spec in TASKS.values()
    ]
    return "\n".join(rows) + "\n"


def rules_table() -> str:
    """Return a Markdown table of all rules with default, meaning and origin."""
    rows = ["| rule | default | what it does | from |", "|---|---|---|---|"]
    rows += [
        f"| `{rule['name']}` | {rule['default']} | {rule['says']} | {rule['source']} |"
        for rule in describe_rules()
    ]
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(f"{tasks_table()}\n{rules_table()}")

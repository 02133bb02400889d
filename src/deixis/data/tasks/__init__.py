"""Tasks: each turns an annotated sample into questions with answers."""

from deixis.data.tasks.localisation import deny, point_out
from deixis.data.tasks.registry import DEFAULT_WEIGHTS, TASKS, describe_tasks, sample_turns
from deixis.data.tasks.rules import (
    DEFAULT_RULES,
    RULE_SETS,
    Rules,
    changed_rules,
    describe_rules,
    parse_rules,
)
from deixis.data.tasks.spec import TaskSpec

__all__ = [
    "DEFAULT_RULES",
    "DEFAULT_WEIGHTS",
    "RULE_SETS",
    "TASKS",
    "Rules",
    "TaskSpec",
    "changed_rules",
    "deny",
    "describe_rules",
    "describe_tasks",
    "parse_rules",
    "point_out",
    "sample_turns",
]

"""Tasks: an annotated sample in, a question with its answer out."""

from deixis.data.tasks.localisation import deny, point_out
from deixis.data.tasks.registry import DEFAULT_WEIGHTS, TASKS, Task, sample_turns

__all__ = ["DEFAULT_WEIGHTS", "TASKS", "Task", "deny", "point_out", "sample_turns"]

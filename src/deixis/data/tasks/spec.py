"""The description of a task: its function, and what it needs and gives."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Concatenate, Literal, ParamSpec

import numpy as np

from deixis.data.tasks.rules import Rules
from deixis.structures import Sample, Turn, Video

PromptKind = Literal["text", "point", "box", "scribble", "mask"]
Medium = Literal["image", "video"]
Make = Callable[[Sample, np.random.Generator, Rules], tuple[Turn, ...]]
"""Makes turns of a sample; empty if the sample lacks the annotations that the task needs."""

_More = ParamSpec("_More")


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """The description of a task, with the function that makes its turns.

    ``make`` is pure: the same sample, generator state and rules give the same turns. All turns have
    the task's name.

    Attributes:
        name: The name of the task and of its turns.
        family: The group of the task.
        summary: A one-line description.
        needs: The required annotations of a sample, in words.
        takes: Prompt kinds of the questions.
        gives: Unit types of the answers, or ``words``.
        rules: Names of the fields of `Rules` that the task uses.
        wordings: Names of the wordings of the questions; empty if the questions come from the source.
        make: The function that makes the turns.
        dependent: Whether later turns refer to earlier ones, so that they must stay together.
        medium: Images or videos; the registry's task makes no turns for the other medium.
    """

    name: str
    family: str
    summary: str
    needs: str
    takes: tuple[PromptKind, ...]
    gives: tuple[str, ...]
    rules: tuple[str, ...]
    wordings: tuple[str, ...]
    make: Make
    dependent: bool = False
    medium: Medium = "image"


def of_medium(spec: TaskSpec) -> TaskSpec:
    """Return the task with a check of the medium: it makes no turns for the other medium."""
    wants_video = spec.medium == "video"
    make_any = spec.make

    def make(sample: Sample, rng: np.random.Generator, rules: Rules) -> tuple[Turn, ...]:
        if isinstance(sample.image, Video) != wants_video:
            return ()
        return make_any(sample, rng, rules)

    return replace(spec, make=make)


def single(
    function: Callable[Concatenate[Sample, np.random.Generator, Rules, _More], Turn | None],
    *args: _More.args,
    **kwargs: _More.kwargs,
) -> Make:
    """Convert a function that returns a turn or None to a function that returns turns."""

    def make(sample: Sample, rng: np.random.Generator, rules: Rules) -> tuple[Turn, ...]:
        turn = function(sample, rng, rules, *args, **kwargs)
        return () if turn is None else (turn,)

    return make

"""What a task declares about itself."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Concatenate, Literal, ParamSpec

import numpy as np

from deixis.data.tasks.rules import Rules
from deixis.structures import Sample, Turn, Video

PromptKind = Literal["text", "point", "box", "scribble", "mask"]
Medium = Literal["image", "video"]
Make = Callable[[Sample, np.random.Generator, Rules], tuple[Turn, ...]]
"""Makes turns of a sample; none where the sample does not hold what the task needs."""

_More = ParamSpec("_More")


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One task: what it is, what it needs and gives, and the function that makes its turns.

    ``make`` is pure: the same sample, state of the generator and rules give the same turns, and
    all of them are marked with the task's name.

    Attributes:
        name: The task's name, which its turns carry.
        family: The group of tasks that it belongs to.
        summary: One line about it.
        needs: What a sample must hold, in words.
        takes: Prompt kinds of its questions.
        gives: Unit types of its answers, or ``words``.
        rules: Names of the fields of `Rules` that it obeys.
        wordings: Names of the wordings that its questions are drawn from; none where the data
            brings its own questions.
        make: Makes the turns.
        dependent: Whether later turns speak of earlier ones, so that they must be seen together.
        medium: Whether it is about images or about videos; of the others the registry lets it make
            nothing.
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
    """The task, making nothing of a sample of another medium: words about images fit no video."""
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
    """Make of a function that gives one turn or None one that gives turns."""

    def make(sample: Sample, rng: np.random.Generator, rules: Rules) -> tuple[Turn, ...]:
        turn = function(sample, rng, rules, *args, **kwargs)
        return () if turn is None else (turn,)

    return make

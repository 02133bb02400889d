"""All tasks by name, and turns drawn from a mixture of tasks."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from types import MappingProxyType

import numpy as np

from deixis.data.tasks import (
    answering,
    bodies,
    captioning,
    choices,
    counting,
    dense,
    detection,
    dialogues,
    interactive,
    localisation,
    nesting,
    quadrants,
    regions,
    relations,
    salience,
    statements,
    videos,
)
from deixis.data.tasks.rules import DEFAULT_RULES, Rules
from deixis.data.tasks.spec import TaskSpec, of_medium
from deixis.errors import RecipeError
from deixis.structures import Sample, Turn

_FAMILIES = (
    *(captioning, nesting, salience, answering, choices, statements),
    *(localisation, regions, interactive, detection, counting),
    *(relations, quadrants, bodies, dense, dialogues, videos),
)

TASKS: Mapping[str, TaskSpec] = MappingProxyType(
    {spec.name: of_medium(spec) for family in _FAMILIES for spec in family.SPECS}
)

DEFAULT_WEIGHTS: Mapping[str, float] = MappingProxyType(
    {
        "rec": 3.0,
        "res": 3.0,
        "locate": 4.0,
        "absent": 1.5,
        "detection": 1.5,
        "detection_all": 0.5,
        "segmentation": 1.0,
        "count": 0.75,
        "count_words": 0.75,
        "reg": 3.0,
        "region_qa": 1.5,
        "vqa": 1.5,
        "caption": 0.75,
        "gcg": 0.5,
        "gcg_box": 0.5,
        "gcg_mask": 0.5,
    }
)
"""Default weights of tasks: those that the shipped model was trained with."""

_ATTEMPTS_PER_TURN = 4
_MIXTURES_KEPT = 64


def describe_tasks() -> list[dict[str, object]]:
    """Return all tasks as plain data, in the order of the registry."""
    return [
        {
            "name": spec.name,
            "family": spec.family,
            "summary": spec.summary,
            "needs": spec.needs,
            "takes": list(spec.takes),
            "gives": list(spec.gives),
            "rules": list(spec.rules),
            "wordings": list(spec.wordings),
            "dependent": spec.dependent,
            "medium": spec.medium,
        }
        for spec in TASKS.values()
    ]


def sample_turns(
    sample: Sample,
    rng: np.random.Generator,
    *,
    count: int,
    tasks: Mapping[str, float] | Sequence[str] | None = None,
    rules: Rules = DEFAULT_RULES,
    independent: bool = True,
) -> tuple[Turn, ...]:
    """Draw up to ``count`` turns about a sample, without repeated questions.

    ``tasks`` are names, or names with weights. The result is shorter if the sample lacks the
    annotations for more turns. ``independent`` turns do not see one another, so tasks whose turns
    refer to earlier ones are refused; otherwise the turns of such a task stay together.

    Raises:
        RecipeError: A task is unknown, a weight is negative, no weight is above 0, or a task does not
            make independent turns.
    """
    given = DEFAULT_WEIGHTS if tasks is None else tasks
    weights = given.items() if isinstance(given, Mapping) else dict.fromkeys(given, 1.0).items()
    specs, bounds = _cumulative(tuple(weights))
    if independent and any(spec.dependent for spec in specs):
        names = sorted(spec.name for spec in specs if spec.dependent)
        raise RecipeError(f"tasks {names} build on their own turns: expected independent ones")
    turns: list[Turn] = []
    asked: set[object] = set()
    for _ in range(_ATTEMPTS_PER_TURN * count):
        if len(turns) == count:
            break
        spec = specs[bisect_right(bounds, rng.random() * bounds[-1])]
        for turn in spec.make(sample, rng, rules)[: count - len(turns)]:
            key = _key(turn)
            if spec.dependent or key not in asked:
                asked.add(key)
                turns.append(turn)
    return tuple(turns)


def _key(turn: Turn) -> object:
    """Return a key that is equal for equal questions; turns with regions are always different."""
    return turn.question if all(isinstance(part, str) for part in turn.question) else id(turn)


@lru_cache(maxsize=_MIXTURES_KEPT)
def _cumulative(
    weights: tuple[tuple[str, float], ...],
) -> tuple[tuple[TaskSpec, ...], tuple[float, ...]]:
    unknown = sorted({name for name, _ in weights} - set(TASKS))
    if unknown:
        raise RecipeError(f"unknown tasks {unknown}: expected some of {sorted(TASKS)}")
    values = [weight for _, weight in weights]
    if not values or min(values) < 0 or sum(values) <= 0:
        raise RecipeError(f"task weights {dict(weights)}: expected none below 0 and one above")
    return tuple(TASKS[name] for name, _ in weights), tuple(accumulate(values))

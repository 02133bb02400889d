"""Every task by name, and turns drawn from a mixture of them."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from deixis.data.tasks.answering import vqa
from deixis.data.tasks.captioning import caption, gcg, gcg_box, gcg_mask
from deixis.data.tasks.counting import count, count_words
from deixis.data.tasks.detection import detection, detection_all, segmentation
from deixis.data.tasks.localisation import absent, locate, rec, res
from deixis.data.tasks.regions import reg, reg_unique, region_qa
from deixis.errors import RecipeError
from deixis.structures import Sample, Turn

Task = Callable[[Sample, np.random.Generator], Turn | None]
"""Makes a turn of a sample; None where the sample does not hold what the task needs."""

TASKS: dict[str, Task] = {
    "absent": absent,
    "caption": caption,
    "count": count,
    "count_words": count_words,
    "detection": detection,
    "detection_all": detection_all,
    "gcg": gcg,
    "gcg_box": gcg_box,
    "gcg_mask": gcg_mask,
    "locate": locate,
    "rec": rec,
    "reg": reg,
    "reg_unique": reg_unique,
    "region_qa": region_qa,
    "res": res,
    "segmentation": segmentation,
    "vqa": vqa,
}

DEFAULT_WEIGHTS: Mapping[str, float] = {
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
"""How often each task is drawn where nothing else is said; ``reg_unique`` is left out."""

_ATTEMPTS_PER_TURN = 4


def sample_turns(
    sample: Sample,
    rng: np.random.Generator,
    *,
    count: int,
    tasks: Mapping[str, float] | Sequence[str] | None = None,
) -> tuple[Turn, ...]:
    """Draw up to ``count`` turns about a sample, no question twice.

    ``tasks`` gives names, or names with weights. Fewer turns come back where the sample does not
    hold enough for them.

    Raises:
        RecipeError: A task is unknown, or no weight is above 0.
    """
    names, bounds = _cumulative(DEFAULT_WEIGHTS if tasks is None else tasks)
    turns: list[Turn] = []
    asked: set[object] = set()
    for _ in range(_ATTEMPTS_PER_TURN * count):
        if len(turns) == count:
            break
        place = int(np.searchsorted(bounds, rng.random() * bounds[-1], side="right"))
        turn = TASKS[names[place]](sample, rng)
        if turn is None:
            continue
        key = turn.question if all(isinstance(part, str) for part in turn.question) else id(turn)
        if key not in asked:
            asked.add(key)
            turns.append(turn)
    return tuple(turns)


def _cumulative(tasks: Mapping[str, float] | Sequence[str]) -> tuple[list[str], np.ndarray]:
    weights = dict(tasks) if isinstance(tasks, Mapping) else dict.fromkeys(tasks, 1.0)
    unknown = sorted(set(weights) - set(TASKS))
    if unknown:
        raise RecipeError(f"unknown tasks {unknown}: expected some of {sorted(TASKS)}")
    if not weights or min(weights.values()) < 0 or sum(weights.values()) <= 0:
        raise RecipeError(f"task weights {weights}: expected none below 0 and one above")
    return list(weights), np.cumsum(list(weights.values()))

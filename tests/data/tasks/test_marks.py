from dataclasses import replace

import numpy as np

from deixis.data.tasks import TASKS, Rules
from deixis.geometry import Box, ImageSize
from deixis.structures import Instance, Sample

WALL = Instance("wall", Box(0, 0, 200, 40), attributes=("stuff",))
DOG = Instance("dog", Box(20, 40, 60, 90), attributes=("truncated", "brown"))
CAT = Instance("cat", Box(100, 40, 160, 90), attributes=("difficult",))
SAMPLE = Sample(
    "a", lambda: np.zeros((100, 200, 3), np.uint8), ImageSize(100, 200), (WALL, DOG, CAT)
)


def questions(task: str, sample: Sample) -> str:
    said = []
    for seed in range(60):
        for turn in TASKS[task].make(sample, np.random.default_rng(seed), Rules()):
            said += [part for part in turn.question if isinstance(part, str)]
            said.append(turn.answer.text if turn.answer else "")
    return " ".join(said).lower()


def test_annotators_flags_do_not_appear_in_texts() -> None:
    for task in ("detection", "segmentation", "count", "detection_all", "reg"):
        for word in ("truncated", "difficult", "stuff"):
            assert word not in questions(task, SAMPLE), task


def test_stuff_and_hard_cases_are_not_counted() -> None:
    said = questions("count", SAMPLE)
    assert "dog" in said
    assert "wall" not in said
    assert "cat" not in said
    plain = replace(SAMPLE, instances=(DOG, replace(CAT, attributes=())))
    assert "cat" in questions("count", plain)

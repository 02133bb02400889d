"""Samples with annotations for every task, and questions with readable slots."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from deixis.data.scenes import clip_sample, draw_clip, draw_scene, scene_sample
from deixis.data.scenes.vocabulary import LEVELS
from deixis.data.tasks import DEFAULT_RULES, TASKS, Rules
from deixis.data.wording import SLOTS
from deixis.structures import DIALOGUE, QuestionAnswer, Sample, Turn

Made = list[tuple[Sample, tuple[Turn, ...]]]
Maker = Callable[..., Made]


def _slots_alone(task: str) -> tuple[str, ...]:
    """Return one wording of only the slots, in alphabetical order."""
    return ("|".join(["Q", *(f"{{{slot}}}" for slot in sorted(SLOTS[task]))]) + "|",)


def _enriched(sample: Sample) -> Sample:
    """Add kinds of questions that drawn scenes lack."""
    first = sample.instances[0]
    asked = [
        QuestionAnswer("What is it?", first.category, rationale=f"It looks like {first.category}")
    ]
    if len(sample.instances) > 1:
        places = tuple(f"<region {index}>" for index in range(len(sample.instances)))
        asked.append(
            QuestionAnswer(
                "What is <region 0> beside?",
                "It is beside <region 1>. <region 0> is there.",
                instance=0,
                kind="regions",
            )
        )
        asked.append(
            QuestionAnswer("Which comes first?", places[0], 0, kind="which", options=places)
        )
    said = sample.captions[0]
    talk = [
        QuestionAnswer("What is shown?", said.text, kind=DIALOGUE, phrases=said.phrases),
        QuestionAnswer("Is that all of it", "yes", kind=DIALOGUE),
    ]
    return replace(sample, questions=(*sample.questions, *asked, *talk))


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    return [
        _enriched(scene_sample(draw_scene(31, index, level=level)))
        for level in LEVELS
        for index in range(12)
    ]


@pytest.fixture(scope="session")
def videos() -> list[Sample]:
    return [clip_sample(draw_clip(31, index, frames=6, long_side=96)) for index in range(24)]


@pytest.fixture(scope="session")
def slots() -> Rules:
    return Rules(wording=_slots_alone)


@pytest.fixture(scope="session")
def make(samples: list[Sample], videos: list[Sample]) -> Maker:
    """Make turns of a task for every sample of its medium, several times, without empty results."""

    def made(task: str, rules: Rules = DEFAULT_RULES, *, times: int = 4, every: int = 1) -> Made:
        rng = np.random.default_rng(5)
        known = videos if TASKS[task].medium == "video" else samples
        pairs = [
            (sample, TASKS[task].make(sample, rng, rules))
            for sample in known[::every]
            for _ in range(times)
        ]
        return [(sample, turns) for sample, turns in pairs if turns]

    return made

"""Predictors that know the truth of the first examples of some benchmarks."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from deixis.evaluation import Example, resolve_benchmark
from deixis.structures import (
    Answer,
    GroundedPhrase,
    GroundedText,
    ImageArray,
    QuestionPart,
    Reference,
    UnitGroup,
)

LIMIT = 7
TASK_NAMES = (
    "scenes/rec:val",
    "scenes/res:testB",
    "scenes/locate-long:testA",
    "scenes/several:val",
    "scenes/absent:val",
    "scenes/detection:val",
    "scenes/count:val",
    "scenes/reg:val",
    "scenes/region_qa:val",
    "scenes/vqa:val",
)

Question = tuple[ImageArray, tuple[QuestionPart, ...]]


def true_answer(example: Example, *, score: float | None = 0.9) -> Answer:
    """The right answer: units for targets, and words."""
    size = example.sample.size
    if not example.targets:
        text = example.texts[-1] if example.texts else "There is nothing."
        return Answer(GroundedText(text), size)
    words = f"{example.texts[0]} things" if example.texts else "things"
    instances = [example.sample.instances[index] for index in example.targets]
    references = tuple(Reference((thing.box, thing.mask), score) for thing in instances)
    phrase = GroundedPhrase(words, 0, len(words), (UnitGroup(("box", "mask"), references),))
    return Answer(GroundedText(words, (phrase,)), size)


def empty_answer(example: Example) -> Answer:
    """No words and no units."""
    return Answer(GroundedText(""), example.sample.size)


@dataclass
class KeyPredictor:
    """Answers known questions from a key, and counts how often it is asked."""

    answers: dict[tuple[str, tuple[QuestionPart, ...]], Answer]
    name: str = "key"
    decoding: str = "none"
    batches: list[int] = field(default_factory=list)
    fail_after: int | None = None

    def ask_many(self, questions: Sequence[Question], /) -> list[Answer]:
        if self.fail_after is not None and len(self.batches) >= self.fail_after:
            raise KeyboardInterrupt
        self.batches.append(len(questions))
        return [self.answers[digest(image), parts] for image, parts in questions]


def digest(image: object) -> str:
    assert isinstance(image, np.ndarray)
    return hashlib.sha256(image.tobytes()).hexdigest()


def first_examples(name: str, *, limit: int = LIMIT) -> list[Example]:
    return [
        example for each in resolve_benchmark(name) for example in each.examples(limit=limit)
    ]


def build_key(examples: Sequence[Example], answer: Callable[[Example], Answer]) -> KeyPredictor:
    return KeyPredictor(
        {(digest(example.image), example.question): answer(example) for example in examples}
    )


@pytest.fixture(scope="session")
def all_examples() -> list[Example]:
    return [example for name in TASK_NAMES for example in first_examples(name)]


@pytest.fixture(scope="session")
def rec_examples() -> list[Example]:
    return first_examples("scenes/rec:val@standard")


@pytest.fixture
def oracle(rec_examples: list[Example]) -> KeyPredictor:
    return build_key(rec_examples, true_answer)

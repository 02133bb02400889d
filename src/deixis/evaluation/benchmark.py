"""Benchmarks by name: ``scenes/TASK[-SET]:SPLIT[@LEVEL]``."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

from deixis.data.scenes.splits import BENCHMARK_SEED, BENCHMARK_SPLITS
from deixis.data.scenes.vocabulary import COLORS, DIGITS, LETTERS, LEVELS, NAMES, SIZES, TEXTURES
from deixis.errors import BenchmarkError
from deixis.evaluation.examples import (
    Example,
    class_examples,
    description_examples,
    expression_examples,
    image_question_examples,
    region_question_examples,
)
from deixis.evaluation.scoring import (
    AbsenceScorer,
    AnswerScorer,
    BoxAndMaskScorer,
    BoxScorer,
    CountScorer,
    DescriptionScorer,
    MaskScorer,
    Scorer,
    SetScorer,
)
from deixis.metrics import words_of

NUM_EXAMPLES = 1000
"""Examples of every benchmark."""

SETS = ("location", "appearance", "long")
"""Kinds of words for a single target: RefCOCO's, RefCOCO+'s and RefCOCOg's rules."""

_NAME = re.compile(
    r"scenes/(?P<task>[a-z_]+)(?:-(?P<set>[a-z]+))?:(?P<split>[A-Za-z]+)(?:@(?P<level>[a-z]+))?"
)
_ATTRIBUTES = frozenset(
    word
    for phrase in (*COLORS, *SIZES, *TEXTURES, *NAMES, *LETTERS, *DIGITS)
    for word in words_of(phrase)
) | {"shirt"}


@dataclass(frozen=True, slots=True)
class Task:
    """What a benchmark asks, in one fixed wording, and how answers are scored.

    ``family`` names the expressions that are asked for: None where a benchmark's name chooses
    one of the three sets, empty where there are no expressions. ``needs_references`` says
    whether an answer is scored by what it points at or by its words.
    """

    title: str
    wording: str
    scorer: Callable[[], Scorer]
    examples: Callable[..., Iterator[Example]] = expression_examples
    family: str | None = None
    needs_references: bool = True


TASKS: dict[str, Task] = {
    "rec": Task("referring expression comprehension", "Where {is} {x}?", BoxScorer),
    "res": Task("referring expression segmentation", "Segment {x}.", MaskScorer),
    "locate": Task("box and mask of one answer", "Point at {x}.", BoxAndMaskScorer),
    "several": Task(
        "expressions with several targets", "Where {is} {x}?", SetScorer, family="several"
    ),
    "absent": Task(
        "expressions without a target", "Where {is} {x}?", AbsenceScorer, family="absent"
    ),
    "detection": Task(
        "all instances of a class", "Detect all {names}.", SetScorer, class_examples, family=""
    ),
    "count": Task(
        "counting",
        "How many {names} are there?",
        CountScorer,
        class_examples,
        family="",
        needs_references=False,
    ),
    "reg": Task(
        "description of a region",
        "What is {region}?",
        partial(DescriptionScorer, vocabulary=_ATTRIBUTES),
        description_examples,
        family="",
        needs_references=False,
    ),
    "region_qa": Task(
        "questions about a region",
        "{question}",
        AnswerScorer,
        region_question_examples,
        family="",
        needs_references=False,
    ),
    "vqa": Task(
        "questions about the image",
        "{question}",
        AnswerScorer,
        image_question_examples,
        family="",
        needs_references=False,
    ),
}


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One task on one split at one level: the unit that is scored and reported."""

    task_name: str
    set_name: str
    split: str
    level: str

    @property
    def task(self) -> Task:
        """What is asked."""
        return TASKS[self.task_name]

    @property
    def name(self) -> str:
        """The name in full; the first set goes without saying."""
        words = "" if self.set_name in {"", SETS[0]} else f"-{self.set_name}"
        return f"scenes/{self.task_name}{words}:{self.split}@{self.level}"

    @property
    def seed(self) -> int:
        """The seed of the scenes."""
        return BENCHMARK_SEED

    def examples(self, *, limit: int | None = None) -> Iterator[Example]:
        """Yield the examples, always the same ones in the same order; at most ``limit``."""
        make = self.task.examples
        family = self.task.family if self.task.family is not None else self.set_name
        if family:
            make = partial(make, family)
        endless = make(self.split, level=self.level, wording=self.task.wording)
        return islice(endless, self.num_examples(limit=limit))

    def num_examples(self, *, limit: int | None = None) -> int:
        """Return how many examples there are under ``limit``."""
        return NUM_EXAMPLES if limit is None else min(limit, NUM_EXAMPLES)


def resolve_benchmark(name: str, *, level: str | None = None) -> tuple[Benchmark, ...]:
    """Return the benchmarks that a name means: one for each level, unless it says which.

    Raises:
        BenchmarkError: The name does not follow the form, or a part of it is unknown.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise BenchmarkError(f"unknown benchmark {name[:80]!r}: expected {_form()}")
    task, split = match["task"], match["split"]
    _check("task", task, tuple(TASKS), name)
    has_sets = TASKS[task].family is None
    if match["set"] is not None and not has_sets:
        raise BenchmarkError(f"unknown benchmark {name!r}: task {task} has no sets")
    set_name = (match["set"] or SETS[0]) if has_sets else ""
    if has_sets:
        _check("set", set_name, SETS, name)
    _check("split", split, BENCHMARK_SPLITS, name)
    chosen = match["level"] or level
    if chosen is not None:
        _check("level", chosen, LEVELS, name)
    if level is not None and chosen != level:
        raise BenchmarkError(f"benchmark {name!r} is not of level {level}")
    levels = LEVELS if chosen is None else (chosen,)
    return tuple(Benchmark(task, set_name, split, each) for each in levels)


def benchmark_names() -> tuple[str, ...]:
    """Return every benchmark name, without levels."""
    return tuple(
        f"scenes/{task}{words}:{split}"
        for task, spec in TASKS.items()
        for words in (("", *(f"-{name}" for name in SETS[1:])) if spec.family is None else ("",))
        for split in BENCHMARK_SPLITS
    )


def _form() -> str:
    return (
        "scenes/TASK[-SET]:SPLIT[@LEVEL]"
        f" with TASK {_either(tuple(TASKS))}, SET {_either(SETS)},"
        f" SPLIT {_either(BENCHMARK_SPLITS)}, LEVEL {_either(LEVELS)}"
    )


def _either(names: tuple[str, ...]) -> str:
    return "|".join(names)


def _check(kind: str, value: str, known: tuple[str, ...], name: str) -> None:
    if value not in known:
        raise BenchmarkError(
            f"unknown benchmark {name!r}: {kind} {value!r} is none of {', '.join(known)}"
        )

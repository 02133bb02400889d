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
from deixis.evaluation.scorers import (
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
class BenchmarkTask:
    """The question of a benchmark in one fixed wording, and the scorer of its answers.

    ``family`` is the family of expressions to ask for: None if the benchmark's name chooses one of
    the three sets, empty for tasks without expressions. ``needs_references`` says whether answers
    are scored by their references or by their words.
    """

    title: str
    wording: str
    scorer: Callable[[], Scorer]
    examples: Callable[..., Iterator[Example]] = expression_examples
    family: str | None = None
    needs_references: bool = True


BENCHMARK_TASKS: dict[str, BenchmarkTask] = {
    "rec": BenchmarkTask("referring expression comprehension", "Where {is} {x}?", BoxScorer),
    "res": BenchmarkTask("referring expression segmentation", "Segment {x}.", MaskScorer),
    "locate": BenchmarkTask("box and mask of one answer", "Point at {x}.", BoxAndMaskScorer),
    "several": BenchmarkTask(
        "expressions with several targets", "Where {is} {x}?", SetScorer, family="several"
    ),
    "absent": BenchmarkTask(
        "expressions without a target", "Where {is} {x}?", AbsenceScorer, family="absent"
    ),
    "detection": BenchmarkTask(
        "all instances of a class", "Detect all {names}.", SetScorer, class_examples, family=""
    ),
    "count": BenchmarkTask(
        "counting",
        "How many {names} are there?",
        CountScorer,
        class_examples,
        family="",
        needs_references=False,
    ),
    "reg": BenchmarkTask(
        "description of a region",
        "What is {region}?",
        partial(DescriptionScorer, vocabulary=_ATTRIBUTES),
        description_examples,
        family="",
        needs_references=False,
    ),
    "region_qa": BenchmarkTask(
        "questions about a region",
        "{question}",
        AnswerScorer,
        region_question_examples,
        family="",
        needs_references=False,
    ),
    "vqa": BenchmarkTask(
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
    """One task on one split at one level, scored and reported as a whole."""

    task_name: str
    set_name: str
    split: str
    level: str

    @property
    def task(self) -> BenchmarkTask:
        """The task of the benchmark."""
        return BENCHMARK_TASKS[self.task_name]

    @property
    def name(self) -> str:
        """The full name; the first set is left out."""
        words = "" if self.set_name in {"", SETS[0]} else f"-{self.set_name}"
        return f"scenes/{self.task_name}{words}:{self.split}@{self.level}"

    @property
    def seed(self) -> int:
        """The seed of the scenes."""
        return BENCHMARK_SEED

    def examples(self, *, limit: int | None = None) -> Iterator[Example]:
        """Yield at most ``limit`` examples, always the same ones in the same order."""
        make = self.task.examples
        family = self.task.family if self.task.family is not None else self.set_name
        if family:
            make = partial(make, family)
        endless = make(self.split, level=self.level, wording=self.task.wording)
        return islice(endless, self.num_examples(limit=limit))

    def num_examples(self, *, limit: int | None = None) -> int:
        """Return the number of examples under ``limit``."""
        return NUM_EXAMPLES if limit is None else min(limit, NUM_EXAMPLES)


def resolve_benchmark(name: str, *, level: str | None = None) -> tuple[Benchmark, ...]:
    """Return the benchmarks of a name: one for each level, unless the name has a level.

    Raises:
        BenchmarkError: The name has another form, or a part of it is unknown.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise BenchmarkError(f"unknown benchmark {name[:80]!r}: expected {_form()}")
    task, split = match["task"], match["split"]
    _check("task", task, tuple(BENCHMARK_TASKS), name)
    has_sets = BENCHMARK_TASKS[task].family is None
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
        for task, spec in BENCHMARK_TASKS.items()
        for words in (("", *(f"-{name}" for name in SETS[1:])) if spec.family is None else ("",))
        for split in BENCHMARK_SPLITS
    )


def _form() -> str:
    return (
        "scenes/TASK[-SET]:SPLIT[@LEVEL]"
        f" with TASK {_either(tuple(BENCHMARK_TASKS))}, SET {_either(SETS)},"
        f" SPLIT {_either(BENCHMARK_SPLITS)}, LEVEL {_either(LEVELS)}"
    )


def _either(names: tuple[str, ...]) -> str:
    return "|".join(names)


def _check(kind: str, value: str, known: tuple[str, ...], name: str) -> None:
    if value not in known:
        raise BenchmarkError(
            f"unknown benchmark {name!r}: {kind} {value!r}: expected one of {', '.join(known)}"
        )

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from answer_keys import TASK_NAMES, first_examples

from deixis.data.scenes.vocabulary import FIGURE
from deixis.data.wording import wordings
from deixis.errors import BenchmarkError
from deixis.evaluation import (
    BENCHMARK_TASKS,
    NUM_EXAMPLES,
    Example,
    benchmark_names,
    resolve_benchmark,
)
from deixis.geometry import Box, ImageSize
from deixis.structures import Instance, Sample


def test_the_plain_name_is_the_first_set_at_every_level() -> None:
    found = resolve_benchmark("scenes/rec:val")
    assert [(each.set_name, each.level) for each in found] == [
        ("location", "plain"),
        ("location", "standard"),
        ("location", "hard"),
    ]
    assert found == resolve_benchmark("scenes/rec-location:val")


@pytest.mark.parametrize("name", benchmark_names())
def test_every_name_resolves_to_itself(name: str) -> None:
    for benchmark in resolve_benchmark(name):
        assert benchmark.name == f"{name}@{benchmark.level}"
        assert resolve_benchmark(benchmark.name) == (benchmark,)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "unknown benchmark '': expected scenes/TASK"),
        ("scenes/rec", "expected scenes/TASK"),
        ("scenes/rec:val@plain@hard", "expected scenes/TASK"),
        ("x" * 5000, "expected scenes/TASK"),
        ("scenes/rex:val", "task 'rex': expected one of rec, res"),
        ("scenes/rec-short:val", "set 'short': expected one of location, appearance, long"),
        ("scenes/rec:test", "split 'test': expected one of train, val, testA, testB"),
        ("scenes/rec:val@easy", "level 'easy': expected one of plain, standard, hard"),
        ("scenes/count-long:val", "task count has no sets"),
    ],
)
def test_unknown_names_say_what_was_expected(name: str, message: str) -> None:
    with pytest.raises(BenchmarkError, match=message) as caught:
        resolve_benchmark(name)
    assert len(str(caught.value)) < 500


def test_a_level_that_the_name_contradicts_is_refused() -> None:
    assert len(resolve_benchmark("scenes/rec:val@hard", level="hard")) == 1
    with pytest.raises(BenchmarkError, match="is not of level plain"):
        resolve_benchmark("scenes/rec:val@hard", level="plain")
    with pytest.raises(BenchmarkError, match="level 'easy': expected one of"):
        resolve_benchmark("scenes/rec:val", level="easy")


@pytest.mark.parametrize("name", TASK_NAMES)
def test_examples_are_deterministic_and_have_unique_ids(name: str) -> None:
    first, second = first_examples(name, limit=2), first_examples(name, limit=3)
    fingerprints = [example.fingerprint() for example in second]
    per_level = [fingerprints[start : start + 2] for start in (0, 3, 6)]
    assert [example.fingerprint() for example in first] == [x for part in per_level for x in part]
    assert len({example.id for example in second}) == len(set(fingerprints)) == 9


def test_a_benchmark_has_a_fixed_number_of_examples() -> None:
    (benchmark,) = resolve_benchmark("scenes/rec:val@plain")
    assert benchmark.num_examples() == benchmark.num_examples(limit=10**9) == NUM_EXAMPLES
    assert benchmark.num_examples(limit=3) == 3


def test_test_splits_ask_for_figures_or_for_other_instances() -> None:
    for split, is_figure in (("testA", True), ("testB", False)):
        for example in first_examples(f"scenes/rec:{split}@standard", limit=4):
            (target,) = example.targets
            assert (example.sample.instances[target].category == FIGURE) is is_figure


def test_each_wording_is_also_used_in_training() -> None:
    asked = {"rec": "rec", "res": "res", "locate": "locate", "several": "rec", "absent": "rec"}
    asked |= {"detection": "detection", "count": "count_words", "reg": "reg"}
    for task, trained in asked.items():
        assert BENCHMARK_TASKS[task].wording in wordings(trained), task
    assert {name for name, task in BENCHMARK_TASKS.items() if task.wording == "{question}"} == (
        set(BENCHMARK_TASKS) - set(asked)
    )


def test_regions_are_part_of_their_question() -> None:
    for name in ("scenes/reg:val@plain", "scenes/region_qa:val@plain"):
        for example in first_examples(name, limit=4):
            assert sum(isinstance(part, Box) for part in example.question) == 1
            assert "<region>" not in str(example.question)


def test_questions_include_absent_classes_and_several_instances() -> None:
    (benchmark,) = resolve_benchmark("scenes/count:val@standard")
    counts = {len(example.targets) for example in islice(benchmark.examples(), 25)}
    assert {0, 1, 2} <= counts


def test_the_fingerprint_changes_with_image_question_and_truth() -> None:
    (example,) = first_examples("scenes/rec:val@plain", limit=1)
    image = np.array(example.image)
    image[0, 0, 0] ^= 1
    others = [
        replace(example, question=("Where?",)),
        replace(example, targets=()),
        replace(example, texts=("red",)),
        replace(example, sample=replace(example.sample, image=image)),
    ]
    assert len({one.fingerprint() for one in (example, *others)}) == 5


def test_an_image_is_drawn_when_it_is_needed() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    sample = Sample("a", lambda: image, ImageSize(4, 6))
    assert Example("a", sample, ("Where?",)).image is image


def test_a_mask_of_instances_without_masks_is_refused() -> None:
    sample = Sample(
        "a",
        np.zeros((4, 6, 3), np.uint8),
        ImageSize(4, 6),
        (Instance("ring", Box(0.0, 0.0, 2.0, 2.0)),),
    )
    example = Example("a", sample, ("Where?",), (0,))
    assert example.fingerprint()
    with pytest.raises(BenchmarkError, match="example a: instance 0 has no mask"):
        _ = example.mask

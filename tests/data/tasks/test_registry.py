import json
import pickle
from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest

from deixis.data.tasks import (
    DEFAULT_RULES,
    DEFAULT_WEIGHTS,
    RULE_SETS,
    TASKS,
    Rules,
    describe_rules,
    describe_tasks,
    sample_turns,
)
from deixis.data.wording import SLOTS, Wordings
from deixis.errors import RecipeError
from deixis.geometry import Box, ImageSize, Mask, Point, Scribble
from deixis.notation import Triplets, fill
from deixis.structures import GroundedText, Sample, Turn, UnitType

Maker = Callable[..., list[tuple[Sample, tuple[Turn, ...]]]]

KINDS = {"point": Point, "box": Box, "scribble": Scribble, "mask": Mask}
SHORT = {
    "rec",
    "res",
    "locate",
    "detection",
    "count",
    "reg_box",
    "semantic",
    "interactive_mask_box",
}


def round_trip(answer: GroundedText, size: ImageSize) -> GroundedText:
    encoded = Triplets().encode(answer, size)
    decoded = Triplets().decode(encoded.pieces, size)
    assert not decoded.problems
    return fill(decoded, [reference.units for reference in encoded.references])


def test_the_registry_describes_itself_in_plain_data() -> None:
    described = json.loads(json.dumps(describe_tasks()))
    assert [task["name"] for task in described] == list(TASKS)
    for task in described:
        assert task["summary"].endswith(".")
        assert task["needs"]
        assert set(task["takes"]) <= {"text", *KINDS}
        assert set(task["gives"]) <= {"words", *UnitType}
        assert set(task["rules"]) <= {rule.name for rule in fields(Rules)}
        assert set(task["wordings"]) <= set(SLOTS)
        assert ("wording" in task["rules"]) == bool(task["wordings"])


def test_every_wording_belongs_to_a_task() -> None:
    used = {name for spec in TASKS.values() for name in spec.wordings}
    assert set(SLOTS) == used


@pytest.mark.parametrize("task", TASKS)
def test_a_task_makes_turns_of_its_name_as_it_declares(task: str, make: Maker) -> None:
    spec = TASKS[task]
    made = make(task)
    assert len(made) > 20
    for _, turns in made:
        for turn in turns:
            assert turn.task == task
            assert turn.answer is not None
            assert turn.answer.text.endswith(".")
            assert turn.answer.text[0].isupper()
            assert "{" not in "".join(part for part in turn.question if isinstance(part, str))
            assert turn.question[0] != ""
            for part in turn.question:
                kind = next((kind for kind in KINDS if isinstance(part, KINDS[kind])), "text")
                assert kind in spec.takes or (kind == "text" and spec.takes)
            for phrase in turn.answer.phrases:
                for group in phrase.groups:
                    assert set(group.unit_types) <= set(spec.gives)
        if spec.gives != ("words",) and "words" not in spec.gives:
            assert any(turn.answer.phrases for turn in turns if turn.answer) or any(
                " no" in f" {turn.answer.text.lower()}" for turn in turns if turn.answer
            )


@pytest.mark.parametrize("task", TASKS)
def test_the_same_seed_makes_the_same_turns(task: str, make: Maker) -> None:
    assert make(task, times=2) == make(task, times=2)


@pytest.mark.parametrize("task", TASKS)
def test_answers_survive_a_notation(task: str, make: Maker) -> None:
    for rules in RULE_SETS.values():
        for sample, turns in make(task, rules, times=1):
            for turn in turns:
                assert turn.answer is not None
                assert round_trip(turn.answer, sample.size) == turn.answer


@pytest.mark.parametrize("task", TASKS)
def test_units_are_those_of_instances(task: str, make: Maker) -> None:
    if task in {"semantic", "point_out", "depth"}:
        pytest.skip("their units are made, and tested by their pixels")
    for sample, turns in make(task, times=2):
        owned = {
            id(unit)
            for instance in sample.instances
            for unit in (instance.box, instance.mask, instance.keypoints)
        }
        captions = {
            id(unit)
            for caption in sample.captions
            for phrase in caption.phrases
            for reference in phrase.references
            for unit in reference.units
        }
        for turn in turns:
            assert turn.answer is not None
            for phrase in turn.answer.phrases:
                for reference in phrase.references:
                    assert {id(unit) for unit in reference.units} <= owned | captions
                    # Units of one reference belong to one instance.
                    if id(reference.units[0]) in owned:
                        assert any(
                            {id(unit) for unit in reference.units}
                            <= {id(each.box), id(each.mask), id(each.keypoints)}
                            for each in sample.instances
                        )


@pytest.mark.parametrize("task", sorted(SHORT))
def test_short_answers_stay_short(task: str, make: Maker) -> None:
    for _, turns in make(task):
        for turn in turns:
            assert turn.answer is not None
            assert len(turn.answer.text.split()) <= 12, turn.answer.text


def test_an_empty_image_makes_no_turns() -> None:
    empty = Sample("empty", np.zeros((8, 8, 3), np.uint8), ImageSize(8, 8))
    for spec in TASKS.values():
        assert spec.make(empty, np.random.default_rng(0), DEFAULT_RULES) == ()
    assert sample_turns(empty, np.random.default_rng(0), count=4) == ()


def test_a_mixture_gives_the_requested_turns_without_duplicates(
    samples: list[Sample],
) -> None:
    for sample in samples:
        turns = sample_turns(sample, np.random.default_rng(8), count=8)
        assert turns == sample_turns(sample, np.random.default_rng(8), count=8)
        assert len(turns) == 8
        many = sample_turns(sample, np.random.default_rng(1), count=30, tasks=["rec", "vqa"])
        assert len({turn.question for turn in many}) == len(many)


def test_the_default_weights_are_those_of_the_shipped_model() -> None:
    assert set(DEFAULT_WEIGHTS) <= set(TASKS)
    assert sum(DEFAULT_WEIGHTS.values()) == 24.25
    assert (DEFAULT_WEIGHTS["locate"], DEFAULT_WEIGHTS["reg"], len(DEFAULT_WEIGHTS)) == (4, 3, 16)


def test_weights_choose_tasks(samples: list[Sample]) -> None:
    rng = np.random.default_rng(0)
    drawn = sample_turns(samples[0], rng, count=20, tasks={"rec": 1.0, "vqa": 0.0})
    assert {turn.task for turn in drawn} == {"rec"}


def test_rules_reach_the_tasks_of_a_mixture(samples: list[Sample]) -> None:
    fixed = Rules(wording=Wordings.default().fixed({"rec": "Show {x}."}).of)
    turns = sample_turns(samples[0], np.random.default_rng(0), count=5, tasks=["rec"], rules=fixed)
    assert all(str(turn.question[0]).startswith("Show the ") for turn in turns)


def test_tasks_with_dependent_turns_are_not_independent(samples: list[Sample]) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(RecipeError, match=r"tasks \['dialogue'\] build on their own turns"):
        sample_turns(samples[0], rng, count=4, tasks=["rec", "dialogue"])
    turns = sample_turns(samples[0], rng, count=4, tasks=["dialogue"], independent=False)
    assert 0 < len(turns) <= 4
    assert {turn.task for turn in turns} == {"dialogue"}


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (["rec", "juggle"], r"unknown tasks \['juggle'\]"),
        ({"rec": -1.0, "res": 2.0}, "expected none below 0"),
        ({"rec": 0.0}, "expected none below 0 and one above"),
        ([], "expected none below 0 and one above"),
    ],
)
def test_wrong_mixtures_are_refused(
    tasks: dict[str, float] | list[str], message: str, samples: list[Sample]
) -> None:
    with pytest.raises(RecipeError, match=message):
        sample_turns(samples[0], np.random.default_rng(0), count=1, tasks=tasks)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"absent_share": 1.5}, r"rule absent_share: expected a share in \[0, 1\], got 1.5"),
        ({"absent_share": True}, r"rule absent_share: expected a share in \[0, 1\], got True"),
        ({"quadrant_ties": 1}, "rule quadrant_ties: expected True or False, got 1"),
        ({"common_predicates": ("on",)}, "rule common_predicates: expected a frozenset"),
        ({"wording": "rec"}, "rule wording: expected a function of a task's name, got 'rec'"),
        ({"max_references": 0}, "rule max_references: expected 1 or more, got 0"),
        ({"max_options": 1}, "rules max_options and max_listed: expected 2 or more"),
        ({"max_options": 27}, "26 options at most"),
        ({"order": "size"}, "rule order: expected one of .*, got 'size'"),
        ({"empty": "never"}, "rule empty: expected one of .*, got 'never'"),
        ({"region_kinds": ()}, "rule region_kinds: expected some of"),
        ({"region_kinds": ("line",)}, "rule region_kinds: expected some of"),
    ],
)
def test_wrong_rules_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        replace(DEFAULT_RULES, **changes)  # type: ignore[arg-type]  # wrong on purpose


def test_every_rule_has_a_meaning_and_an_origin() -> None:
    described = describe_rules()
    assert [rule["name"] for rule in described] == [rule.name for rule in fields(Rules)]
    assert all(rule["says"].endswith(".") and rule["source"] for rule in described)
    assert pickle.loads(pickle.dumps(DEFAULT_RULES)) == DEFAULT_RULES  # noqa: S301


def test_a_wording_with_an_unknown_slot_is_refused(samples: list[Sample]) -> None:
    rules = Rules(wording=lambda _: ("Where is {thing}?",))
    with pytest.raises(RecipeError, match=r"expected the slots \['is', 'x'\], got 'thing'"):
        TASKS["rec"].make(samples[0], np.random.default_rng(0), rules)

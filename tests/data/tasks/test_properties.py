"""For any sample, tasks are pure, name instances correctly and survive a notation."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deixis.data.tasks import RULE_SETS, TASKS, sample_turns
from deixis.geometry import Box, CodedMask, DepthMap, ImageSize, Keypoints, Mask
from deixis.notation import Triplets, fill
from deixis.structures import (
    Expression,
    GroundedPhrase,
    GroundedText,
    Instance,
    QuestionAnswer,
    Reference,
    Relation,
    Sample,
    UnitGroup,
)

SIZE = ImageSize(48, 64)
NAMES = ["dog", "person", "bus", "sheep", "scissors", "orange", "traffic light"]
PREDICATES = [
    "on",
    "has",
    "wearing",
    "left of",
    "is behind",
    "next to",
    "wears a",
    "of",
    "ON TOP OF",
]
KINDS = ["vqa", "description", "region", "number", "colour", "statement", "which"]
ANSWERS = ["yes", "No.", "two", "3", "a dog", "Red.", "it is raining <REF>", "Paris"]


# Samples are drawn as plain data and made inside the tests: the run-time type checks sample
# containers at random, which hypothesis does not allow while it draws.
INSTANCES = st.fixed_dictionaries(
    {
        "category": st.sampled_from(NAMES),
        "place": st.tuples(st.integers(0, 55), st.integers(0, 40)),
        "extent": st.tuples(st.integers(1, 64), st.integers(1, 48)),
        "mask": st.sampled_from(["none", "dense", "polygons", "empty"]),
        "seen": st.sampled_from([None, 0, 1, 2]),
        "attributes": st.lists(st.sampled_from(["red", "very big", "A", "wet"]), max_size=3),
        "visibility": st.sampled_from([0.0, 0.2, 0.5, 1.0]),
        "crowd": st.sampled_from([False, False, False, True]),
    }
)
INDEX = st.integers(0, 5)
SAMPLES = st.fixed_dictionaries(
    {
        "instances": st.lists(INSTANCES, max_size=6),
        "relations": st.lists(st.tuples(INDEX, st.sampled_from(PREDICATES), INDEX), max_size=8),
        "expressions": st.lists(
            st.tuples(
                st.sampled_from(["the dog", "all dogs", "left one", "two people on a bus"]),
                st.lists(INDEX, unique=True, max_size=3),
            ),
            max_size=3,
        ),
        "questions": st.lists(
            st.fixed_dictionaries(
                {
                    "question": st.sampled_from(
                        ["What is <region>?", "How many?", "Is {it} there?"]
                    ),
                    "answer": st.sampled_from(ANSWERS),
                    "instance": st.none() | INDEX,
                    "kind": st.sampled_from(KINDS),
                    "options": st.lists(st.sampled_from(ANSWERS), max_size=5).map(tuple),
                    "rationale": st.sampled_from(["", "because"]),
                }
            ),
            max_size=4,
        ),
        "captions": st.integers(0, 2),
        "depth": st.booleans(),
        "salient": st.none() | INDEX,
        "absent": st.lists(st.sampled_from(["cat", "skis", "umbrella"]), unique=True),
        "exhaustive": st.booleans(),
    }
)
Plan = dict[str, Any]


def _instance(plan: Plan) -> Instance:
    (x, y), (width, height) = plan["place"], plan["extent"]
    box = Box(x, y, min(x + width, 64), min(y + height, 48))
    mask: Mask | None = None
    if plan["mask"] == "polygons":
        mask = CodedMask([[box.x1, box.y1, box.x2, box.y1, box.x2, box.y2]], SIZE)
    elif plan["mask"] != "none":
        array = np.zeros(tuple(SIZE), np.bool_)
        array[y : y + height, x : x + width] = plan["mask"] == "dense"
        mask = Mask(array)
    keypoints = None
    if plan["seen"] is not None:
        keypoints = Keypoints(np.ones((17, 2), np.float32), np.full(17, plan["seen"], np.int8))
    return Instance(
        plan["category"],
        box,
        mask=mask,
        keypoints=keypoints,
        attributes=tuple(plan["attributes"]),
        visibility=plan["visibility"],
        crowd=plan["crowd"],
    )


def _sample(plan: Plan) -> Sample:
    instances = tuple(map(_instance, plan["instances"]))
    known = range(len(instances))
    group = UnitGroup(("box",), (Reference((Box(0.0, 0.0, 2.0, 2.0),)),))
    captions = (
        GroundedText("A dog. A man.", (GroundedPhrase("dog", 2, 5, (group,)),)),
        GroundedText("nothing"),
    )
    return Sample(
        "drawn",
        np.zeros((48, 64, 3), np.uint8),
        SIZE,
        instances=instances,
        relations=tuple(
            Relation(*each) for each in plan["relations"] if each[0] in known and each[2] in known
        ),
        expressions=tuple(
            Expression(text, tuple(found))
            for text, found in plan["expressions"]
            if set(found) <= set(known)
        ),
        captions=captions[: plan["captions"]],
        questions=tuple(
            QuestionAnswer(**each)
            for each in plan["questions"]
            if each["instance"] is None or each["instance"] in known
        ),
        depth=DepthMap(np.ones(tuple(SIZE), np.float32), "metric") if plan["depth"] else None,
        salient=plan["salient"] if plan["salient"] in known else None,
        absent_categories=tuple(plan["absent"]),
        exhaustive=plan["exhaustive"],
    )


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(SAMPLES, st.integers(0, 9), st.sampled_from(sorted(RULE_SETS)))
def test_every_sample_gives_valid_turns_or_no_turns(plan: Plan, seed: int, rules: str) -> None:
    sample = _sample(plan)
    notation = Triplets()
    for task, spec in TASKS.items():
        turns = spec.make(sample, np.random.default_rng(seed), RULE_SETS[rules])
        assert turns == spec.make(sample, np.random.default_rng(seed), RULE_SETS[rules])
        assert len(turns) <= 6
        for turn in turns:
            assert turn.task == task
            assert turn.answer is not None
            text = turn.answer.text
            assert text[0] == text[0].upper()
            assert text.endswith(".")
            assert not re.search(r"  |\ba [aeiou]|\bno (a|an|the)\b", text)
            for phrase in turn.answer.phrases:
                for group in phrase.groups:
                    assert set(group.unit_types) <= set(spec.gives)
                    assert all(None not in each.units for each in group.references)
            encoded = notation.encode(turn.answer, SIZE)
            decoded = notation.decode(encoded.pieces, SIZE)
            assert not decoded.problems
            assert fill(decoded, [each.units for each in encoded.references]) == turn.answer


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(SAMPLES, st.integers(0, 9))
def test_a_mixture_gives_at_most_the_requested_turns(plan: Plan, seed: int) -> None:
    sample = _sample(plan)
    for count in (1, 3):
        turns = sample_turns(
            sample,
            np.random.default_rng(seed),
            count=count,
            tasks=list(TASKS),
            independent=False,
        )
        assert len(turns) <= count

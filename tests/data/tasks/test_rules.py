"""Every rule has the documented effect; a task uses only the rules that it lists."""

from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from deixis.data.tasks import DEFAULT_RULES, RULE_SETS, TASKS, Rules, point_out
from deixis.data.tasks.quadrants import QUADRANTS, quadrant_members
from deixis.data.tasks.rules import Order
from deixis.data.tasks.things import draw_class
from deixis.data.wording import Wordings
from deixis.geometry import Box, ImageSize, Keypoints, Point, Scribble
from deixis.structures import (
    Expression,
    GroundedText,
    Instance,
    QuestionAnswer,
    Relation,
    Sample,
    Turn,
)

Maker = Callable[..., list[tuple[Sample, tuple[Turn, ...]]]]

CHANGED: dict[str, Any] = {
    "max_references": 1,
    "order": "area",
    "empty": "group",
    "absent_share": 0.9,
    "class_by_count": True,
    "attribute_share": 1.0,
    "clear_visibility": 0.95,
    "common_predicates": frozenset({"left of", "right of", "next to", "above", "below"}),
    "common_predicate_share": 0.0,
    "predicate_attempts": 1,
    "predicates": frozenset({"inside", "holding", "behind"}),
    "anchor_words_share": 1.0,
    "quadrant_ties": True,
    "bare_share": 0.0,
    "region_kinds": ("box", "scribble"),
    "points_on_mask": False,
    "box_core": 0.1,
    "scribble_width": 0.1,
    "scribble_points": 5,
    "max_turns": 3,
    "max_listed": 2,
    "max_options": 2,
    "max_sentences": 1,
    "true_share": 0.1,
    "pronoun_share": 0.0,
    "short_words": 1,
    "detailed_words": 5,
    "wording": Wordings.default().fixed().of,
}


def test_every_rule_is_tried() -> None:
    assert set(CHANGED) == {rule.name for rule in fields(Rules)}


@pytest.fixture(scope="module")
def made_by(make: Maker) -> Callable[[str, Rules], object]:
    """Make a few turns of a task by some rules, once for all tests."""

    @cache
    def made(task: str, rules: Rules) -> object:
        return make(task, rules, times=2, every=3)

    return made


@pytest.mark.slow
@pytest.mark.parametrize("rule", CHANGED)
def test_a_rule_changes_the_tasks_that_name_it_and_no_other(
    rule: str, made_by: Callable[[str, Rules], object]
) -> None:
    # without masks, points lie in the core of a box; scenes have few level instances
    base = replace(DEFAULT_RULES, points_on_mask=False) if rule == "box_core" else DEFAULT_RULES
    if rule == "common_predicate_share":
        base = replace(base, common_predicates=CHANGED["common_predicates"])
    changed = replace(base, **{rule: CHANGED[rule]})
    differing = {task for task in TASKS if made_by(task, base) != made_by(task, changed)}
    assert differing <= {task for task, spec in TASKS.items() if rule in spec.rules}
    if rule not in {"detailed_words", "predicate_attempts"}:
        # all long captions here have several sentences, and no draw fails so often
        assert differing


def _answers(task: str, sample: Sample, rules: Rules, *, times: int = 200) -> Counter[str]:
    rng = np.random.default_rng(11)
    made = [turn for _ in range(times) for turn in TASKS[task].make(sample, rng, rules)]
    return Counter(turn.answer.text for turn in made if turn.answer is not None)


def _sample(**changes: Any) -> Sample:
    """Two dogs, one cat and a crowd of sheep, with only boxes."""
    instances = (
        Instance("dog", Box(10.0, 0.0, 16.0, 8.0), attributes=("brown",)),
        Instance("dog", Box(0.0, 0.0, 9.0, 9.0)),
        Instance("cat", Box(20.0, 10.0, 30.0, 19.0)),
        Instance("sheep", Box(30.0, 20.0, 40.0, 40.0), crowd=True),
    )
    given: dict[str, Any] = {
        "instances": instances,
        "relations": (Relation(0, "on", 1), Relation(2, "chasing", 0)),
        "expressions": (Expression("every dog", (0, 1)), Expression("left dog", (1,))),
        "absent_categories": ("bird",),
    }
    return Sample("photo", np.zeros((40, 40, 3), np.uint8), ImageSize(40, 40), **(given | changes))


def test_classes_are_drawn_by_their_number_of_instances() -> None:
    boxes = [Box(float(i), 0.0, i + 1.0, 9.0) for i in range(20)]
    names = ["dog", "dog", *(f"thing{chr(97 + i)}" for i in range(9))]
    sample = _sample(
        instances=tuple(Instance(name, box) for name, box in zip(names, boxes, strict=False)),
        relations=(),
        expressions=(),
        absent_categories=(),
    )
    plain = _answers("detection", sample, DEFAULT_RULES, times=500)
    by_count = _answers("detection", sample, replace(DEFAULT_RULES, class_by_count=True), times=500)
    assert 0.05 < plain["The dogs."] / 500 < 0.16
    assert 0.4 < by_count["The dogs."] / 500 < 0.6


@pytest.mark.parametrize(
    ("order", "lefts"), [("left_to_right", [0.0, 10.0]), ("area", [10.0, 0.0])]
)
def test_references_are_ordered(order: Order, lefts: list[float]) -> None:
    rules = replace(DEFAULT_RULES, order=order, absent_share=0.0, attribute_share=0.0)
    rng = np.random.default_rng(1)
    turns = [turn for _ in range(20) for turn in TASKS["detection"].make(_sample(), rng, rules)]
    shown = [
        [box.x1 for box in turn.answer.phrases[0].boxes]
        for turn in turns
        if turn.answer is not None and turn.answer.text == "The dogs."
    ]
    assert shown
    assert all(found == lefts for found in shown)


def test_absence_is_denied_grouped_or_skipped() -> None:
    rng = np.random.default_rng(1)
    for empty in ("denial", "group", "skip"):
        rules = replace(DEFAULT_RULES, empty=empty, absent_share=1.0)
        texts = [
            turn.answer
            for task in ("detection", "count", "quadrant_box", "conditional_segmentation")
            for _ in range(20)
            for turn in TASKS[task].make(_sample(), rng, rules)
            if turn.answer is not None
        ]
        denied = [text for text in texts if "no" in text.text.split() or "nothing" in text.text]
        assert bool(denied) == (empty != "skip")
        for text in denied:
            groups = [group for phrase in text.phrases for group in phrase.groups]
            assert len(groups) == (empty == "group")
            assert all(not group.references for group in groups)


def test_common_predicates_are_drawn_less_often() -> None:
    asked = _answers("relation", _sample(), DEFAULT_RULES, times=600)
    common = asked["The dog is on the other dog."]
    # half of the draws are common and kept with p = 0.2: one in six of the kept draws
    assert 0.12 < common / 600 < 0.22
    only = _answers("relation", _sample(), Rules(predicates=frozenset({"on"})))
    assert set(only) == {"The dog is on the other dog."}
    always = _answers("relation", _sample(), Rules(common_predicates=frozenset()), times=600)
    assert 0.43 < always["The dog is on the other dog."] / 600 < 0.57


def test_a_common_predicate_is_kept_without_alternatives() -> None:
    sample = _sample(relations=(Relation(0, "on", 1),))
    rules = Rules(common_predicate_share=0.0)
    assert _answers("relation", sample, rules, times=5) == {"The dog is on the other dog.": 5}


def test_crowds_are_in_no_answer() -> None:
    sample = _sample(relations=(Relation(3, "near", 0), Relation(0, "near", 3)))
    crowd = sample.instances[3].box
    rng = np.random.default_rng(0)
    for task, spec in TASKS.items():
        for _ in range(30):
            for turn in spec.make(sample, rng, DEFAULT_RULES):
                assert "sheep" not in str(turn.question), task
                assert turn.answer is not None
                assert "sheep" not in turn.answer.text.lower(), task
                assert all(crowd not in phrase.boxes for phrase in turn.answer.phrases)


def test_questions_with_too_many_references_are_skipped() -> None:
    instances = tuple(Instance("dog", Box(float(i), 0.0, i + 1.0, 2.0)) for i in range(17))
    sample = _sample(
        instances=instances,
        relations=tuple(Relation(0, "near", i) for i in range(1, 17)),
        expressions=(Expression("the dogs", tuple(range(17))),),
        absent_categories=(),
    )
    rng = np.random.default_rng(0)
    for spec in TASKS.values():
        for _ in range(10):
            for turn in spec.make(sample, rng, DEFAULT_RULES):
                assert turn.answer is not None
                assert sum(len(phrase.references) for phrase in turn.answer.phrases) <= 16
    assert _answers("count_words", sample, DEFAULT_RULES) == {"Seventeen.": 200}
    assert not _answers("detection", sample, DEFAULT_RULES)
    assert _answers("detection", sample, Rules(max_references=17)) == {"The dogs.": 200}


def test_instances_level_with_an_anchor_are_in_no_quadrant() -> None:
    instances = (
        Instance("a", Box(10.0, 10.0, 20.0, 20.0)),
        Instance("b", Box(10.0, 30.0, 20.0, 40.0)),
        Instance("c", Box(30.0, 10.0, 40.0, 20.0)),
        Instance("d", Box(0.0, 0.0, 4.0, 4.0)),
    )
    sample = _sample(instances=instances, relations=(), expressions=())
    assert quadrant_members(sample, 0, DEFAULT_RULES) == {
        **{name: [] for name in QUADRANTS},
        "top left": [3],
    }
    level = quadrant_members(sample, 0, Rules(quadrant_ties=True))
    assert level == {"top left": [3], "top right": [], "bottom left": [], "bottom right": [1, 2]}


def test_quadrants_with_doubtful_instances_are_left_out() -> None:
    sample = _sample()
    assert set(quadrant_members(sample, 2, DEFAULT_RULES)) == {
        "top left",
        "top right",
        "bottom left",
    }
    hidden = replace(sample.instances[0], visibility=0.1)
    sample = _sample(instances=(hidden, *sample.instances[1:]))
    assert set(quadrant_members(sample, 2, DEFAULT_RULES)) == {"top right", "bottom left"}


def test_regions_have_the_kinds_of_the_rules(make: Maker) -> None:
    made = make("reg", Rules(region_kinds=("point", "scribble"), scribble_points=4))
    regions = [part for _, (turn,) in made for part in turn.question if not isinstance(part, str)]
    assert {type(region) for region in regions} == {Point, Scribble}
    assert {len(region.points) for region in regions if isinstance(region, Scribble)} == {4}


def test_points_without_mask_lie_in_the_core_of_the_box() -> None:
    rng = np.random.default_rng(0)
    for core in (0.5, 0.0):
        for _ in range(50):
            ((*_, turn),) = [TASKS["reg_point"].make(_sample(), rng, Rules(box_core=core))]
            (point,) = [part for part in turn.question if isinstance(part, Point)]
            distances = []
            for instance in _sample().instances[:3]:
                (x, y), box = instance.box.center, instance.box
                distances.append(max(abs(point.x - x) / box.width, abs(point.y - y) / box.height))
            assert min(distances) <= core / 2 + 1e-9


def test_true_share_decides_how_often_statements_are_true() -> None:
    for share in (0.0, 0.25, 1.0):
        told = _answers("statement", _sample(), Rules(true_share=share), times=400)
        assert abs(told["Yes."] / sum(told.values()) - share) < 0.08


def test_statements_of_the_source_come_first() -> None:
    question = QuestionAnswer("The cat is asleep.", "no", kind="statement")
    sample = _sample(questions=(question,))
    assert _answers("statement", sample, DEFAULT_RULES, times=3) == {"No.": 3}
    (turn,) = TASKS["statement"].make(
        sample, np.random.default_rng(0), Rules(wording=lambda _: ("Is {text} right?",))
    )
    assert turn.question == ('Is "The cat is asleep" right?',)
    assert not TASKS["vqa"].make(sample, np.random.default_rng(0), DEFAULT_RULES)


def test_questions_with_options_are_not_asked_as_plain_questions() -> None:
    question = QuestionAnswer("Which?", "Paris", options=("Rome", "Paris", "Oslo"), kind="choice")
    sample = _sample(questions=(question,))
    rng = np.random.default_rng(0)
    (turn,) = TASKS["choice"].make(sample, rng, Rules(wording=lambda _: ("{question} {options}",)))
    options = str(turn.question[0]).removeprefix("Which? ").split(", ")
    assert sorted(option[4:] for option in options) == ["Oslo", "Paris", "Rome"]
    assert turn.answer is not None
    assert f"({turn.answer.text[0]}) Paris" in options
    assert not TASKS["vqa"].make(sample, rng, DEFAULT_RULES)
    # an answer outside the options has no letter
    wrong = replace(question, answer="Bern")
    assert not TASKS["choice"].make(_sample(questions=(wrong,)), rng, DEFAULT_RULES)


def test_options_may_be_regions() -> None:
    asked = QuestionAnswer(
        "Why is <region 0> near <region 1>?",
        "<region 0> likes it.",
        instance=0,
        kind="regions",
        options=("<region 0> likes it.", "<region 2> is away."),
        rationale="<region 1> plays. <region 9> is not there.",
    )
    sample = _sample(questions=(asked,), relations=(), expressions=())
    rng = np.random.default_rng(0)
    rules = Rules(wording=lambda _: ("{question} {options}",))
    (turn,) = TASKS["choice"].make(sample, rng, rules)
    boxes = [part for part in turn.question if isinstance(part, Box)]
    assert set(boxes) == {instance.box for instance in sample.instances[:3]}
    (turn,) = TASKS["vqa_reason"].make(sample, rng, Rules(wording=lambda _: ("{question} Think.",)))
    assert turn.question[1::2] == (sample.instances[0].box, sample.instances[1].box)
    assert turn.answer is not None
    expected = "The dog plays. <region 9> is not there. Answer: the dog likes it."
    assert turn.answer.text == expected
    assert [phrase.text for phrase in turn.answer.phrases] == ["dog", "dog"]


def test_absent_falls_back_on_classes_where_the_source_has_no_expressions() -> None:
    assert _answers("absent", _sample(expressions=()), DEFAULT_RULES, times=2) == {
        "There is no bird.": 2
    }
    assert not _answers("absent", _sample(), DEFAULT_RULES)


def test_descriptions_of_regions_belong_to_their_regions() -> None:
    box = Box(1.0, 2.0, 3.0, 4.0)
    said = QuestionAnswer("What is <region>?", "a red wall", region=box, kind="description")
    sample = _sample(instances=(), relations=(), expressions=(), questions=(said,))
    rng = np.random.default_rng(0)
    (turn,) = TASKS["reg_box"].make(sample, rng, Rules(wording=lambda _: ("What is {region}?",)))
    assert turn == Turn(("What is ", box, "?"), GroundedText("A red wall."), "reg_box")
    assert not TASKS["reg_point"].make(sample, rng, DEFAULT_RULES)


def test_pink_is_a_named_rule_set() -> None:
    pink = RULE_SETS["pink"]
    assert (pink.order, pink.empty, pink.class_by_count) == ("area", "group", True)
    assert pink.attribute_share == 0
    assert RULE_SETS["deixis"] == DEFAULT_RULES


def test_an_attribute_share_of_zero_gives_plain_class_names() -> None:
    dog = Instance("dog", Box(10, 10, 30, 30), attributes=("brown",))
    alone = _sample(
        instances=(dog,), relations=(), expressions=(), questions=(), absent_categories=()
    )
    for share, words in ((0.0, "dog"), (1.0, "brown dog")):
        rules = Rules(attribute_share=share)
        drawn = [draw_class(alone, np.random.default_rng(seed), rules) for seed in range(20)]
        assert drawn == [(words, [0])] * 20


def test_tasks_that_need_masks_leave_box_data_alone() -> None:
    rng = np.random.default_rng(0)
    for task, spec in TASKS.items():
        for _ in range(5):
            for turn in spec.make(_sample(), rng, DEFAULT_RULES):
                assert turn.answer is not None
                groups = [group for phrase in turn.answer.phrases for group in phrase.groups]
                assert all("mask" not in group.unit_types for group in groups), task
                assert all(None not in r.units for group in groups for r in group.references)


def test_keypoint_needs_keypoints_on_all_instances() -> None:
    some = Keypoints(np.ones((17, 2), np.float32), np.full(17, 2, np.int8))
    none = Keypoints(np.zeros((17, 2), np.float32), np.zeros(17, np.int8))
    people = [Instance("person", Box(0.0, 0.0, 9.0, 9.0), keypoints=each) for each in (some, none)]
    rng = np.random.default_rng(0)
    for instances, wanted in (((people[0],), True), (tuple(people), False), ((people[1],), False)):
        sample = _sample(instances=instances, relations=(), expressions=())
        assert bool(TASKS["keypoint"].make(sample, rng, DEFAULT_RULES)) == wanted


def test_an_instance_without_description_is_named_by_its_class() -> None:
    assert set(_answers("reg", _sample(), DEFAULT_RULES)) == {"A dog.", "A cat."}


def test_several_instances_are_named_in_the_plural() -> None:
    sample = _sample()
    answer = point_out(sample, sample.expressions[0], ("box",))
    assert answer is not None
    assert answer.text == "The dogs."
    assert answer.phrases[0].boxes == (sample.instances[1].box, sample.instances[0].box)
    assert point_out(sample, sample.expressions[0], ("mask",)) is None

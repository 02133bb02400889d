from collections.abc import Callable

import numpy as np
import pytest

from deixis.data.scenes import draw_scene
from deixis.data.scenes.sample import scene_sample
from deixis.data.scenes.vocabulary import LEVELS
from deixis.data.tasks import DEFAULT_WEIGHTS, TASKS, point_out, sample_turns
from deixis.data.tasks.regions import draw_region, with_region
from deixis.errors import RecipeError
from deixis.geometry import Box, ImageSize, Mask, Point, Scribble
from deixis.structures import Expression, Instance, Sample, Turn

UNITS = {
    "rec": ("box",),
    "detection": ("box",),
    "detection_all": ("box",),
    "gcg_box": ("box",),
    "res": ("mask",),
    "segmentation": ("mask",),
    "gcg_mask": ("mask",),
    "locate": ("box", "mask"),
    "count": ("box", "mask"),
    "gcg": ("box", "mask"),
}
KINDS = {"box": Box, "mask": Mask}


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return [scene_sample(draw_scene(31, i, level=level)) for level in LEVELS for i in range(12)]


def _turns(task: str, samples: list[Sample]) -> list[tuple[Sample, Turn]]:
    rng = np.random.default_rng(5)
    made = [(sample, TASKS[task](sample, rng)) for sample in samples for _ in range(4)]
    return [(sample, turn) for sample, turn in made if turn is not None]


@pytest.mark.parametrize("task", TASKS)
def test_a_task_makes_turns_of_its_name(task: str, samples: list[Sample]) -> None:
    turns = _turns(task, samples)
    assert len(turns) > len(samples)
    for _, turn in turns:
        assert turn.task == task
        assert turn.answer is not None
        assert turn.answer.text.endswith(".")
        assert turn.answer.text[0].isupper()
        assert "{" not in "".join(part for part in turn.question if isinstance(part, str))


@pytest.mark.parametrize("task", UNITS)
def test_answers_hold_the_units_of_their_task(task: str, samples: list[Sample]) -> None:
    pointed = 0
    for sample, turn in _turns(task, samples):
        assert turn.answer is not None
        for phrase in turn.answer.phrases:
            (group,) = phrase.groups
            assert group.unit_types == UNITS[task]
            assert group.references
            pointed += 1
            lefts = []
            for reference in group.references:
                for unit, unit_type in zip(reference.units, group.unit_types, strict=True):
                    assert isinstance(unit, KINDS[unit_type])
                boxes = [unit for unit in reference.units if isinstance(unit, Box)]
                lefts += [box.x1 + box.x2 for box in boxes]
                for unit in reference.units:
                    assert any(unit in (i.box, i.mask) for i in sample.instances)
            assert lefts == sorted(lefts), "references go from left to right"
    assert pointed > len(samples)


def test_short_answers_stay_short(samples: list[Sample]) -> None:
    for task in sorted(set(TASKS) - {"gcg", "gcg_box", "gcg_mask", "caption", "reg_unique"}):
        for _, turn in _turns(task, samples):
            assert turn.answer is not None
            limit = 16 if task in {"absent", "detection_all"} else 12
            assert len(turn.answer.text.split()) <= limit, turn.answer.text


def test_the_same_generator_gives_the_same_turns(samples: list[Sample]) -> None:
    for sample in samples:
        first, second = (sample_turns(sample, np.random.default_rng(8), count=8) for _ in range(2))
        assert first == second
        assert len(first) == 8


def test_no_question_is_asked_twice(samples: list[Sample]) -> None:
    for sample in samples:
        turns = sample_turns(sample, np.random.default_rng(1), count=30, tasks=["rec", "vqa"])
        questions = [turn.question for turn in turns]
        assert len(questions) == len(set(questions))


def test_weights_choose_tasks(samples: list[Sample]) -> None:
    rng = np.random.default_rng(0)
    drawn = sample_turns(samples[0], rng, count=20, tasks={"rec": 1.0, "vqa": 0.0})
    assert {turn.task for turn in drawn} == {"rec"}
    assert set(DEFAULT_WEIGHTS) <= set(TASKS)


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


def test_an_empty_image_makes_no_turns() -> None:
    empty = Sample("empty", np.zeros((8, 8, 3), np.uint8), ImageSize(8, 8))
    assert sample_turns(empty, np.random.default_rng(0), count=4) == ()


def _boxes_only() -> Sample:
    instances = (
        Instance("dog", Box(10.0, 0.0, 16.0, 8.0), attributes=("brown",)),
        Instance("dog", Box(0.0, 0.0, 6.0, 8.0)),
        Instance("sheep", Box(0.0, 0.0, 20.0, 20.0), crowd=True),
    )
    expressions = (Expression("every dog", (0, 1)), Expression("left dog", (1,)))
    return Sample(
        "photo",
        np.zeros((20, 20, 3), np.uint8),
        ImageSize(20, 20),
        instances=instances,
        expressions=expressions,
        absent_categories=("cat",),
    )


def test_tasks_that_need_masks_leave_box_data_alone() -> None:
    rng = np.random.default_rng(0)
    sample = _boxes_only()
    assert TASKS["res"](sample, rng) is None
    assert TASKS["locate"](sample, rng) is None
    assert TASKS["rec"](sample, rng) is not None


def test_crowds_are_neither_counted_nor_detected() -> None:
    sample = _boxes_only()
    assert TASKS["detection_all"](sample, np.random.default_rng(0)) is None
    for seed in range(20):
        turn = TASKS["detection"](sample, np.random.default_rng(seed))
        assert turn is not None
        assert "sheep" not in str(turn.question)


def test_a_thing_without_description_is_named_by_its_class() -> None:
    turns = [TASKS["reg"](_boxes_only(), np.random.default_rng(seed)) for seed in range(10)]
    answers = {turn.answer.text for turn in turns if turn is not None and turn.answer is not None}
    assert answers == {"A dog.", "A sheep."}


def test_several_are_named_in_the_plural() -> None:
    sample = _boxes_only()
    answer = point_out(sample, sample.expressions[0], ("box",))
    assert answer is not None
    assert answer.text == "The dogs."
    assert answer.phrases[0].boxes == (sample.instances[1].box, sample.instances[0].box)


@pytest.mark.parametrize("kind", [Point, Scribble, Box, Mask])
def test_regions_lie_on_their_thing(kind: Callable[..., object], samples: list[Sample]) -> None:
    rng = np.random.default_rng(3)
    met = 0
    for sample in samples:
        for instance in sample.instances:
            region = draw_region(instance, sample, rng)
            assert instance.mask is not None
            places = []
            if isinstance(region, Point):
                places = [(region.x, region.y)]
            elif isinstance(region, Scribble):
                places = list(region.points)
            assert all(instance.mask.array[int(y), int(x)] for x, y in places)
            met += type(region) is kind
    assert met > 10


def test_a_region_stands_where_the_text_has_its_slot() -> None:
    point = Point(1.0, 2.0)
    assert with_region("what is <region>?", point, slot="<region>") == ("What is ", point, "?")
    assert with_region("<region>?", point, slot="<region>") == (point, "?")
    assert with_region("what is it?", point, slot="<region>") == ("what is it? ", point)

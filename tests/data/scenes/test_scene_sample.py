from itertools import islice

import numpy as np
import pytest

from deixis.data.scenes import Scene, draw_scene
from deixis.data.scenes.describe import visible_box
from deixis.data.scenes.scene_sample import scene_sample
from deixis.data.scenes.splits import BENCHMARK_SPLITS, FAMILIES, scene_expressions
from deixis.data.scenes.vocabulary import FIGURE, LEVELS
from deixis.errors import AnnotationError, BenchmarkError
from deixis.geometry import Box, Mask
from deixis.structures import Sample


@pytest.fixture(scope="module")
def pairs() -> list[tuple[Scene, Sample]]:
    scenes = [draw_scene(23, i, level=level) for level in LEVELS for i in range(25)]
    return [(scene, scene_sample(scene)) for scene in scenes]


def test_the_same_scene_gives_the_same_words() -> None:
    first, second = (scene_sample(draw_scene(4, 9, level="hard")) for _ in range(2))
    assert first.expressions == second.expressions
    assert first.questions == second.questions
    assert first.captions == second.captions


def test_splits_and_levels_give_other_words() -> None:
    seen = {
        tuple(e.text for e in scene_sample(draw_scene(4, 2, level=level, split=split)).expressions)
        for level in LEVELS
        for split in ("train", "val", "testA")
    }
    assert len(seen) == 9


def test_instances_have_the_order_and_fields_of_the_scene(
    pairs: list[tuple[Scene, Sample]],
) -> None:
    for scene, sample in pairs:
        assert len(sample.instances) == len(scene.things)
        for index, (thing, instance) in enumerate(zip(scene.things, sample.instances, strict=True)):
            assert instance.category == thing.name
            assert instance.mask is not None
            assert np.array_equal(instance.mask.array, scene.labels == index)
            assert instance.mask.to_box() == instance.box
            assert (instance.keypoints is not None) == (thing.kind == "figure")


def test_captions_point_at_the_named_instances(pairs: list[tuple[Scene, Sample]]) -> None:
    for scene, sample in pairs:
        places = {instance.box: i for i, instance in enumerate(sample.instances)}
        for caption in sample.captions:
            named: list[int] = []
            for phrase in caption.phrases:
                (group,) = phrase.groups
                assert group.unit_types == ("box", "mask")
                lefts = []
                for reference in group.references:
                    box, mask = reference.units
                    assert isinstance(box, Box)
                    assert isinstance(mask, Mask)
                    thing = scene.things[places[box]]
                    assert thing.color in phrase.text
                    assert mask is sample.instances[places[box]].mask
                    named.append(places[box])
                    lefts.append(box.x1 + box.x2)
                assert lefts == sorted(lefts)
            assert len(named) == len(set(named)), "a thing is named twice"


def test_region_questions_are_answered_from_the_annotations(
    pairs: list[tuple[Scene, Sample]],
) -> None:
    checked = 0
    for scene, sample in pairs:
        for question in sample.questions:
            if question.instance is None:
                continue
            thing = scene.things[question.instance]
            assert "<region>" in question.question
            answer = question.answer.lower().rstrip(".")
            if "colour" in question.question:
                assert answer == thing.color
            elif "Which" in question.question:
                assert answer.endswith(thing.symbol.lower())
            elif "How large" in question.question:
                assert answer == thing.size
            elif "holding" in question.question:
                names = [scene.things[part].name for part in thing.holds] or ["nothing"]
                assert any(name in answer for name in names)
            elif question.question.endswith(" in?"):
                assert thing.inside is not None
                assert answer.endswith(scene.things[thing.inside].name)
            else:
                continue
            checked += 1
    assert checked > 200


def test_image_questions_are_answered_from_the_annotations(
    pairs: list[tuple[Scene, Sample]],
) -> None:
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    yes = no = 0
    for scene, sample in pairs:
        described = [f"{t.color} {t.name}" for t in scene.things] + [t.name for t in scene.things]
        for question in sample.questions:
            text = question.question.rstrip("?")
            if question.kind == "presence":
                asked = text.removeprefix("Is there ").partition(" ")[2]
                assert (asked in described) == (question.answer == "Yes.")
                yes, no = yes + (question.answer == "Yes."), no + (question.answer == "No.")
            elif question.kind == "number":
                noun = text.removeprefix("How many ").removesuffix(" are there")
                number = words.index(question.answer.lower().rstrip("."))
                plurals = {"person": "people", "box": "boxes", "cross": "crosses"}
                plurals |= {"shelf": "shelves"}
                many = [
                    (f"{t.color} {p}", p)
                    for t in scene.things
                    for p in (plurals.get(t.name, f"{t.name}s"),)
                ]
                assert sum(noun in pair for pair in many) == number
            elif question.kind == "colour":
                noun = text.rpartition(" ")[2]
                assert [t.color for t in scene.things if t.name == noun] == [
                    question.answer.lower().rstrip(".")
                ]
    assert 0.7 < yes / no < 1.5, "yes and no are about as frequent"


def test_a_hidden_instance_is_refused() -> None:
    thing = draw_scene(0, 0).things[0]
    hidden = type(thing)(
        kind=thing.kind,
        name="star",
        symbol="",
        color="red",
        size="small",
        texture="plain",
        box=None,
        full_box=thing.full_box,
        center=thing.center,
        depth=thing.depth,
        visibility=0.0,
    )
    with pytest.raises(AnnotationError, match="red star of a scene is wholly hidden"):
        visible_box(hidden)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("split", BENCHMARK_SPLITS)
def test_benchmarks_use_their_family_of_expressions(family: str, split: str) -> None:
    pairs = list(islice(scene_expressions(family, split), 12))
    again = list(islice(scene_expressions(family, split), 12))
    assert [(s.id, e) for s, e in pairs] == [(s.id, e) for s, e in again]
    for sample, expression in pairs:
        assert sample.split == split
        names = [sample.instances[index].category for index in expression.instances]
        if family == "several":
            assert len(names) > 1
        elif family == "absent":
            assert not names
        else:
            assert len(names) == 1
            assert expression.family == family
            if split in {"testA", "testB"}:
                assert (names[0] == FIGURE) == (split == "testA")


def test_benchmark_splits_share_no_scene() -> None:
    seen = [{s.id for s, _ in islice(scene_expressions("long", p), 20)} for p in BENCHMARK_SPLITS]
    assert sum(map(len, seen)) == len(set().union(*seen))


def test_unknown_benchmarks_are_refused() -> None:
    with pytest.raises(BenchmarkError, match="unknown set 'short'"):
        scene_expressions("short", "val")
    with pytest.raises(BenchmarkError, match="unknown split 'testC'"):
        scene_expressions("long", "testC")

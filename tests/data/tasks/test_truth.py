"""Checks every answer against the sample, with code that the tasks do not use."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise

import numpy as np
import pytest

from deixis.data.tasks import TASKS, Rules
from deixis.data.wording import SLOTS
from deixis.geometry import Box, Keypoints, Mask, Point, Scribble
from deixis.language import is_plural, plural
from deixis.language.predicates import claim, clause
from deixis.structures import GroundedText, Instance, QuestionPart, Sample, Turn

Maker = Callable[..., list[tuple[Sample, tuple[Turn, ...]]]]
Field = list[QuestionPart]

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
NUMBERS += ["eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"]
COMPLETE = {
    *("detection", "detection_all", "detection_names", "detection_example"),
    *("segmentation", "segmentation_all", "segmentation_names", "segmentation_example"),
    *("conditional_detection", "conditional_segmentation", "count", "count_words"),
    *("count_example", "point_look_twice", "quadrant_box", "quadrant_class", "quadrant_both"),
    *("keypoint", "semantic"),
}
"""Tasks with exhaustive answers."""


def read(turn: Turn, wording: str) -> dict[str, Field]:
    """Return the slots of a question that has only slots."""
    fields: list[Field] = [[]]
    for part in turn.question:
        if not isinstance(part, str):
            fields[-1].append(part)
            continue
        for place, piece in enumerate(part.split("|")):
            if place:
                fields.append([])
            if piece:
                fields[-1].append(piece)
    assert fields[0] == ["Q"]
    return dict(zip(sorted(SLOTS[wording]), fields[1:], strict=False))


def word(field: Field) -> str:
    (text,) = field
    assert isinstance(text, str)
    return text


def answered(turn: Turn) -> GroundedText:
    assert turn.answer is not None
    return turn.answer


def turns_of(made: list[tuple[Sample, tuple[Turn, ...]]]) -> Iterable[tuple[Sample, Turn]]:
    return ((sample, turn) for sample, turns in made for turn in turns)


def at(sample: Sample, part: QuestionPart) -> set[int]:
    """Return the instances that a region may mean: those under a point, else the equal one."""
    found = set()
    for index, instance in enumerate(sample.instances):
        assert instance.mask is not None
        if part is instance.box or part is instance.mask:
            found.add(index)
        places = [(part.x, part.y)] if isinstance(part, Point) else []
        places = list(part.points) if isinstance(part, Scribble) else places
        if places and all(instance.mask.array[int(y), int(x)] for x, y in places):
            found.add(index)
    return found


def members(sample: Sample, name: str) -> set[int]:
    """Return the instances of a class, or of a class with an attribute."""
    attribute, _, noun = name.rpartition(" ")
    return {
        index
        for index, instance in enumerate(sample.instances)
        if instance.category == noun and (not attribute or attribute in instance.attributes)
    }


def shown(sample: Sample, text: GroundedText) -> set[int]:
    """Return the instances that an answer points at."""
    units = [unit for phrase in text.phrases for each in phrase.references for unit in each.units]
    owner = {
        id(unit): index
        for index, instance in enumerate(sample.instances)
        for unit in (instance.box, instance.mask, instance.keypoints)
        if unit is not None
    }
    return {owner[id(unit)] for unit in units}


def number_of(text: str) -> int:
    return NUMBERS.index(text.lower().rstrip("."))


def is_clear(sample: Sample, name: str) -> bool:
    noun = name.rpartition(" ")[2]
    return all(i.visibility >= 0.3 and not i.crowd for i in sample.instances if i.category == noun)


@pytest.mark.parametrize(
    ("task", "unit"), [("detection", Box), ("segmentation", Mask), ("count", Box)]
)
def test_detection_gives_exactly_the_instances_of_a_class(
    task: str, unit: type, make: Maker, slots: Rules
) -> None:
    met = Counter[bool]()
    for sample, turn in turns_of(make(task, slots)):
        names = word(read(turn, task)["names"])
        # plurals are those of present and absent classes
        known = {plural(i.category): i.category for i in sample.instances}
        known |= {plural(name): name for name in sample.absent_categories}
        attribute, _, nouns = names.rpartition(" ")
        name = f"{attribute} {known[nouns]}".strip()
        expected = members(sample, name)
        assert shown(sample, answered(turn)) == expected
        met[bool(expected)] += 1
        if expected:
            (phrase,) = answered(turn).phrases
            assert all(isinstance(each.units[0], unit) for each in phrase.references)
            assert len(phrase.references) == len(expected)
            assert is_clear(sample, name)
            if task == "count":
                assert phrase.text.split(" ")[0] == NUMBERS[len(expected)]
        else:
            assert answered(turn).text == f"There are no {names}."
            assert known[nouns] in sample.absent_categories
    assert met[True] > 4 * met[False] > 0


def test_numbers_in_words_are_correct(make: Maker, slots: Rules) -> None:
    for sample, turn in turns_of(make("count_words", slots)):
        names = word(read(turn, "count_words")["names"])
        found = {
            index
            for index, instance in enumerate(sample.instances)
            for attribute in ("", *instance.attributes)
            if f"{attribute} {plural(instance.category)}".strip() == names
        }
        assert number_of(answered(turn).text) == len(found)


@pytest.mark.parametrize(("task", "kind"), [("count_example", Box), ("point_look_twice", Point)])
def test_instances_like_an_example_are_counted(
    task: str, kind: type, make: Maker, slots: Rules
) -> None:
    for sample, turn in turns_of(make(task, slots)):
        (region,) = read(turn, "count_example")["region"]
        assert isinstance(region, kind)
        counts = {
            len(members(sample, sample.instances[index].category)) for index in at(sample, region)
        }
        assert number_of(answered(turn).text) in counts


@pytest.mark.parametrize("task", ["detection_example", "segmentation_example"])
def test_instances_like_an_example_are_found(task: str, make: Maker, slots: Rules) -> None:
    for sample, turn in turns_of(make(task, slots)):
        (region,) = read(turn, task)["region"]
        (index,) = at(sample, region)
        found = shown(sample, answered(turn))
        assert index in found
        assert found == members(sample, sample.instances[index].category)


@pytest.mark.parametrize("task", ["detection_all", "segmentation_all"])
def test_all_instances_are_given_class_by_class(task: str, make: Maker) -> None:
    for sample, turn in turns_of(make(task)):
        phrases = answered(turn).phrases
        assert shown(sample, answered(turn)) == set(range(len(sample.instances)))
        by_class = Counter(i.category for i in sample.instances)
        assert [len(phrase.references) for phrase in phrases] == [
            count for _, count in sorted(by_class.items())
        ]


@pytest.mark.parametrize("task", ["detection_names", "segmentation_names"])
def test_listed_classes_are_answered_in_their_order(task: str, make: Maker, slots: Rules) -> None:
    absent = first_absent = 0
    for sample, turn in turns_of(make(task, slots)):
        listed = re.split(r", | and ", word(read(turn, task)["list"]))
        said = re.split(r", | and ", answered(turn).text.rstrip("."))
        assert 2 <= len(listed) == len(said) <= 4
        phrases = list(answered(turn).phrases)
        for names, words in zip(listed, said, strict=True):
            found = {i for i, each in enumerate(sample.instances) if plural(each.category) == names}
            determiner, _, noun = words.partition(" ")
            assert determiner.lower() == ("the" if found else "no")
            if not found:
                absent += 1
                assert noun == names
                assert any(plural(name) == names for name in sample.absent_categories)
                continue
            phrase = phrases.pop(0)
            assert phrase.text == noun
            assert shown(sample, GroundedText(phrase.text, ())) == set()
            whole = GroundedText(answered(turn).text, (phrase,))
            assert shown(sample, whole) == found
        assert not phrases
        first_absent += said[0].startswith("No ")
    assert absent > first_absent > 3


@pytest.mark.parametrize("task", ["conditional_detection", "conditional_segmentation"])
def test_each_class_has_a_turn(task: str, make: Maker, slots: Rules) -> None:
    for sample, turns in make(task, slots):
        assert 2 <= len(turns) <= 6
        asked = [word(read(turn, task.removeprefix("conditional_"))["names"]) for turn in turns]
        assert len(set(asked)) == len(asked)
        for names, turn in zip(asked, turns, strict=True):
            found = {i for i, each in enumerate(sample.instances) if plural(each.category) == names}
            assert shown(sample, answered(turn)) == found


@pytest.mark.parametrize("task", ["rec", "res", "locate", "ref_tag", "point_out"])
def test_an_expression_is_answered_with_its_instances(task: str, make: Maker, slots: Rules) -> None:
    for sample, turn in turns_of(make(task, slots)):
        bare = len(turn.question) == 1 and not str(turn.question[0]).startswith("Q|")
        text = str(turn.question[0]) if bare else word(read(turn, task)["x"])
        meant = [
            set(expression.instances)
            for expression in sample.expressions
            if text in {expression.text, f"the {expression.text}"}
        ]
        if task != "point_out":
            assert shown(sample, answered(turn)) in meant
            continue
        places = [unit for p in answered(turn).phrases for r in p.references for unit in r.units]
        assert len(places) in {len(indices) for indices in meant}
        for unit in places:
            assert isinstance(unit, Point)
            assert any(index in indices for index in at(sample, unit) for indices in meant)


@pytest.mark.parametrize("task", ["keypoint_named", "box_keypoint"])
def test_expressions_are_answered_with_keypoints(task: str, make: Maker, slots: Rules) -> None:
    for sample, turn in turns_of(make(task, slots)):
        text = word(read(turn, task)["x"])
        meant = [
            set(each.instances)
            for each in sample.expressions
            if text in {each.text, f"the {each.text}"}
        ]
        assert shown(sample, answered(turn)) in meant
        (phrase,) = answered(turn).phrases
        for reference in phrase.references:
            *boxes, keypoints = reference.units
            assert isinstance(keypoints, Keypoints)
            assert keypoints.visibility.any()
            assert all(isinstance(box, Box) for box in boxes)


def test_absent_expressions_are_denied(make: Maker) -> None:
    for _, turn in turns_of(make("absent")):
        assert answered(turn).text.startswith(("There is no ", "There are no "))
        assert not answered(turn).phrases


def test_all_instances_with_keypoints_are_given(make: Maker) -> None:
    for sample, turn in turns_of(make("keypoint")):
        bodies = {i for i, each in enumerate(sample.instances) if each.keypoints is not None}
        assert shown(sample, answered(turn)) == bodies == members(sample, "person")


@pytest.mark.parametrize(
    "task", ["reg", "reg_point", "reg_box", "reg_scribble", "reg_mask", "region_qa", "point_local"]
)
def test_descriptions_are_about_the_instance_at_the_region(
    task: str, make: Maker, slots: Rules
) -> None:
    for sample, turn in turns_of(make(task, slots)):
        (region,) = [part for part in turn.question if not isinstance(part, str)]
        truths = [
            question.answer
            for question in sample.questions
            if question.instance in at(sample, region)
        ]
        assert answered(turn).text.lower() in {f"{text.rstrip('.').lower()}." for text in truths}


@pytest.mark.parametrize("task", ["reg_unique", "loc_tag"])
def test_expressions_refer_to_the_instance_at_the_region(
    task: str, make: Maker, slots: Rules
) -> None:
    for sample, turn in turns_of(make(task, slots)):
        (region,) = read(turn, task)["region"]
        text = answered(turn).text.lower()
        truths = [
            expression.text.lower()
            for expression in sample.expressions
            if expression.instances in {(index,) for index in at(sample, region)}
        ]
        assert text in {f"{words}." for truth in truths for words in (truth, f"the {truth}")}


@pytest.mark.parametrize("task", [task for task in TASKS if task.startswith("interactive_")])
def test_interactive_answers_give_the_marked_instance(task: str, make: Maker, slots: Rules) -> None:
    worded = task.rpartition("_")[0]
    for sample, turn in turns_of(make(task, slots)):
        (region,) = read(turn, worded)["region"]
        (index,) = shown(sample, answered(turn))
        assert index in at(sample, region)
        assert answered(turn).phrases[0].text == sample.instances[index].category


def _claims(sample: Sample) -> set[tuple[int, str, int]]:
    return {(each.subject, claim(each.predicate), each.object) for each in sample.relations}


def test_relations_are_annotated_ones(make: Maker, slots: Rules) -> None:
    for sample, turn in turns_of(make("relation", slots)):
        fields = read(turn, "relation")
        (one,), (other,) = at(sample, fields["region"][0]), at(sample, fields["other"][0])
        first, second = sample.instances[one].category, sample.instances[other].category
        text = answered(turn).text
        middle = text.removeprefix(f"The {first} ").removesuffix(f" {second}.")
        said, _, determiner = middle.rpartition(" the")
        assert determiner == (" other" if first == second else "")
        assert (one, said, other) in _claims(sample)


@pytest.mark.parametrize("output", ["box", "class", "both"])
def test_all_related_instances_are_given(output: str, make: Maker, slots: Rules) -> None:
    task = f"relation_object_{output}"
    for sample, turn in turns_of(make(task, slots)):
        fields = read(turn, task)
        (subject,) = at(sample, fields["region"][0])
        said = word(fields["predicate"])
        expected = {o for s, p, o in _claims(sample) if s == subject and p == said}
        _check_output(sample, answered(turn), expected, output)


def _check_output(sample: Sample, text: GroundedText, expected: set[int], output: str) -> None:
    classes = Counter(sample.instances[index].category for index in expected)
    if output != "class":
        assert shown(sample, text) == expected
    if output == "box":
        assert text.text == ("Here it is." if len(expected) == 1 else "Here they are.")
        return
    items = re.split(r", | and ", text.text.rstrip("."))
    said: dict[str, int] = {}
    for item, (name, count) in zip(items, sorted(classes.items()), strict=True):
        determiner, _, noun = item.partition(" ")
        assert noun == (name if count == 1 else plural(name))
        if output == "class":
            allowed = {"a", "an"} if count == 1 else {NUMBERS[count]}
            assert determiner.lower() in allowed
        said[name] = count
    assert said == classes


@pytest.mark.parametrize("output", ["box", "class", "both"])
def test_quadrants_contain_the_instances_inside_them(
    output: str, make: Maker, slots: Rules
) -> None:
    task = f"quadrant_{output}"
    met: set[str] = set()
    empty = total = words = 0
    for sample, turn in turns_of(make(task, slots)):
        fields = read(turn, task)
        vertical, horizontal = word(fields["quadrant"]).split(" ")
        anchor = fields["anchor"][0]
        if isinstance(anchor, str):
            words += 1
            named = {
                expression.instances
                for expression in sample.expressions
                if anchor in {expression.text, f"the {expression.text}"}
            }
            alone = members(sample, anchor.removeprefix("the "))
            candidates = [index for (index,) in named] or list(alone)
        else:
            candidates = list(at(sample, anchor))
        (index,) = candidates
        x, y = sample.instances[index].box.center
        expected = set()
        for other, instance in enumerate(sample.instances):
            cx, cy = instance.box.center
            right_row = cy < y if vertical == "top" else cy > y
            right_column = cx < x if horizontal == "left" else cx > x
            if other != index and right_row and right_column:
                expected.add(other)
        met.add(f"{vertical} {horizontal}")
        total += 1
        if not expected:
            empty += 1
            assert answered(turn).text == "There is nothing there."
            continue
        _check_output(sample, answered(turn), expected, output)
    assert len(met) == 4
    assert 0 < empty < 0.4 * total
    assert 0.2 * total < words < 0.6 * total


def test_depth_is_that_of_the_sample(make: Maker) -> None:
    for sample, turn in turns_of(make("depth", times=1)):
        (phrase,) = answered(turn).phrases
        assert phrase.references[0].units == (sample.depth,)
        assert phrase.references[0].units[0] is sample.depth


def test_semantic_masks_are_unions(make: Maker, slots: Rules) -> None:
    for sample, turn in turns_of(make("semantic", slots)):
        name = word(read(turn, "semantic")["name"])
        union = np.zeros(tuple(sample.size), np.bool_)
        for instance in sample.instances:
            if instance.category == name and instance.mask is not None:
                union |= instance.mask.array
        (reference,) = answered(turn).phrases[0].references
        assert reference.units == (Mask(union),)


def test_the_salient_instance_is_given_and_explained(make: Maker) -> None:
    for sample, turn in turns_of(make("salient", times=1)):
        assert sample.salient is not None
        assert shown(sample, answered(turn)) == {sample.salient}
        category = sample.instances[sample.salient].category
        text = answered(turn).text
        assert text.startswith(f"The {category}.")
        described = [
            question.answer
            for question in sample.questions
            if question.kind == "description" and question.instance == sample.salient
        ]
        assert text == " ".join([f"The {category}.", *described[:1]])


@pytest.mark.parametrize(
    ("task", "units"),
    [
        ("gcg", ("box", "mask")),
        ("gcg_box", ("box",)),
        ("gcg_mask", ("mask",)),
        ("ground_caption", ("box",)),
        ("ground_caption_mask", ("mask",)),
    ],
)
def test_grounded_captions_are_those_of_the_sample(
    task: str, units: tuple[str, ...], make: Maker, slots: Rules
) -> None:
    for sample, turn in turns_of(make(task, slots, times=2)):
        text = answered(turn)
        (source,) = {id(c): c for c in sample.captions if c.text == text.text}.values()
        assert [(p.text, p.start) for p in text.phrases] == [
            (p.text, p.start) for p in source.phrases
        ]
        for phrase, original in zip(text.phrases, source.phrases, strict=True):
            (group,) = phrase.groups
            assert group.unit_types == units
            assert len(group.references) == len(original.references)
            for reference, other in zip(phrase.references, original.references, strict=True):
                assert {id(u) for u in reference.units} <= {id(u) for u in other.units}
        if task.startswith("ground"):
            assert word(read(turn, task)["text"]) == f'"{text.text}"'


def test_captions_are_short_and_long_ones(make: Maker) -> None:
    for sample, turn in turns_of(make("caption", times=1)):
        lengths = [len(caption.text) for caption in sample.captions]
        assert len(answered(turn).text) == min(lengths)
    for sample, turn in turns_of(make("caption_detailed", times=1)):
        lengths = [len(caption.text) for caption in sample.captions]
        assert len(answered(turn).text) == max(lengths)


def _the_one(sample: Sample, text: GroundedText, place: int) -> int:
    phrase = text.phrases[place]
    (reference,) = phrase.references
    (index,) = shown(sample, GroundedText(text.text, (phrase,)))
    assert len(phrase.groups) == 1
    assert reference.units[0] is sample.instances[index].box
    return index


def test_nested_phrases_state_relations_of_their_instances(make: Maker) -> None:
    depths = Counter[int]()
    for sample, turn in turns_of(make("gcg_nested")):
        text = answered(turn)
        relations = {(r.subject, clause(r.predicate), r.object) for r in sample.relations}
        chains: list[list[int]] = []
        for place, phrase in enumerate(text.phrases):
            inside = place and phrase.end <= text.phrases[place - 1].end
            if inside:
                chains[-1].append(place)
            else:
                chains.append([place])
        for chain in chains:
            depths[len(chain)] += 1
            assert len(chain) >= 2
            for outer, inner in pairwise(chain):
                one, other = text.phrases[outer], text.phrases[inner]
                assert one.start < other.start
                assert one.end == other.end
                first, second = _the_one(sample, text, outer), _the_one(sample, text, inner)
                between = text.text[one.start : other.start].strip()
                name, category = between, sample.instances[first].category
                said = name[name.index(category) + len(category) :].strip()
                predicate = re.sub(r" (a|an|another)$", "", said)
                assert (first, predicate, second) in relations
                assert sample.instances[second].category in other.text
    assert depths[2] > depths[3] > 0


def test_a_region_caption_is_about_the_region(make: Maker, slots: Rules) -> None:
    for sample, turn in turns_of(make("region_caption_grounded", slots)):
        (region,) = read(turn, "region_caption_grounded")["region"]
        text = answered(turn)
        first, *others = [_the_one(sample, text, place) for place in range(len(text.phrases))]
        assert first in at(sample, region)
        for other in others:
            start, end = text.phrases[0].end, text.phrases[1].start
            predicate = re.sub(r" (a|an|another)$", "", text.text[start:end].strip())
            assert (first, predicate, other) in {
                (r.subject, clause(r.predicate), r.object) for r in sample.relations
            }


def test_the_letter_of_a_choice_is_correct(make: Maker, slots: Rules) -> None:
    letters = Counter[str]()
    for sample, turn in turns_of(make("choice", slots)):
        fields = read(turn, "choice")
        options = dict(re.findall(r"\((\w)\) (.*?)(?:, (?=\()|$)", word(fields["options"])))
        truths = {
            q.answer.rstrip(".").lower()
            for q in sample.questions
            if q.question == word(fields["question"])
        }
        letter = answered(turn).text.rstrip(".")
        assert options[letter].lower() in truths
        assert 2 <= len(options) <= 4
        assert len({option.lower() for option in options.values()}) == len(options)
        assert len({option.lower() for option in options.values()} & truths) == 1
        letters[letter] += 1
    assert letters["A"] + letters["B"] < sum(letters.values())
    assert min(letters["A"], letters["B"]) > 0.7 * max(letters["A"], letters["B"])


def test_the_box_of_a_choice_is_correct(make: Maker, slots: Rules) -> None:
    for sample, turn in turns_of(make("which_box", slots)):
        fields = read(turn, "which_box")
        text = word(fields["question"])
        labels = [str(part).strip(" ,()") for part in fields["options"][0::2]]
        boxes = fields["options"][1::2]
        (index,) = shown(sample, answered(turn))
        chosen = answered(turn).text.removeprefix("Box ").rstrip(".")
        assert boxes[labels.index(chosen)] is sample.instances[index].box
        assert 2 <= len(boxes) <= 4
        meant = {
            expression.instances
            for expression in sample.expressions
            for words in (expression.text, f"the {expression.text}")
            if text in {f"Which one is {words}?", f"Which one are {words}?"}
        }
        assert meant == {(index,)} or (text == "Which comes first?" and index == 0)


def _thing(sample: Sample, words: str, box: QuestionPart | None) -> int:
    name = words.strip().removeprefix("the ").removesuffix(" at").strip()
    if box is not None:
        (index,) = at(sample, box)
        assert sample.instances[index].category == name
        return index
    (index,) = members(sample, name)
    return index


def test_statements_have_the_stated_truth(make: Maker, slots: Rules) -> None:
    told = Counter[tuple[str, str]]()
    for sample, turn in turns_of(make("statement", slots, times=8)):
        parts = read(turn, "statement")["text"]
        truth = answered(turn).text
        joined = "".join(part if isinstance(part, str) else "#" for part in parts).strip('"')
        if joined.startswith("There is "):
            name = re.sub(r"^There is an? ", "", joined)
            assert bool(members(sample, name)) == (truth == "Yes.")
            assert (name in sample.absent_categories) == (truth == "No.")
            told["presence", truth] += 1
            continue
        boxes = [part for part in parts if not isinstance(part, str)]
        predicates = {claim(r.predicate) for r in sample.relations}
        predicates |= {claim(p) for p in ("left of", "right of", "above", "below", "behind")}
        predicates |= {claim("in front of")}
        said = max((p for p in predicates if f" {p} the" in joined), key=len)
        first, _, second = joined.partition(f" {said} ")
        one = _thing(sample, first.lower().replace("#", ""), boxes.pop(0) if "#" in first else None)
        other = _thing(sample, second.replace("#", ""), boxes.pop(0) if "#" in second else None)
        assert ((one, said, other) in _claims(sample)) == (truth == "Yes.")
        told["relation", truth] += 1
    for kind in ("presence", "relation"):
        yes, no = told[kind, "Yes."], told[kind, "No."]
        assert 0.7 < yes / no < 1.4


@pytest.mark.parametrize("task", ["vqa", "short_answer"])
def test_questions_keep_their_answers(task: str, make: Maker, slots: Rules) -> None:
    for sample, turn in turns_of(make(task, slots)):
        asked = str(turn.question[0]) if task == "vqa" else word(read(turn, task)["question"])
        truths = {f"{q.answer.rstrip('.')}." for q in sample.questions if q.question == asked}
        assert answered(turn).text.lower() in {truth.lower() for truth in truths}
        assert task == "vqa" or len(answered(turn).text.split()) <= 3


def test_rationales_come_before_answers(make: Maker, slots: Rules) -> None:
    for sample, turn in turns_of(make("vqa_reason", slots, times=1)):
        category = sample.instances[0].category
        assert word(read(turn, "reason_answer")["question"]) == "What is it?"
        expected = f"It looks like {category}. Answer: {category.capitalize()}."
        assert answered(turn).text == expected


def test_places_in_questions_are_boxes_and_in_answers_phrases(make: Maker) -> None:
    for sample, turn in turns_of(make("regions_qa", times=1)):
        first, second = sample.instances[:2]
        assert turn.question == ("What is ", first.box, " beside?")
        text = answered(turn)
        assert text.text == f"It is beside the {second.category}. The {first.category} is there."
        assert [phrase.boxes for phrase in text.phrases] == [(second.box,), (first.box,)]


def test_a_dialogue_goes_back_to_what_was_shown(make: Maker, slots: Rules) -> None:
    lengths = Counter[int]()
    kinds: set[str] = set()
    for sample, turns in make("dialogue", slots):
        lengths[len(turns)] += 1
        seen: set[int] = set()
        (focus,) = shown(sample, answered(turns[0]))
        for place, turn in enumerate(turns):
            regions = [part for part in turn.question if not isinstance(part, str)]
            assert {id(region) for region in regions} <= seen
            seen |= {id(box) for phrase in answered(turn).phrases for box in phrase.boxes}
            text = answered(turn).text
            is_number = text.rstrip(".").lower() in NUMBERS
            if is_number and turn.question[0] == "Q|" and turn.question[2:] == ("|",):
                kinds.add("number")
                category = sample.instances[focus].category
                assert number_of(text) == len(members(sample, category))
            if not regions and place and re.search(r"\b(is|does|was) it\b", str(turn.question[0])):
                kinds.add("it")
                assert place == 1
                truths = {
                    f"{q.answer.rstrip('.')}."
                    for q in sample.questions
                    if q.instance == focus
                    and q.question.replace("<region>", "it") == turn.question[0]
                }
                assert text in truths
            if text.startswith("There is no"):
                kinds.add("absent")
    assert min(lengths) == 2
    assert max(lengths) == 6
    assert kinds == {"number", "it", "absent"}


@pytest.mark.parametrize("task", sorted(COMPLETE))
def test_tasks_make_no_exhaustive_claims_about_incomplete_classes(
    task: str, samples: list[Sample], slots: Rules
) -> None:
    rng = np.random.default_rng(2)
    for sample in samples:
        open_ended = _not_exhaustive(sample, absent=True)
        for _ in range(4):
            for turn in TASKS[task].make(open_ended, rng, slots):
                text = answered(turn)
                assert not text.phrases
                assert text.text == "Zero." or text.text.startswith("There are no ")
                asked = word(read(turn, task)["names"])
                assert any(plural(name) == asked for name in sample.absent_categories)
            assert not TASKS[task].make(_not_exhaustive(sample, absent=False), rng, slots)


def _not_exhaustive(sample: Sample, *, absent: bool) -> Sample:
    return Sample(
        sample.id,
        sample.image,
        sample.size,
        instances=sample.instances,
        relations=sample.relations,
        expressions=sample.expressions,
        absent_categories=sample.absent_categories if absent else (),
        exhaustive=False,
    )


def test_dialogues_and_statements_claim_nothing_about_incomplete_classes(
    samples: list[Sample],
) -> None:
    rng = np.random.default_rng(2)
    for sample in samples:
        open_ended = _not_exhaustive(sample, absent=True)
        for turn in TASKS["dialogue"].make(open_ended, rng, Rules()):
            assert answered(turn).text.rstrip(".").lower() not in NUMBERS
        for turn in TASKS["statement"].make(open_ended, rng, Rules()):
            if "There" not in str(turn.question):
                # without all instances, no class is unique to an instance
                assert sum(isinstance(part, Box) for part in turn.question) == 2


def test_plural_names_agree(samples: list[Sample]) -> None:
    box = samples[0].instances[0].box
    sample = Sample(
        "plural",
        samples[0].image,
        samples[0].size,
        instances=(Instance("scissors", box), Instance("glasses", Box(0.0, 0.0, 9.0, 9.0))),
        absent_categories=("skis", "trousers"),
    )
    rng = np.random.default_rng(0)
    said = {
        answered(turn).text
        for task in ("detection", "detection_all", "conditional_detection", "quadrant_class")
        for _ in range(60)
        for turn in TASKS[task].make(sample, rng, Rules())
    }
    assert is_plural("the scissors")
    assert "The scissors." in said
    assert "Glasses and scissors." in said
    assert "There are no trousers." in said
    assert not any("glasseses" in text or "a scissors" in text for text in said)

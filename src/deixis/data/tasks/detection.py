"""Detection: a class name or an example asks for all instances, as boxes or masks."""

import numpy as np

from deixis.data.tasks.answers import (
    BOX,
    MASK,
    Piece,
    in_classes,
    listed,
    none_of,
    pick,
    pointing,
    shuffled,
    unit_group,
    written,
)
from deixis.data.tasks.prompts import asked
from deixis.data.tasks.rules import Rules
from deixis.data.tasks.spec import TaskSpec, single
from deixis.data.tasks.things import (
    all_things,
    classes,
    clear_classes,
    draw_class,
    draw_name,
)
from deixis.language import join, many
from deixis.structures import Sample, Turn, UnitGroup


def detect(
    sample: Sample,
    rng: np.random.Generator,
    rules: Rules,
    *,
    task: str,
    unit_types: tuple[str, ...],
) -> Turn | None:
    """Ask for all instances of a class, or of a class with an attribute."""
    drawn = draw_class(sample, rng, rules)
    if drawn is None:
        return None
    return find_class(sample, rng, rules, task, unit_types, drawn)


def find_class(
    sample: Sample,
    rng: np.random.Generator,
    rules: Rules,
    task: str,
    unit_types: tuple[str, ...],
    drawn: tuple[str, list[int]],
    *,
    name: str | None = None,
) -> Turn | None:
    """Return a turn that asks for a class, with the wordings of ``task`` and the task name ``name``.

    None if the answer would have too many references.
    """
    label, indices = drawn
    if len(indices) > rules.max_references:
        return None
    question = asked(task, rng, rules, name=label, names=many(label))
    if not indices:
        return Turn(question, none_of(many(label), unit_types, rules), name or task)
    group = unit_group(sample, indices, unit_types, rules)
    if group is None:
        return None
    phrase = label if len(indices) == 1 else many(label)
    return Turn(question, pointing("The ", phrase, ".", group), name or task)


def detect_all(
    sample: Sample,
    rng: np.random.Generator,
    rules: Rules,
    *,
    task: str,
    unit_types: tuple[str, ...],
) -> Turn | None:
    """Ask for all instances, class by class in alphabetical order: ``Ring and stars.``."""
    if not 0 < len(sample.instances) <= rules.max_references or not all_things(sample, rules):
        return None
    items: list[list[Piece]] = []
    for name, indices in sorted(classes(sample).items()):
        group = unit_group(sample, indices, unit_types, rules)
        if group is None:
            return None
        items.append([(name if len(indices) == 1 else many(name), group)])
    return Turn(asked(task, rng, rules), written([*listed(items), "."]), task)


def detect_names(
    sample: Sample,
    rng: np.random.Generator,
    rules: Rules,
    *,
    task: str,
    unit_types: tuple[str, ...],
) -> Turn | None:
    """Ask for several classes, some of them absent: ``The rings and no cats.``."""
    members = clear_classes(sample, rules)
    wanted = 2 + int(rng.random() * (rules.max_listed - 1))
    present = dict(members)
    absent = [] if rules.empty == "skip" else list(sample.absent_categories)
    names: list[str] = []
    while len(names) < wanted and present:
        # the first class is present: a list of only absent classes teaches little
        if names and absent and rng.random() < rules.absent_share:
            names.append(_taken(absent, rng))
        else:
            names.append(draw_name(present, rng, rules))
            del present[names[-1]]
    if names and len(names) < wanted and absent:
        names.append(_taken(absent, rng))
    total = sum(len(members.get(name, ())) for name in names)
    if len(names) < 2 or total > rules.max_references:
        return None
    names = shuffled(names, rng)
    items: list[list[Piece]] = []
    for name in names:
        indices = members.get(name, [])
        if not indices:
            empty = UnitGroup(unit_types, ())
            items.append(["no ", (many(name), empty) if rules.empty == "group" else many(name)])
            continue
        group = unit_group(sample, indices, unit_types, rules)
        if group is None:
            return None
        items.append(["the ", (name if len(indices) == 1 else many(name), group)])
    question = asked(task, rng, rules, list=join([many(name) for name in names]))
    return Turn(question, written([*listed(items), "."]), task)


def detect_like(
    sample: Sample,
    rng: np.random.Generator,
    rules: Rules,
    *,
    task: str,
    unit_types: tuple[str, ...],
) -> Turn | None:
    """Ask for all instances of the class of an example, given as a box; they include the example."""
    members = {
        name: indices
        for name, indices in clear_classes(sample, rules).items()
        if len(indices) <= rules.max_references
    }
    if not members:
        return None
    indices = members[draw_name(members, rng, rules)]
    answer = in_classes(sample, indices, unit_types, rules)
    if answer is None:
        return None
    example = sample.instances[pick(indices, rng)].box
    return Turn(asked(task, rng, rules, region=example), answer, task)


def detect_by_turns(
    sample: Sample,
    rng: np.random.Generator,
    rules: Rules,
    *,
    task: str,
    worded: str,
    unit_types: tuple[str, ...],
) -> tuple[Turn, ...]:
    """Return a turn for each of several classes in random order, some of them absent."""
    members = clear_classes(sample, rules)
    present = list(members)
    absent = [] if rules.empty == "skip" else list(sample.absent_categories)
    names: list[str] = []
    while len(names) < rules.max_turns and present:
        asks_absent = bool(absent and names) and rng.random() < rules.absent_share
        names.append(_taken(absent if asks_absent else present, rng))
    turns = [
        find_class(sample, rng, rules, worded, unit_types, (name, members.get(name, [])), name=task)
        for name in names
    ]
    made = tuple([turn for turn in turns if turn is not None])
    return made if len(made) > 1 else ()


def _taken(items: list[str], rng: np.random.Generator) -> str:
    return items.pop(int(rng.random() * len(items)))


_RULES = ("max_references", "order", "clear_visibility", "wording")
_CLASS_RULES = (*_RULES, "empty", "absent_share", "class_by_count")
_NEEDS = "every instance of a class, or a class known to be absent"
_LIKE_NEEDS = "every instance of a class, none of them a crowd or mostly hidden"
_ALL_NEEDS = "every instance, none of them a crowd or mostly hidden"


def _specs(units: str, unit_types: tuple[str, ...], task: str) -> tuple[TaskSpec, ...]:
    with_units = "" if units == "boxes" else ", with masks"
    return (
        TaskSpec(
            name=task,
            family="classes",
            summary=f"{units.capitalize()} of all instances of a class.",
            needs=_NEEDS + with_units,
            takes=("text",),
            gives=unit_types,
            rules=(*_CLASS_RULES, "attribute_share"),
            wordings=(task,),
            make=single(detect, task=task, unit_types=unit_types),
        ),
        TaskSpec(
            name=f"{task}_all",
            family="classes",
            summary=f"{units.capitalize()} of all instances, class by class.",
            needs=_ALL_NEEDS + with_units,
            takes=("text",),
            gives=unit_types,
            rules=_RULES,
            wordings=(f"{task}_all",),
            make=single(detect_all, task=f"{task}_all", unit_types=unit_types),
        ),
        TaskSpec(
            name=f"{task}_names",
            family="classes",
            summary=f"{units.capitalize()} of the instances of several classes, class by class; some classes are absent.",
            needs=f"{_NEEDS}{with_units}; at least two classes, one of them present",
            takes=("text",),
            gives=unit_types,
            rules=(*_CLASS_RULES, "max_listed"),
            wordings=(f"{task}_names",),
            make=single(detect_names, task=f"{task}_names", unit_types=unit_types),
        ),
        TaskSpec(
            name=f"{task}_example",
            family="classes",
            summary=f"{units.capitalize()} of all instances of the class of the instance in a box.",
            needs=_LIKE_NEEDS + with_units,
            takes=("box",),
            gives=unit_types,
            rules=(*_RULES, "class_by_count"),
            wordings=(f"{task}_example",),
            make=single(detect_like, task=f"{task}_example", unit_types=unit_types),
        ),
    )


def _by_turns(units: str, unit_types: tuple[str, ...], worded: str) -> TaskSpec:
    def make(sample: Sample, rng: np.random.Generator, rules: Rules) -> tuple[Turn, ...]:
        return detect_by_turns(
            sample,
            rng,
            rules,
            task=f"conditional_{worded}",
            worded=worded,
            unit_types=unit_types,
        )

    return TaskSpec(
        name=f"conditional_{worded}",
        family="classes",
        summary=f"{units.capitalize()} of all instances, with one turn per class.",
        needs="every instance of two classes" + ("" if units == "boxes" else ", with masks"),
        takes=("text",),
        gives=unit_types,
        rules=(*_RULES, "empty", "absent_share", "max_turns"),
        wordings=(worded,),
        make=make,
    )


SPECS = (
    *_specs("boxes", BOX, "detection"),
    _by_turns("boxes", BOX, "detection"),
    *_specs("masks", MASK, "segmentation"),
    _by_turns("masks", MASK, "segmentation"),
)

"""Draws the subjects of questions: classes with all their instances, names and relations."""

from collections.abc import Callable

import numpy as np

from deixis.data.tasks.answers import left_to_right, pick
from deixis.data.tasks.rules import DEFAULT_RULES, Rules
from deixis.structures import MARKERS, Instance, QuestionPart, Relation, Sample

FIRST_ATTRIBUTE_SHARE = 0.6
"""Probability of drawing the first attribute; sources list the most distinctive one first."""
_UNSAID = ("plain", "medium", *MARKERS)


def classes(sample: Sample) -> dict[str, list[int]]:
    """Return the instances of each countable class, from the left, without crowds."""
    members: dict[str, list[int]] = {}
    for index in left_to_right(sample, range(len(sample.instances))):
        instance = sample.instances[index]
        if not instance.crowd and "stuff" not in instance.attributes:
            members.setdefault(instance.category, []).append(index)
    return members


def is_doubtful(instance: Instance, rules: Rules) -> bool:
    """Return whether an instance is a crowd, mostly hidden or hard to recognise, so not countable."""
    marked = "difficult" in instance.attributes or "stuff" in instance.attributes
    return instance.crowd or marked or instance.visibility < rules.clear_visibility


def clear_classes(sample: Sample, rules: Rules) -> dict[str, list[int]]:
    """Return the instances of each countable class: all annotated, no crowds, all clearly visible.

    Classes with missing annotations (see `Sample.covers`) are left out.
    """
    return _without_doubtful(classes(sample), sample, rules)


def _without_doubtful(
    members: dict[str, list[int]], sample: Sample, rules: Rules
) -> dict[str, list[int]]:
    doubtful = {instance.category for instance in sample.instances if is_doubtful(instance, rules)}
    return {
        name: found
        for name, found in members.items()
        if name not in doubtful and sample.covers(name)
    }


def all_things(sample: Sample, rules: Rules) -> bool:
    """Return whether every instance of the image is annotated, clearly visible and recognisable."""
    return sample.exhaustive and all(
        sample.covers(instance.category) and not is_doubtful(instance, rules)
        for instance in sample.instances
    )


def draw_name(members: dict[str, list[int]], rng: np.random.Generator, rules: Rules) -> str:
    """Draw the name of a class."""
    if rules.class_by_count:
        count = pick(sorted({len(found) for found in members.values()}), rng)
        return pick([name for name, found in members.items() if len(found) == count], rng)
    return pick(list(members), rng)


def draw_class(
    sample: Sample, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> tuple[str, list[int]] | None:
    """Draw a class name, sometimes with an attribute before it, and its instances.

    An absent class has no instances. None if no class is countable and no absent class is drawn.
    """
    present = classes(sample)
    members = _without_doubtful(present, sample, rules)
    if sample.absent_categories and rules.empty != "skip":
        never_else = not members and sample.exhaustive
        if never_else or rng.random() < rules.absent_share:
            return pick(sample.absent_categories, rng), []
    if not members:
        return None
    name = draw_name(members, rng, rules)
    found = members[name]
    if not rules.attribute_share:
        return name, found
    if len(present) > 1 and rng.random() < 1.0 - rules.attribute_share:
        return name, found
    attributes = adjectives(sample.instances[pick(found, rng)])
    # an instance without attributes was not described, so it may have this one, too
    if not attributes or not all(adjectives(sample.instances[index]) for index in found):
        return name, found
    first = rng.random() < FIRST_ATTRIBUTE_SHARE
    chosen = attributes[0] if first else pick(attributes, rng)
    having = [index for index in found if chosen in sample.instances[index].attributes]
    return f"{chosen} {name}", having


def adjectives(instance: Instance) -> list[str]:
    """Return the attributes that can precede a noun.

    Attributes of one word can; "red shirt" and the letter "A" cannot.
    """
    return [
        word
        for word in instance.attributes
        if len(word) > 1 and word.isalpha() and word not in _UNSAID
    ]


def short_name(instance: Instance) -> str:
    """Return the class of an instance with its first adjective: ``red cup``."""
    for word in adjectives(instance):
        return f"{word} {instance.category}"
    return instance.category


def only_of_class(sample: Sample, index: int) -> bool:
    """Return whether the image has no other instance of the same class."""
    category = sample.instances[index].category
    found = sum(instance.category == category for instance in sample.instances)
    return sample.covers(category) and found == 1 and not sample.instances[index].crowd


def mention(sample: Sample, index: int) -> tuple[QuestionPart, ...]:
    """Return words for an instance: its class, with its box if others have the same class."""
    instance = sample.instances[index]
    if only_of_class(sample, index):
        return (f"the {instance.category}",)
    return (f"the {instance.category} at ", instance.box)


def draw_relation(
    sample: Sample,
    rng: np.random.Generator,
    rules: Rules,
    accepts: Callable[[Relation], bool] | None = None,
) -> Relation | None:
    """Draw a relation between two instances, not crowds; common predicates are less likely.

    None if no draw gives an allowed relation.
    """
    relations = sample.relations
    if accepts is not None:
        relations = tuple([relation for relation in relations if accepts(relation)])
    if not relations:
        return None
    last = None
    for _ in range(rules.predicate_attempts):
        relation = pick(relations, rng)
        if not is_askable(sample, relation, rules):
            continue
        last = relation
        is_common = relation.predicate.lower() in rules.common_predicates
        if not is_common or rng.random() < rules.common_predicate_share:
            break
    return last


def is_askable(sample: Sample, relation: Relation, rules: Rules) -> bool:
    """Return whether the rules allow the predicate, and neither instance is a crowd."""
    if rules.predicates is not None and relation.predicate.lower() not in rules.predicates:
        return False
    if relation.subject == relation.object or not relation.predicate.strip():
        return False
    ends = sample.instances[relation.subject], sample.instances[relation.object]
    return not (ends[0].crowd or ends[1].crowd)


def other_than(name: str, first: str) -> str:
    """Return a class name after another one: ``the other ring`` after a ring, else ``the star``."""
    return f"the other {name}" if name == first else f"the {name}"

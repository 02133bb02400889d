"""What is asked of: classes with all their instances, and things with a name of their own."""

from collections.abc import Callable

import numpy as np

from deixis.data.tasks.answers import left_to_right, pick
from deixis.data.tasks.rules import DEFAULT_RULES, Rules
from deixis.structures import MARKERS, Instance, QuestionPart, Relation, Sample

FIRST_ATTRIBUTE_SHARE = 0.6
"""Sources give the most telling attribute first: it is drawn this often."""
_UNSAID = ("plain", "medium", *MARKERS)


def classes(sample: Sample) -> dict[str, list[int]]:
    """Instances of each class of things, from the left; crowds and stuff are in none."""
    members: dict[str, list[int]] = {}
    for index in left_to_right(sample, range(len(sample.instances))):
        instance = sample.instances[index]
        if not instance.crowd and "stuff" not in instance.attributes:
            members.setdefault(instance.category, []).append(index)
    return members


def is_doubtful(instance: Instance, rules: Rules) -> bool:
    """Whether a thing is a crowd, hardly seen or hard to tell, so that nobody could count it."""
    marked = "difficult" in instance.attributes or "stuff" in instance.attributes
    return instance.crowd or marked or instance.visibility < rules.clear_visibility


def clear_classes(sample: Sample, rules: Rules) -> dict[str, list[int]]:
    """Instances of each class that can be counted: all are annotated, no crowds, all clearly seen.

    Classes of which something was left out (`Sample.covers`) are not among them.
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
    """Whether the instances are all that there is, each of them clear and named without doubt."""
    return sample.exhaustive and all(
        sample.covers(instance.category) and not is_doubtful(instance, rules)
        for instance in sample.instances
    )


def draw_name(members: dict[str, list[int]], rng: np.random.Generator, rules: Rules) -> str:
    """The name of one of some classes."""
    if rules.class_by_count:
        count = pick(sorted({len(found) for found in members.values()}), rng)
        return pick([name for name, found in members.items() if len(found) == count], rng)
    return pick(list(members), rng)


def draw_class(
    sample: Sample, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> tuple[str, list[int]] | None:
    """A class name, at times with an attribute before it, and its instances.

    A class that is known to be absent has none. None where the image has no instance and no class
    is known to be absent, and, mostly, where something of every class was left out.
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
    # a thing without attributes was not described: it may have this one too
    if not attributes or not all(adjectives(sample.instances[index]) for index in found):
        return name, found
    first = rng.random() < FIRST_ATTRIBUTE_SHARE
    chosen = attributes[0] if first else pick(attributes, rng)
    having = [index for index in found if chosen in sample.instances[index].attributes]
    return f"{chosen} {name}", having


def adjectives(instance: Instance) -> list[str]:
    """Attributes that can stand before a noun and are worth a word.

    Attributes of one word can; "red shirt" and the letter "A" cannot.
    """
    return [
        word
        for word in instance.attributes
        if len(word) > 1 and word.isalpha() and word not in _UNSAID
    ]


def short_name(instance: Instance) -> str:
    """The class of a thing with its first adjective: ``red cup``."""
    for word in adjectives(instance):
        return f"{word} {instance.category}"
    return instance.category


def only_of_class(sample: Sample, index: int) -> bool:
    """Whether the image has no other thing of an instance's class."""
    category = sample.instances[index].category
    found = sum(instance.category == category for instance in sample.instances)
    return sample.covers(category) and found == 1 and not sample.instances[index].crowd


def mention(sample: Sample, index: int) -> tuple[QuestionPart, ...]:
    """Words for a thing within a sentence: its class, and its box where others are of the class."""
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
    """A relation between two things that are no crowds; common predicates are drawn less often.

    None where no relation was accepted in as many draws as the rules allow.
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
    """Whether a relation is between two things that are no crowds, by a predicate of the rules."""
    if rules.predicates is not None and relation.predicate.lower() not in rules.predicates:
        return False
    if relation.subject == relation.object or not relation.predicate.strip():
        return False
    ends = sample.instances[relation.subject], sample.instances[relation.object]
    return not (ends[0].crowd or ends[1].crowd)


def other_than(name: str, first: str) -> str:
    """A class name after another one: ``the other ring`` after a ring, else ``the star``."""
    return f"the other {name}" if name == first else f"the {name}"

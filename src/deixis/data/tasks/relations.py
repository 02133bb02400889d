"""Pink's relation tasks: the relation of two instances, and the instances related to one."""

from typing import Literal

import numpy as np

from deixis.data.tasks.answers import BOX, here, in_classes, in_words
from deixis.data.tasks.prompts import asked
from deixis.data.tasks.rules import Rules
from deixis.data.tasks.spec import TaskSpec, single
from deixis.data.tasks.things import draw_relation, other_than
from deixis.language import is_plural, sentence
from deixis.language.predicates import claim, plain
from deixis.structures import GroundedText, Relation, Sample, Turn

Output = Literal["box", "class", "both"]


def relation(sample: Sample, rng: np.random.Generator, rules: Rules) -> Turn | None:
    """Ask how the instance in one box is related to the instance in another box."""

    def apart(drawn: Relation) -> bool:
        return sample.instances[drawn.subject].box != sample.instances[drawn.object].box

    drawn = draw_relation(sample, rng, rules, apart)
    if drawn is None:
        return None
    subject, other = sample.instances[drawn.subject], sample.instances[drawn.object]
    question = asked("relation", rng, rules, region=subject.box, other=other.box)
    first = f"the {subject.category}"
    said = claim(drawn.predicate, several=is_plural(first))
    words = f"{first} {said} {other_than(other.category, subject.category)}"
    return Turn(question, GroundedText(sentence(words)), "relation")


def related(
    sample: Sample, rng: np.random.Generator, rules: Rules, *, output: Output
) -> Turn | None:
    """Ask for all instances to which the instance in a box has one relation."""
    drawn = draw_relation(sample, rng, rules)
    if drawn is None:
        return None
    task = f"relation_object_{output}"
    indices = related_to(sample, drawn)
    if len(indices) > rules.max_references:
        return None
    if any(sample.instances[index].crowd for index in indices):
        return None
    answer = shown(sample, indices, rules, output=output)
    if answer is None:
        return None
    subject = sample.instances[drawn.subject]
    question = asked(task, rng, rules, region=subject.box, predicate=claim(drawn.predicate))
    return Turn(question, answer, task)


def related_to(sample: Sample, drawn: Relation) -> list[int]:
    """Return the objects of all relations with this subject and predicate, without duplicates."""
    predicate = plain(drawn.predicate)
    found = [
        relation.object
        for relation in sample.relations
        if relation.subject == drawn.subject and plain(relation.predicate) == predicate
    ]
    return list(dict.fromkeys(found))


def shown(
    sample: Sample, indices: list[int], rules: Rules, *, output: Output
) -> GroundedText | None:
    """Return an answer with boxes only, names only, or names with boxes."""
    if output == "box":
        return here(sample, indices, BOX, rules)
    if output == "class":
        return in_words(sample, indices)
    return in_classes(sample, indices, BOX, rules)


PREDICATE_RULES = (
    *("common_predicates", "common_predicate_share", "predicate_attempts", "predicates"),
)
_SUMMARIES: dict[Output, str] = {
    "box": "Boxes of all objects of a relation of the instance in a box.",
    "class": "Classes of all objects of a relation of the instance in a box.",
    "both": "Classes and boxes of all objects of a relation of the instance in a box.",
}


def _spec(output: Output) -> TaskSpec:
    in_geometry = ("max_references", "order") if output != "class" else ("max_references",)
    return TaskSpec(
        name=f"relation_object_{output}",
        family="relations",
        summary=_SUMMARIES[output],
        needs="every relation with one subject and predicate",
        takes=("box",),
        gives=("words",) if output == "class" else BOX,
        rules=(*PREDICATE_RULES, *in_geometry, "wording"),
        wordings=(f"relation_object_{output}",),
        make=single(related, output=output),
    )


SPECS = (
    TaskSpec(
        name="relation",
        family="relations",
        summary="The relation of the instance in one box to the instance in another.",
        needs="a relation",
        takes=("box",),
        gives=("words",),
        rules=(*PREDICATE_RULES, "wording"),
        wordings=("relation",),
        make=single(relation),
    ),
    _spec("box"),
    _spec("class"),
    _spec("both"),
)

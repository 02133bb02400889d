"""Several turns that build on one another: ``dialogue``.

The first turn finds an instance; later turns refer to it by the box of an answer or as "it".
"""

import re

import numpy as np

from deixis.data.tasks.answers import BOX, ended, pick, pointing, shuffled, unit_group
from deixis.data.tasks.localisation import ask, deny, point_out
from deixis.data.tasks.prompts import Question, asked, with_region
from deixis.data.tasks.regions import NOT_ABOUT_ONE, descriptions
from deixis.data.tasks.relations import PREDICATE_RULES, related_to, shown
from deixis.data.tasks.rules import Rules
from deixis.data.tasks.spec import TaskSpec
from deixis.data.tasks.things import clear_classes, draw_relation, only_of_class
from deixis.data.wording import REGION_SLOT
from deixis.language import article, count_word, sentence
from deixis.language.predicates import claim
from deixis.structures import GroundedText, QuestionAnswer, Relation, Sample, Turn

_TASK = "dialogue"
_AS_IT = re.compile(rf"\b(is|does|was) {re.escape(REGION_SLOT)}")
"""Contexts in which "it" can replace a region, unlike "the shirt of it"."""


def dialogue(sample: Sample, rng: np.random.Generator, rules: Rules) -> tuple[Turn, ...]:
    """Find an instance, then ask about it: a question of the source, its relations, their number.

    Every box in a later question is from an earlier answer. Empty if no later turn is possible.
    """
    opened = _open(sample, rng, rules)
    if opened is None or rules.max_turns < 2:
        return ()
    index, first = opened
    turns = [first]
    wanted = 2 + int(rng.random() * (rules.max_turns - 1))
    for go_on in shuffled((_ask_about, _ask_related, _ask_number, _ask_absent), rng):
        if len(turns) >= wanted:
            break
        turns += go_on(sample, rng, rules, index, is_next=len(turns) == 1)
    return tuple(turns[:wanted]) if len(turns) > 1 else ()


def _open(sample: Sample, rng: np.random.Generator, rules: Rules) -> tuple[int, Turn] | None:
    """Ask for one instance by an expression or by a class without other instances."""
    known = [expression for expression in sample.expressions if len(expression.instances) == 1]
    known = [
        expression for expression in known if not sample.instances[expression.instances[0]].crowd
    ]
    if known:
        expression = pick(known, rng)
        answer = point_out(sample, expression, BOX, rules)
        if answer is None:
            return None
        return expression.instances[0], _turn(ask(expression.text, "rec", rng, rules), answer)
    alone = [index for index in range(len(sample.instances)) if only_of_class(sample, index)]
    if not alone:
        return None
    index = pick(alone, rng)
    category = sample.instances[index].category
    group = unit_group(sample, [index], BOX, rules)
    if group is None:
        return None
    return index, _turn(ask(category, "rec", rng, rules), pointing("The ", category, ".", group))


def _turn(question: Question, answer: GroundedText) -> Turn:
    return Turn(question, answer, _TASK)


def _ask_about(
    sample: Sample,
    rng: np.random.Generator,
    rules: Rules,
    index: int,
    *,
    is_next: bool,
) -> list[Turn]:
    """Ask a question of the source about the instance; "it" is used only right after the first turn."""
    known = [
        question
        for question in sample.questions
        if question.instance == index and question.kind not in NOT_ABOUT_ONE
    ]
    if not known:
        return []
    chosen = pick(known, rng)
    question = with_region(chosen.question, sample.instances[index].box, slot=REGION_SLOT)
    if is_next and _AS_IT.search(chosen.question) and rng.random() < rules.pronoun_share:
        question = (_as_it(chosen),)
    return [_turn(question, GroundedText(ended(chosen.answer)))]


def _as_it(question: QuestionAnswer) -> str:
    return _AS_IT.sub(r"\1 it", question.question, count=1)


def _ask_related(
    sample: Sample,
    rng: np.random.Generator,
    rules: Rules,
    index: int,
    *,
    is_next: bool,  # noqa: ARG001
) -> list[Turn]:
    """Ask for the instances related to this one and, if there is only one, for its description."""

    def is_subject(relation: Relation) -> bool:
        return relation.subject == index

    drawn = draw_relation(sample, rng, rules, is_subject)
    if drawn is None:
        return []
    objects = related_to(sample, drawn)
    too_many = len(objects) > rules.max_references
    if too_many or any(sample.instances[found].crowd for found in objects):
        return []
    answer = shown(sample, objects, rules, output="both")
    if answer is None:
        return []
    box = sample.instances[index].box
    question = asked(
        "relation_object_both", rng, rules, region=box, predicate=claim(drawn.predicate)
    )
    turns = [_turn(question, answer)]
    if len(objects) == 1:
        found = sample.instances[objects[0]]
        known = dict(descriptions(sample))
        told = known.get(objects[0], sentence(article(found.category)))
        turns.append(_turn(asked("reg", rng, rules, region=found.box), GroundedText(told)))
    return turns


def _ask_number(
    sample: Sample,
    rng: np.random.Generator,
    rules: Rules,
    index: int,
    *,
    is_next: bool,  # noqa: ARG001
) -> list[Turn]:
    """Ask for the number of instances of the same class."""
    instance = sample.instances[index]
    found = clear_classes(sample, rules).get(instance.category)
    if found is None:
        return []
    question = asked("count_example", rng, rules, region=instance.box)
    return [_turn(question, GroundedText(sentence(count_word(len(found)))))]


def _ask_absent(
    sample: Sample,
    rng: np.random.Generator,
    rules: Rules,
    index: int,  # noqa: ARG001
    *,
    is_next: bool,  # noqa: ARG001
) -> list[Turn]:
    """Ask for an instance of an absent class."""
    if not sample.absent_categories or rules.empty == "skip":
        return []
    name = pick(sample.absent_categories, rng)
    return [_turn(ask(name, "rec", rng, rules), deny(name))]


SPECS = (
    TaskSpec(
        name=_TASK,
        family="dialogues",
        summary="An instance is located; later turns refer back to it.",
        needs="an instance with an expression or the only one of its class, and a fact about it",
        takes=("text", "box"),
        gives=(*BOX, "words"),
        rules=(
            *("max_turns", "pronoun_share", "max_references", "order", "empty"),
            *("clear_visibility", *PREDICATE_RULES, "wording"),
        ),
        wordings=("count_example", "rec", "reg", "relation_object_both"),
        make=dialogue,
        dependent=True,
    ),
)

"""True or false statements about presence and relations: ``statement``."""

import numpy as np

from deixis.data.tasks.answers import capitalised, ended, pick
from deixis.data.tasks.prompts import Question, asked
from deixis.data.tasks.relations import PREDICATE_RULES
from deixis.data.tasks.rules import Rules
from deixis.data.tasks.spec import TaskSpec, single
from deixis.data.tasks.things import draw_relation, mention
from deixis.language import counted, is_plural
from deixis.language.predicates import claim, is_one_way, opposite, plain
from deixis.structures import GroundedText, QuestionAnswer, Relation, Sample, Turn


def statement(sample: Sample, rng: np.random.Generator, rules: Rules) -> Turn | None:
    """Ask whether a statement is true: one from the source, else a generated one.

    A statement is generated only if the image allows a true and a false one of its kind, so that the
    kind does not reveal the answer.
    """
    told = [question for question in sample.questions if _is_told(question)]
    if told:
        chosen = pick(told, rng)
        text = chosen.question.strip().rstrip(".")
        question = asked("statement", rng, rules, text=f'"{text}"')
        return Turn(question, GroundedText(ended(chosen.answer)), "statement")
    kinds = []
    if sample.absent_categories and any(not instance.crowd for instance in sample.instances):
        kinds.append(_presence)
    if sample.relations:
        kinds.append(_relation)
    if not kinds:
        return None
    truth = rng.random() < rules.true_share
    said = pick(kinds, rng)(sample, rng, rules, truth=truth)
    if said is None:
        return None
    question = asked("statement", rng, rules, text=('"', *said, '"'))
    return Turn(question, GroundedText("Yes." if truth else "No."), "statement")


def _is_told(question: QuestionAnswer) -> bool:
    return question.kind == "statement" and question.answer.lower().rstrip(".") in {"yes", "no"}


def _presence(
    sample: Sample,
    rng: np.random.Generator,
    rules: Rules,  # noqa: ARG001
    *,
    truth: bool,
) -> Question | None:
    """State that an instance of a present class, or of an absent class, is in the image."""
    if truth:
        names = [instance.category for instance in sample.instances if not instance.crowd]
        name = pick(list(dict.fromkeys(names)), rng)
    else:
        name = pick(sample.absent_categories, rng)
    verb = "are" if is_plural(f"the {name}") else "is"
    return (f"There {verb} {counted(name, 1)}",)


def _relation(
    sample: Sample, rng: np.random.Generator, rules: Rules, *, truth: bool
) -> Question | None:
    """State a relation of two instances, or for a false one its opposite or its converse."""
    known = {
        (relation.subject, plain(relation.predicate), relation.object)
        for relation in sample.relations
    }

    def can_be_false(relation: Relation) -> bool:
        false = _falsehood(relation)
        return (
            false is not None and (false.subject, plain(false.predicate), false.object) not in known
        )

    drawn = draw_relation(sample, rng, rules, can_be_false)
    told = drawn if truth or drawn is None else _falsehood(drawn)
    if told is None:
        return None
    subject = sample.instances[told.subject].category
    said = claim(told.predicate, several=is_plural(f"the {subject}"))
    first, *rest = mention(sample, told.subject)
    begun = capitalised(first) if isinstance(first, str) else first
    return (begun, *rest, f" {said} ", *mention(sample, told.object))


def _falsehood(relation: Relation) -> Relation | None:
    """Return a relation that contradicts this one; None if no such relation is known."""
    against = opposite(relation.predicate)
    if against is not None:
        return Relation(relation.subject, against, relation.object)
    if is_one_way(relation.predicate):
        return Relation(relation.object, relation.predicate, relation.subject)
    return None


SPECS = (
    TaskSpec(
        name="statement",
        family="choices",
        summary="Whether a statement about presence or a relation is true.",
        needs="a question of kind `statement`; present classes and classes known to be absent; or "
        "a relation that holds one way",
        takes=("text", "box"),
        gives=("words",),
        rules=("true_share", *PREDICATE_RULES, "wording"),
        wordings=("statement",),
        make=single(statement),
    ),
)

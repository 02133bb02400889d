"""Captions with nested phrases: ``gcg_nested`` (REF-VLM, section III-A)."""

import numpy as np

from deixis.data.tasks.answers import BOX, COMPOSITE, capitalised, pick, unit_group
from deixis.data.tasks.prompts import asked
from deixis.data.tasks.rules import Rules
from deixis.data.tasks.spec import TaskSpec, single
from deixis.data.tasks.things import draw_relation, is_askable, short_name
from deixis.language import determiner
from deixis.language.predicates import clause
from deixis.structures import GroundedPhrase, GroundedText, Relation, Sample, Turn, UnitGroup

DEEPER_SHARE = 0.5
"""Share of phrases in which a further relation describes the innermost instance, if it has one."""
MAX_LINKS = 3
"""Most relations in one phrase."""

Span = tuple[int, int, UnitGroup]


def gcg_nested(sample: Sample, rng: np.random.Generator, rules: Rules) -> Turn | None:
    """Ask for a caption that describes instances by relations: ``A person holding a red cup.``.

    The outer phrase points at the person, the inner phrase at the cup.
    """
    chains: list[list[Relation]] = []
    named: set[int] = set()
    wanted = 1 + int(rng.random() * rules.max_sentences)
    for _ in range(wanted):
        chain = _draw_chain(sample, rng, rules, named)
        if chain is None:
            break
        chains.append(chain)
        named.update(_members(chain))
    if not chains:
        return None
    has_masks = all(sample.instances[index].mask is not None for index in named)
    unit_types = COMPOSITE if has_masks else BOX
    text = ""
    phrases: list[GroundedPhrase] = []
    for chain in chains:
        written = _written(sample, chain, unit_types, rules)
        if written is None:
            return None
        words, spans = written
        before = capitalised(determiner(short_name(sample.instances[chain[0].subject])))
        if not before:
            words = capitalised(words)
        text += f" {before}" if text else before
        for start, end, group in spans:
            place = len(text) + start
            phrases.append(GroundedPhrase(words[start:end], place, len(text) + end, (group,)))
        text += f"{words}."
    return Turn(asked("gcg", rng, rules), GroundedText(text, tuple(phrases)), "gcg_nested")


def _draw_chain(
    sample: Sample, rng: np.random.Generator, rules: Rules, named: set[int]
) -> list[Relation] | None:
    """Draw a chain of relations between classes not yet named; None without such a relation."""
    classes = {sample.instances[index].category for index in named}

    def is_new(relation: Relation) -> bool:
        ends = sample.instances[relation.subject], sample.instances[relation.object]
        return ends[0].category not in classes and ends[1].category not in classes

    first = draw_relation(sample, rng, rules, is_new if named else None)
    if first is None:
        return None
    chain = [first]
    while len(chain) < MAX_LINKS and rng.random() < DEEPER_SHARE:
        told = named | _members(chain)
        names = {sample.instances[index].category for index in told}
        further = [
            relation
            for relation in sample.relations
            if relation.subject == chain[-1].object
            and relation.object not in told
            and sample.instances[relation.object].category not in names
            and is_askable(sample, relation, rules)
        ]
        if not further:
            break
        chain.append(pick(further, rng))
    return chain


def _members(chain: list[Relation]) -> set[int]:
    return {chain[0].subject, *(relation.object for relation in chain)}


def _written(
    sample: Sample, chain: list[Relation], unit_types: tuple[str, ...], rules: Rules
) -> tuple[str, list[Span]] | None:
    """Return a chain as a noun phrase without its first article, and its spans, outermost first."""
    indices = [chain[0].subject, *(relation.object for relation in chain)]
    names = [short_name(sample.instances[index]) for index in indices]
    groups = []
    for index in indices:
        group = unit_group(sample, [index], unit_types, rules)
        if group is None:
            return None
        groups.append(group)
    text = names[-1]
    spans: list[Span] = [(0, len(text), groups[-1])]
    for place in range(len(chain) - 1, -1, -1):
        inner = names[place + 1]
        article = "another " if inner == names[place] else determiner(inner)
        before = f"{names[place]} {clause(chain[place].predicate)} {article}"
        text = before + text
        spans = [(start + len(before), end + len(before), group) for start, end, group in spans]
        spans.insert(0, (0, len(text), groups[place]))
    return text, spans


SPECS = (
    TaskSpec(
        name="gcg_nested",
        family="captions",
        summary="A caption with nested phrases, each with its own instance.",
        needs="a relation",
        takes=("text",),
        gives=COMPOSITE,
        rules=(
            *("common_predicates", "common_predicate_share", "predicate_attempts", "predicates"),
            *("max_sentences", "wording"),
        ),
        wordings=("gcg",),
        make=single(gcg_nested),
    ),
)

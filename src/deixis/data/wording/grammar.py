"""Expands the phrase grammars of the shipped wordings, once per task."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import product
from math import prod

from deixis.data.wording.slots import SLOTS
from deixis.errors import RecipeError

EXPANSION_LIMIT = 10_000
"""Most texts that a rule may expand to."""
LENGTH_LIMIT = 1_000
"""Most characters of a wording with unfilled slots."""
DEPTH_LIMIT = 20
"""How deep rules may nest."""

QUESTION = "question"
"""The rule that a grammar starts from."""

_RULE = re.compile(r"<([a-z_]+)>")


@cache
def wordings(task: str) -> tuple[str, ...]:
    """Return all wordings of a task, in a fixed order.

    Slots stand in braces, see `SLOTS`: ``{x}`` an expression, ``{is}`` the verb that agrees with
    it, ``{names}`` a class in the plural, ``{region}`` a region.

    Raises:
        RecipeError: The task is unknown or its questions are not worded here.
    """
    if task not in SLOTS:
        raise RecipeError(f"unknown task {task!r}: expected one of {', '.join(SLOTS)}")
    text = files("deixis.data.wording").joinpath(f"{task}.json").read_text(encoding="utf-8")
    return expand(json.loads(text), where=f"task {task}")


def expand(rules: Mapping[str, Sequence[str]], *, where: str) -> tuple[str, ...]:
    """Return all texts of a grammar without duplicates, with the first letter in upper case.

    The grammar starts from its rule ``question``. A name in angle brackets is replaced by each line
    of the rule of that name in turn; the last one changes fastest. ``where`` begins error messages.

    >>> expand({"question": ["<find> {x}.", "where {is} {x}?"], "find": ["find", "show"]}, where="")
    ('Find {x}.', 'Show {x}.', 'Where {is} {x}?')

    Raises:
        RecipeError: A rule is missing, empty, not used or refers to itself; rules nest too deep,
            or they give too many texts or a text that is too long.
    """
    written: dict[str, list[str]] = {}

    def texts_of(rule: str, above: tuple[str, ...]) -> list[str]:
        if rule in above:
            way = " -> ".join((*above[above.index(rule) :], rule))
            raise RecipeError(f"{where}: rule <{rule}> refers to itself: {way}")
        if len(above) == DEPTH_LIMIT:
            raise RecipeError(f"{where}: rule <{rule}> nests deeper than {DEPTH_LIMIT} rules")
        if rule not in written:
            if not rules.get(rule):
                known = ", ".join(rules) or "none"
                raise RecipeError(
                    f"{where}: rule <{rule}> has no lines, expected some; the rules are {known}"
                )
            texts: list[str] = []
            for line in rules[rule]:
                # Odd pieces are names of rules, even ones are text.
                choices = [
                    texts_of(piece, (*above, rule)) if odd % 2 else [piece]
                    for odd, piece in enumerate(_RULE.split(line))
                ]
                _check_extent(choices, before=len(texts), where=f"{where}: rule <{rule}>")
                texts += ["".join(chosen) for chosen in product(*choices)]
            written[rule] = texts
        return written[rule]

    questions = texts_of(QUESTION, ())
    unused = [rule for rule in rules if rule not in written]
    if unused:
        raise RecipeError(f"{where}: rule <{unused[0]}> is not used, expected a line that names it")
    return tuple(dict.fromkeys(text[:1].upper() + text[1:] for text in questions))


def _check_extent(choices: Sequence[Sequence[str]], *, before: int, where: str) -> None:
    """Refuse a line before its expansion, which could take too long."""
    if before + prod(map(len, choices)) > EXPANSION_LIMIT:
        raise RecipeError(f"{where} gives more than {EXPANSION_LIMIT} texts, expected fewer")
    if sum(max(map(len, texts)) for texts in choices) > LENGTH_LIMIT:
        raise RecipeError(f"{where} gives a text of more than {LENGTH_LIMIT} characters")

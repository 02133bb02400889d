"""Wordings as phrase grammars in package data, written out once."""

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from itertools import product

WORDED_TASKS = (
    *("caption", "count", "count_words", "detection", "detection_all", "gcg_box"),
    *("gcg_mask", "gcg", "locate", "rec", "reg", "reg_unique", "res", "segmentation"),
)
"""Tasks whose questions are worded here; the others bring their own questions."""

_RULE = re.compile(r"<([a-z_]+)>")


@cache
def wordings(task: str) -> tuple[str, ...]:
    """Every wording of a task, in a fixed order.

    Slots stand in braces: ``{x}`` an expression, ``{is}`` the verb that agrees with it, ``{names}``
    a class in the plural, ``{region}`` a region.
    """
    text = files("deixis.data.wording").joinpath(f"{task}.json").read_text(encoding="utf-8")
    rules: Mapping[str, list[str]] = json.loads(text)
    written = [sentence for line in rules["question"] for sentence in _expand(line, rules)]
    return tuple(dict.fromkeys(written))


def _expand(line: str, rules: Mapping[str, list[str]]) -> list[str]:
    pieces = _RULE.split(line)
    # Odd pieces are names of rules, even ones are text.
    choices = [
        [text for choice in rules[piece] for text in _expand(choice, rules)] if odd % 2 else [piece]
        for odd, piece in enumerate(pieces)
    ]
    return ["".join(chosen) for chosen in product(*choices)]

"""Predicates of relations in sentences: as main clauses, as modifiers of nouns, and opposites.

Sources write predicates freely: ``left of``, ``holding``, ``has a``, ``is on``, ``wears``.
"""

from functools import lru_cache

_COPULAS = frozenset({"is", "are", "was", "were", "be"})
_BASES = {
    "belong": "belongs",
    "carry": "carries",
    "contain": "contains",
    "cover": "covers",
    "eat": "eats",
    "face": "faces",
    "hang": "hangs",
    "have": "has",
    "hold": "holds",
    "lean": "leans",
    "lie": "lies",
    "rest": "rests",
    "ride": "rides",
    "sit": "sits",
    "stand": "stands",
    "support": "supports",
    "surround": "surrounds",
    "touch": "touches",
    "use": "uses",
    "walk": "walks",
    "watch": "watches",
    "wear": "wears",
}
"""The third person of verbs that sources write in their base form."""
_VERBS = {finite: base for base, finite in _BASES.items()}
_NO_VERBS = frozenset({"across", "as", "besides", "its", "plus", "towards", "versus"})
"""Words that end like verbs in the third person but are not verbs."""

_OPPOSITES = {
    "left of": "right of",
    "to the left of": "to the right of",
    "above": "below",
    "over": "under",
    "in front of": "behind",
}
_REVERSED = {other: one for one, other in _OPPOSITES.items()}
_ONE_WAY = frozenset(
    {
        *_OPPOSITES,
        *_OPPOSITES.values(),
        *("in", "inside", "inside of", "on", "on top of", "beneath", "underneath", "atop"),
        *("sitting on", "standing on", "lying on"),
        *("holding", "holds", "carrying", "carries", "wearing", "wears", "riding", "rides"),
        *("eating", "eats", "sitting in", "standing in", "parked on", "hanging from"),
    }
)
"""Predicates that are never symmetric."""

_NAMES_KEPT = 4096


@lru_cache(maxsize=_NAMES_KEPT)
def plain(predicate: str) -> str:
    """Return a predicate in lower case, without a leading "to be" and a trailing article.

    >>> plain("is ON"), plain("has a"), plain("left of")
    ('on', 'has', 'left of')
    """
    words = predicate.lower().split()
    if len(words) > 1 and words[0] in _COPULAS:
        words = words[1:]
    if len(words) > 1 and words[-1] in {"a", "an", "the"}:
        words = words[:-1]
    return " ".join(words)


@lru_cache(maxsize=_NAMES_KEPT)
def claim(predicate: str, *, several: bool = False) -> str:
    """Return a predicate as the verb phrase of a sentence; ``several`` for plural subjects.

    >>> claim("holding"), claim("has"), claim("wear"), claim("has", several=True)
    ('is holding', 'has', 'wears', 'have')
    """
    first, space, rest = plain(predicate).partition(" ")
    if first in _COPULAS:
        return f"{'are' if several else 'is'}{space}{rest}"
    finite = _BASES.get(first, first)
    if not _is_finite(finite):
        return f"{'are' if several else 'is'} {first}{space}{rest}"
    return f"{_base(finite) if several else finite}{space}{rest}"


@lru_cache(maxsize=_NAMES_KEPT)
def clause(predicate: str) -> str:
    """Return a predicate as a modifier of a noun.

    >>> clause("inside"), clause("holding"), clause("has")
    ('inside', 'holding', 'that has')
    """
    said = claim(predicate)
    return said.removeprefix("is ") if said.startswith("is ") else f"that {said}"


def _is_finite(word: str) -> bool:
    return word.endswith("s") and not word.endswith("ss") and word not in _NO_VERBS


def _base(finite: str) -> str:
    if finite in _VERBS:
        return _VERBS[finite]
    if finite.endswith(("sses", "shes", "ches", "xes", "zes")):
        return finite[:-2]
    return finite[:-1]


def opposite(predicate: str) -> str | None:
    """Return a predicate that excludes this one, or None if no opposite is known.

    >>> opposite("left of"), opposite("behind"), opposite("near")
    ('right of', 'in front of', None)
    """
    words = plain(predicate)
    return _OPPOSITES.get(words) or _REVERSED.get(words)


def is_one_way(predicate: str) -> bool:
    """Return whether a predicate never holds in both directions between two instances.

    >>> is_one_way("wearing"), is_one_way("next to")
    (True, False)
    """
    return plain(predicate) in _ONE_WAY

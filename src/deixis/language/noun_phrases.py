"""Articles, plurals and heads of noun phrases; lists and sentences of them."""

import re
from collections.abc import Sequence
from functools import lru_cache

from deixis.language.numbers import count_word

_NAMES_KEPT = 4096

_IRREGULAR = {
    "person": "people",
    "man": "men",
    "woman": "women",
    "child": "children",
    "foot": "feet",
    "mouse": "mice",
    "sheep": "sheep",
    "shelf": "shelves",
    "knife": "knives",
    "skis": "skis",
    "scissors": "scissors",
}
_PLURALS = frozenset(_IRREGULAR.values())

_DETERMINERS = re.compile(
    r"^(?:(?:all|both|each|any)(?: of)? (?:the |these |those )?|every |each |the |an? |any |some |no )",
    re.IGNORECASE,
)
_PLURAL_DETERMINERS = re.compile(r"^(?:all|both)\b", re.IGNORECASE)
_SINGULAR_DETERMINERS = re.compile(r"^(?:every|each|an?)\b", re.IGNORECASE)
_DETERMINED = re.compile(
    r"^(?:the|an?|all|both|every|each|any|some|no|this|that|these|those|my|your|his|her|its)\b",
    re.IGNORECASE,
)

# Words that end the short form of a noun phrase: the rest describes the place or action of the
# instance, not its class.
_CLOSING = re.compile(
    r"(?:,|\b(?:on|in|at|to|of|from|with|without|that|which|who|whose|whom|holding|wearing|held|worn"
    r"|standing|sitting|lying|placed|shown|drawn|next|above|below|under|underneath|beneath|near"
    r"|nearest|closest|farthest|furthest|inside|outside|beside|between|behind|by|over|is|are"
    r"|facing|carrying|hanging)\b).*$",
    re.IGNORECASE,
)
_LOCATION_WORDS = frozenset(
    (
        *("left", "right", "top", "bottom", "leftmost", "rightmost", "topmost", "bottommost"),
        *("upper", "lower", "middle", "center", "centre", "central", "highest", "lowest"),
        *("first", "second", "third", "fourth", "last", "far", "front", "back", "left-hand"),
        *("right-hand", "largest", "smallest", "biggest", "nearest", "closest", "farthest"),
    )
)


def article(phrase: str) -> str:
    """Return ``phrase`` with its indefinite article, a or an by its sound.

    >>> article("orange circle"), article("letter A")
    ('an orange circle', 'a letter A')
    """
    sound = "an" if phrase[:1].lower() in "aeiou" else "a"
    return f"{sound} {phrase}"


def plural(phrase: str) -> str:
    """Return ``phrase`` with its last word in the plural.

    >>> plural("red box"), plural("person"), plural("cross")
    ('red boxes', 'people', 'crosses')
    """
    start, space, noun = phrase.rpartition(" ")
    if noun in _IRREGULAR:
        many = _IRREGULAR[noun]
    elif noun.endswith(("s", "x", "z", "ch", "sh")):
        many = noun + "es"
    elif noun.endswith("y") and noun[-2:-1] not in "aeiou":
        many = noun[:-1] + "ies"
    else:
        many = noun + "s"
    return f"{start}{space}{many}"


def join(items: Sequence[str]) -> str:
    """Return the items as an enumeration.

    >>> join(["a star", "a ring", "a box"])
    'a star, a ring and a box'
    """
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def sentence(words: str) -> str:
    """Return the words with an initial capital and a full stop."""
    return f"{words[:1].upper()}{words[1:]}."


def bare(phrase: str) -> str:
    """Return a noun phrase without its determiner.

    >>> bare("all the letters"), bare("the red circle"), bare("left star")
    ('letters', 'red circle', 'left star')
    """
    return _DETERMINERS.sub("", phrase.strip(), count=1) or phrase


def definite(phrase: str) -> str:
    """Return a noun phrase with its determiner, or with ``the`` if it has none."""
    return phrase if _DETERMINED.match(phrase) else f"the {phrase}"


def head_phrase(phrase: str) -> str:
    """Return the short form of a noun phrase, without the place of the instance.

    >>> head_phrase("the small red circle to the left of the blue square")
    'small red circle'
    >>> head_phrase("top right person in a red shirt")
    'person'
    """
    whole = bare(phrase)
    words = _CLOSING.sub("", whole).split()
    kept = [word for word in words if word.lower() not in _LOCATION_WORDS]
    return " ".join(kept or words) or whole


def is_plural(phrase: str) -> bool:
    """Return whether a noun phrase takes ``are``.

    >>> is_plural("the red circles"), is_plural("every star"), is_plural("the cross on the left")
    (True, False, False)
    """
    if _PLURAL_DETERMINERS.match(phrase):
        return True
    if _SINGULAR_DETERMINERS.match(phrase):
        return False
    noun = head_phrase(phrase).rpartition(" ")[2].lower()
    return noun in _PLURALS or (noun.endswith("s") and not noun.endswith(("ss", "us")))


@lru_cache(maxsize=_NAMES_KEPT)
def many(name: str) -> str:
    """Return the plural of a class name; plurals are unchanged."""
    return name if is_plural(f"the {name}") else plural(name)


@lru_cache(maxsize=_NAMES_KEPT)
def counted(name: str, count: int) -> str:
    """Return a count with a class name, such as ``a ring`` or ``two rings``."""
    if count == 1:
        return name if is_plural(f"the {name}") else article(name)
    return f"{count_word(count)} {many(name)}"


def determiner(name: str) -> str:
    """Return the indefinite article of a class name: ``a ``, ``an ``, or empty for a plural."""
    return counted(name, 1).removesuffix(name)

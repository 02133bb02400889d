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

# Words that end the short form of a noun phrase: what follows says where the thing is or what it
# does, not what it is.
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
    """``phrase`` with the indefinite article that its sound asks for.

    >>> article("orange circle"), article("letter A")
    ('an orange circle', 'a letter A')
    """
    sound = "an" if phrase[:1].lower() in "aeiou" else "a"
    return f"{sound} {phrase}"


def plural(phrase: str) -> str:
    """``phrase`` with its last word in the plural.

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
    """Items as a list in a sentence.

    >>> join(["a star", "a ring", "a box"])
    'a star, a ring and a box'
    """
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def sentence(words: str) -> str:
    """Words with a capital first and a full stop last."""
    return f"{words[:1].upper()}{words[1:]}."


def bare(phrase: str) -> str:
    """A noun phrase without its determiner.

    >>> bare("all the letters"), bare("the red circle"), bare("left star")
    ('letters', 'red circle', 'left star')
    """
    return _DETERMINERS.sub("", phrase.strip(), count=1) or phrase


def definite(phrase: str) -> str:
    """A noun phrase that can stand in a sentence: ``the`` is added where it has no determiner."""
    return phrase if _DETERMINED.match(phrase) else f"the {phrase}"


def head_phrase(phrase: str) -> str:
    """The short form of a noun phrase: what the thing is, without where it is.

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
    """Whether a noun phrase takes ``are``.

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
    """A class name in the plural; one that is a plural already stays."""
    return name if is_plural(f"the {name}") else plural(name)


@lru_cache(maxsize=_NAMES_KEPT)
def counted(name: str, count: int) -> str:
    """So many of a class, as in ``a ring`` or ``two rings``."""
    if count == 1:
        return name if is_plural(f"the {name}") else article(name)
    return f"{count_word(count)} {many(name)}"


def determiner(name: str) -> str:
    """What stands before a class name that is new: ``a ``, ``an ``, or nothing before a plural."""
    return counted(name, 1).removesuffix(name)

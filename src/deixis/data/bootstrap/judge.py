"""Judges descriptions in drawn scenes: is a description true, and of only one instance?

The judge parses a description with a small grammar and looks its words up in the scene's facts. It
is independent of the code that generates descriptions and of what a model has predicted.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from deixis.data.scenes.describe import Extent, Facts, holders, wearers
from deixis.data.scenes.scene import Thing
from deixis.data.scenes.vocabulary import COLORS, FIGURE, NAMES
from deixis.language import bare

_SIZES = {"small": "small", "large": "large", "big": "large", "medium-sized": "medium"}
_TEXTURES = ("plain", "striped", "dotted")
_SHIRT = re.compile(r"(?:in|wearing) an? (?:(plain|striped|dotted) ?)?(\w+)? ?shirt")
_HOLDING = re.compile(r"(?:holding|with) an? (\w+)")
_WEARING = re.compile(r"wearing an? (\w+)")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on a description.

    ``is_read`` is false if the judge cannot parse the words; the other fields are false then.
    ``is_true`` says that every word is true of the instance; ``is_alone`` that the words are also
    not true of another instance, even in a generous reading.
    """

    is_read: bool
    is_true: bool
    is_alone: bool


class _Claim(NamedTuple):
    """Bit sets of instances: those that the words describe, strictly and in a generous reading."""

    true: int
    possible: int


def judge(facts: Facts, index: int, description: str) -> Verdict:
    """Judge a description of instance ``index`` of a scene."""
    claims = _claims(facts, description)
    if claims is None:
        return Verdict(is_read=False, is_true=False, is_alone=False)
    bit = 1 << index
    others = facts.all_bits & ~bit
    for claim in claims:
        others &= claim.possible
    is_true = all(claim.true & bit for claim in claims)
    return Verdict(is_read=True, is_true=is_true, is_alone=is_true and not others)


def _claims(facts: Facts, description: str) -> list[_Claim] | None:
    """Return the claims of a description; None if a word is unknown."""
    words = bare(description.strip().rstrip(".")).lower().split()
    place = next((at for at, word in enumerate(words) if word in {*NAMES, "shape"}), None)
    if place is None:
        return None
    noun, rest = words[place], words[place + 1 :]
    claims = [_having(facts, "family" if noun == "shape" else "name", noun)]
    for word in words[:place]:
        if word in _SIZES:
            claims.append(_having(facts, "size", _SIZES[word]))
        elif word in _TEXTURES:
            claims.append(_having(facts, "texture", word))
        elif word in COLORS:
            claims.append(_having(facts, "color", word))
        else:
            return None
    if noun in {"letter", "digit"} and rest:
        claims.append(_having(facts, "symbol", rest.pop(0).upper()))
    if not rest:
        return claims
    tail = _tail(facts, " ".join(rest)) if noun == FIGURE else None
    return None if tail is None else [*claims, *tail]


def _having(facts: Facts, attribute: str, value: str) -> _Claim:
    bits = facts.attributes.get((attribute, value), 0)
    return _Claim(bits, bits | facts.having(attribute, value).possible)


def _tail(facts: Facts, words: str) -> list[_Claim] | None:
    """Return the claims after the word for a person: the shirt, and what is held and worn."""
    claims: list[_Claim] = []
    while words:
        shirt, holding, wearing = (pattern.match(words) for pattern in (_SHIRT, _HOLDING, _WEARING))
        if shirt is not None and (shirt[1] or shirt[2]):
            if shirt[2] is not None and shirt[2] not in COLORS:
                return None
            pairs = (("texture", shirt[1]), ("color", shirt[2]))
            claims += [_having(facts, name, value) for name, value in pairs if value]
            end = shirt.end()
        elif holding is not None and holding[1] in NAMES:
            claims.append(_using(facts, holding[1], holders(facts, holding[1]), _held))
            end = holding.end()
        elif wearing is not None and wearing[1] in NAMES:
            claims.append(_using(facts, wearing[1], wearers(facts, wearing[1]), _worn))
            end = wearing.end()
        else:
            return None
        words = words[end:].strip()
    return claims


def _using(
    facts: Facts, name: str, extent: Extent, parts: Callable[[Thing], tuple[int, ...]]
) -> _Claim:
    true = 0
    for index, thing in enumerate(facts.things):
        true |= any(facts.things[part].name == name for part in parts(thing)) << index
    return _Claim(true, true | extent.possible)


def _held(thing: Thing) -> tuple[int, ...]:
    return thing.holds


def _worn(thing: Thing) -> tuple[int, ...]:
    return thing.wears

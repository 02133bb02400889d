"""English for questions and answers: noun phrases, numbers, predicates and places."""

from deixis.language.noun_phrases import (
    article,
    bare,
    counted,
    definite,
    determiner,
    head_phrase,
    is_plural,
    join,
    many,
    plural,
    sentence,
)
from deixis.language.numbers import NUMBER_WORDS, count_word
from deixis.language.places import named_sides

__all__ = [
    "NUMBER_WORDS",
    "article",
    "bare",
    "count_word",
    "counted",
    "definite",
    "determiner",
    "head_phrase",
    "is_plural",
    "join",
    "many",
    "named_sides",
    "plural",
    "sentence",
]

"""What questions are worded like, and the little English that questions and answers need."""

from deixis.data.wording.english import (
    article,
    bare,
    count_word,
    definite,
    head_phrase,
    is_plural,
    join,
    plural,
    sentence,
)
from deixis.data.wording.grammar import WORDED_TASKS, wordings

REGION_SLOT = "<region>"
"""Where a region stands in the text of a question about it."""

__all__ = [
    "REGION_SLOT",
    "WORDED_TASKS",
    "article",
    "bare",
    "count_word",
    "definite",
    "head_phrase",
    "is_plural",
    "join",
    "plural",
    "sentence",
    "wordings",
]

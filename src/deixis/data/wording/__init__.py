"""What questions are worded like, and the little English that questions and answers need."""

from deixis.data.wording.custom import Wordings, load_wordings
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
from deixis.data.wording.grammar import wordings
from deixis.data.wording.slots import SLOTS, WORDED_TASKS

REGION_SLOT = "<region>"
"""Where a region stands in the text of a question about it."""

__all__ = [
    "REGION_SLOT",
    "SLOTS",
    "WORDED_TASKS",
    "Wordings",
    "article",
    "bare",
    "count_word",
    "definite",
    "head_phrase",
    "is_plural",
    "join",
    "load_wordings",
    "plural",
    "sentence",
    "wordings",
]

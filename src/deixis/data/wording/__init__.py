"""Wordings of questions: phrase grammars, and wordings of a user."""

from deixis.data.wording.custom import Wordings, load_wordings
from deixis.data.wording.grammar import wordings
from deixis.data.wording.slots import SLOTS, WORDED_TASKS

REGION_SLOT = "<region>"
"""Placeholder of a region in the text of a question."""

__all__ = [
    "REGION_SLOT",
    "SLOTS",
    "WORDED_TASKS",
    "Wordings",
    "load_wordings",
    "wordings",
]

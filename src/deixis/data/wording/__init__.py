"""How questions are worded: phrase grammars, and wordings of one's own."""

from deixis.data.wording.custom import Wordings, load_wordings
from deixis.data.wording.grammar import wordings
from deixis.data.wording.slots import SLOTS, WORDED_TASKS

REGION_SLOT = "<region>"
"""Where a region stands in the text of a question about it."""

__all__ = [
    "REGION_SLOT",
    "SLOTS",
    "WORDED_TASKS",
    "Wordings",
    "load_wordings",
    "wordings",
]

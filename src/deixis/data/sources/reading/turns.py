"""LLaVA's conversations: turns ``from`` a human and a model, each with a ``value``."""

import re

from deixis.data.sources.base import BadRecord
from deixis.data.sources.reading.fields import as_list, as_object, text_field
from deixis.geometry.checks import shown

_ASKING, _ANSWERING = frozenset({"human", "user"}), frozenset({"gpt", "assistant"})
_FIRST = re.compile(r"\A\s*<image>[ \t]*\n?")
# matches a run of blanks only from its start, for linear time
_LAST = re.compile(r"\n?(?:(?<![ \t])[ \t]++)?<image>\s*+\Z")


def exchanges(conversations: object, *, captions: bool = False) -> list[tuple[str, str]]:
    """Return the pairs of question and answer of a conversation, in order.

    ``<image>`` at the start or the end of the first question stands for the image and is removed
    once; elsewhere it is part of the text. With ``captions`` a question may consist of ``<image>``
    alone.

    Raises:
        BadRecord: Turns of a human and a model do not alternate, or a value is not a text.
    """
    turns = [as_object(value, "turn") for value in as_list(conversations, "conversations")]
    if not turns or len(turns) % 2:
        raise BadRecord("bad_record", f"conversations: {len(turns)} turns, expected pairs")
    made = []
    for number, turn in enumerate(turns):
        speaker = text_field(turn, "from")
        if speaker not in (_ANSWERING if number % 2 else _ASKING):
            raise BadRecord("bad_record", f"turn {number}: from {shown(speaker)}")
        made.append(text_field(turn, "value"))
    made[0] = without_placeholder(made[0])
    if not made[0] and not captions:
        raise BadRecord("bad_text", "the first question is nothing but the image")
    return list(zip(made[::2], made[1::2], strict=True))


def without_placeholder(text: str) -> str:
    """Return the first question without its image placeholder."""
    once, count = _FIRST.subn("", text, count=1)
    if not count:
        once = _LAST.sub("", text, count=1)
    return once.strip()

"""Conversations as LLaVA writes them: turns ``from`` a human and from a model, each with a ``value``."""

import re

from deixis.data.sources.base import BadRecord
from deixis.data.sources.reading.fields import as_list, as_object, text_field
from deixis.geometry.checks import shown

_ASKING, _ANSWERING = frozenset({"human", "user"}), frozenset({"gpt", "assistant"})
_FIRST = re.compile(r"\A\s*<image>[ \t]*\n?")
# a run of blanks is tried from its beginning alone
_LAST = re.compile(r"\n?(?:(?<![ \t])[ \t]++)?<image>\s*+\Z")


def exchanges(conversations: object, *, captions: bool = False) -> list[tuple[str, str]]:
    """Return the questions of a conversation, each with its answer, in order.

    ``<image>`` at the beginning or the end of the first question stands for the image and is taken
    off, once. Anywhere else it is words, and stays. Where the answers are ``captions``, a question may
    be nothing else.

    Raises:
        BadRecord: Turns of human and model do not alternate, or a value is not a text.
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
    """Return the first question without the placeholder of the image."""
    once, count = _FIRST.subn("", text, count=1)
    if not count:
        once = _LAST.sub("", text, count=1)
    return once.strip()

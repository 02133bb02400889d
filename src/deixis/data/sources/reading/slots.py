"""Slots for regions in the texts of questions about several regions.

A question about one region has `deixis.data.wording.REGION_SLOT` in its text. In questions about
several, the slot ``<region 3>`` stands for instance 3 of the sample. In questions of kind
``regions``, the question, the answer, the options and the rationale may have slots; each option of
kind ``which`` is a slot.
"""

import re
from collections.abc import Callable, Sequence

from deixis.data.sources.base import BadRecord
from deixis.data.wording import REGION_SLOT
from deixis.structures import QuestionAnswer

_PLACE = re.compile(r"<region (\d{1,9})>")


def place_of(instance: int) -> str:
    """Return the slot of an instance."""
    return f"<region {instance}>"


def places_in(text: str) -> tuple[int, ...]:
    """Return the instances of all slots in a text, in order, with repetitions."""
    return tuple(int(number) for number in _PLACE.findall(text))


def fill(pattern: re.Pattern[str], text: str, found: Callable[[int], int]) -> str:
    """Replace the regions in a source's text by slots.

    Args:
        pattern: The form of a region in the source; its first group is a number.
        text: The text.
        found: Returns the instance of a number, or raises `BadRecord`.

    Raises:
        BadRecord: A number has no instance, or the text already contains a slot.
    """
    check_no_places(text)
    return pattern.sub(lambda match: place_of(found(int(match[1]))), text)


def check_no_places(text: str) -> None:
    """Check that a text of a source contains no slots.

    Raises:
        BadRecord: The text contains a slot.
    """
    if _PLACE.search(text) or REGION_SLOT in text:
        raise BadRecord("bad_text", "the text contains the slot of a region")


def about_regions(
    question: str,
    answer: str,
    *,
    kind: str = "",
    options: Sequence[str] = (),
    rationale: str = "",
) -> QuestionAnswer:
    """Return a question from texts with slots.

    If the only slot is in the question, the kind is ``region``; without slots it is ``vqa``. A given
    ``kind`` replaces these two. Otherwise the kind is ``regions``, and ``instance`` is the instance
    of the first slot.
    """
    others = [answer, *options, rationale]
    asked = places_in(question)
    elsewhere = [instance for text in others for instance in places_in(text)]
    if not asked and not elsewhere:
        return QuestionAnswer(
            question, answer, kind=kind or "vqa", options=tuple(options), rationale=rationale
        )
    first = (*asked, *elsewhere)[0]
    if len(asked) == 1 and not elsewhere:
        question = question.replace(place_of(first), REGION_SLOT)
        kind = kind or "region"
    else:
        kind = "regions"
    return QuestionAnswer(
        question, answer, instance=first, kind=kind, options=tuple(options), rationale=rationale
    )

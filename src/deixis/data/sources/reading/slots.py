"""Regions that stand in the text of a question about several of them.

A question about one region has `deixis.data.wording.REGION_SLOT` in its text. Where there are
several, each place says which: ``<region 3>`` is the instance 3 of the sample. The question, the
answer, the options and the rationale of questions of kind ``regions`` may all hold such places, and
the options of kind ``which`` are nothing else.
"""

import re
from collections.abc import Callable, Sequence

from deixis.data.sources.base import BadRecord
from deixis.data.wording import REGION_SLOT
from deixis.structures import QuestionAnswer

_PLACE = re.compile(r"<region (\d{1,9})>")


def place_of(instance: int) -> str:
    """Return the text that stands for an instance."""
    return f"<region {instance}>"


def places_in(text: str) -> tuple[int, ...]:
    """Return the instances that stand in a text, in order, each as often as it does."""
    return tuple(int(number) for number in _PLACE.findall(text))


def fill(pattern: re.Pattern[str], text: str, found: Callable[[int], int]) -> str:
    """Put places into a text, where a pattern's first group numbers a region of the source.

    Args:
        pattern: What the source writes; its first group is a number.
        text: The text.
        found: Gives the instance of a number, or raises `BadRecord`.

    Raises:
        BadRecord: A number means no instance, or the text holds a place already.
    """
    check_no_places(text)
    return pattern.sub(lambda match: place_of(found(int(match[1]))), text)


def check_no_places(text: str) -> None:
    """Check that a text of a source contains no slot for a region.

    Raises:
        BadRecord: The text contains a slot.
    """
    if _PLACE.search(text) or REGION_SLOT in text:
        raise BadRecord("bad_text", "the text holds what stands for a region")


def about_regions(
    question: str,
    answer: str,
    *,
    kind: str = "",
    options: Sequence[str] = (),
    rationale: str = "",
) -> QuestionAnswer:
    """Return a question whose texts hold places.

    With one instance, which stands nowhere but in the question, it is a question about that
    instance, of kind ``region``. With none, it is one about the image, of kind ``vqa``. A ``kind``
    replaces these two. Else it is of kind ``regions``, and its ``instance`` is the first that stands
    anywhere.
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

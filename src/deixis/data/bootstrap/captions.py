"""Grounded captions whose boxes become those of annotated things."""

from collections.abc import Sequence
from typing import Any

from deixis.data.bootstrap.round_trip import overlap, reference_box
from deixis.geometry import Box
from deixis.structures import Answer, GroundedPhrase


def remapped(answer: Answer, boxes: Sequence[Box], *, iou: float) -> dict[str, Any] | None:
    """A caption whose phrases name true things, as a JSON-lines file has it.

    Each box that the model gave goes to the true box that it meets best, if they overlap by more
    than ``iou``. A phrase keeps its place where all its boxes have found things, each another one;
    any other phrase is plain text from now on. None where no phrase is left, or the caption was
    cut off.
    """
    if answer.finish_reason == "length" or not answer.text.strip():
        return None
    phrases = []
    for phrase in answer.phrases:
        objects = _objects(phrase, boxes, iou)
        if objects and phrase.start < phrase.end:
            phrases.append({"start": phrase.start, "end": phrase.end, "objects": objects})
    if not phrases:
        return None
    return {"text": answer.text, "phrases": phrases}


def _objects(phrase: GroundedPhrase, boxes: Sequence[Box], iou: float) -> list[int]:
    found = []
    for reference in phrase.references:
        box = reference_box(reference)
        if box is None or not boxes:
            return []
        overlaps = [overlap(box, true) for true in boxes]
        best = max(range(len(boxes)), key=lambda number: (overlaps[number], -number))
        if overlaps[best] <= iou or best in found:
            return []
        found.append(best)
    return found

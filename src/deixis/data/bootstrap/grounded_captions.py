"""Grounded captions whose boxes are replaced by those of annotated instances."""

from collections.abc import Sequence
from typing import Any

from deixis.data.bootstrap.round_trip import reference_box
from deixis.geometry import Box, overlap_of_boxes
from deixis.structures import Answer, GroundedPhrase


def remapped(answer: Answer, boxes: Sequence[Box], *, iou: float) -> dict[str, Any] | None:
    """Return a caption whose phrases point at annotated instances, as a field of a JSON line.

    Each predicted box is assigned to the true box of largest IoU, if that is more than ``iou``. A
    phrase is kept if all its boxes are assigned, each to a different instance; other phrases become
    plain text. None if no phrase is left or the caption is truncated.
    """
    if answer.finish_reason == "length" or not answer.text.strip():
        return None
    phrases = []
    for phrase in answer.phrases:
        instances = _instances(phrase, boxes, iou)
        if instances and phrase.start < phrase.end:
            phrases.append({"start": phrase.start, "end": phrase.end, "objects": instances})
    if not phrases:
        return None
    return {"text": answer.text, "phrases": phrases}


def _instances(phrase: GroundedPhrase, boxes: Sequence[Box], iou: float) -> list[int]:
    found = []
    for reference in phrase.references:
        box = reference_box(reference)
        if box is None or not boxes:
            return []
        overlaps = [overlap_of_boxes(box, true) for true in boxes]
        best = max(range(len(boxes)), key=lambda number: (overlaps[number], -number))
        if overlaps[best] <= iou or best in found:
            return []
        found.append(best)
    return found

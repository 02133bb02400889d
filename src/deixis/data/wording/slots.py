"""The tasks with wordings, and the slots of each task's wordings."""

import re
from collections.abc import Mapping

from deixis.errors import RecipeError

SLOTS: Mapping[str, frozenset[str]] = {
    "box_keypoint": frozenset({"x"}),
    "caption": frozenset(),
    "caption_detailed": frozenset(),
    "choice": frozenset({"question", "options"}),
    "count": frozenset({"names"}),
    "count_example": frozenset({"region"}),
    "count_words": frozenset({"names"}),
    "depth": frozenset(),
    "detection": frozenset({"name", "names"}),
    "detection_all": frozenset(),
    "detection_example": frozenset({"region"}),
    "detection_names": frozenset({"list"}),
    "gcg": frozenset(),
    "gcg_box": frozenset(),
    "gcg_mask": frozenset(),
    "ground_caption": frozenset({"text"}),
    "ground_caption_mask": frozenset({"text"}),
    "interactive_box": frozenset({"region"}),
    "interactive_keypoint": frozenset({"region"}),
    "interactive_mask": frozenset({"region"}),
    "keypoint": frozenset({"names"}),
    "keypoint_named": frozenset({"x"}),
    "loc_tag": frozenset({"region"}),
    "locate": frozenset({"x", "is"}),
    "point_out": frozenset({"x", "is"}),
    "quadrant_both": frozenset({"quadrant", "anchor"}),
    "quadrant_box": frozenset({"quadrant", "anchor"}),
    "quadrant_class": frozenset({"quadrant", "anchor"}),
    "reason_answer": frozenset({"question"}),
    "rec": frozenset({"x", "is"}),
    "ref_tag": frozenset({"x", "is"}),
    "reg": frozenset({"region"}),
    "reg_unique": frozenset({"region"}),
    "region_caption_grounded": frozenset({"region"}),
    "relation": frozenset({"region", "other"}),
    "relation_object_both": frozenset({"region", "predicate"}),
    "relation_object_box": frozenset({"region", "predicate"}),
    "relation_object_class": frozenset({"region", "predicate"}),
    "res": frozenset({"x"}),
    "salient": frozenset(),
    "segmentation": frozenset({"name", "names"}),
    "segmentation_all": frozenset(),
    "segmentation_example": frozenset({"region"}),
    "segmentation_names": frozenset({"list"}),
    "semantic": frozenset({"name"}),
    "short_answer": frozenset({"question"}),
    "statement": frozenset({"text"}),
    "video_caption": frozenset(),
    "video_caption_detailed": frozenset(),
    "which_box": frozenset({"question", "options"}),
}
"""The allowed slots in the wordings of each task.

A wording has each slot of its task once. Three may be left out: ``is``, the verb that agrees with
``x``; ``names`` of ``keypoint``; and one of ``name`` and ``names``, the class in singular and plural,
if a task has both.
"""

WORDED_TASKS = tuple(sorted(SLOTS))
"""Tasks with wordings; questions of other tasks come from the annotations."""

_SLOT = re.compile(r"{([a-z_]+)}")


def check_wording(task: str, text: str, *, where: str) -> None:
    """Check that a wording has the slots of its task.

    Raises:
        RecipeError: The wording is blank or has an unprintable character or a stray brace, or a
            slot is missing, unknown or appears twice.
    """
    told = f"{where}: wording {text[:80]!r}"
    if not text.strip():
        raise RecipeError(f"{told} is blank, expected a question")
    if not text.replace("\n", " ").isprintable():
        raise RecipeError(f"{told} has a character that cannot be printed, expected plain text")
    if re.search(r"[{}<>]", _SLOT.sub("", text)):
        raise RecipeError(f"{told} has a stray brace or angle, expected {{slot}} or <rule>")
    slots = _SLOT.findall(text)
    for slot in slots:
        if slot not in SLOTS[task]:
            raise RecipeError(f"{told} has an unknown slot {{{slot}}}, expected {_listed(task)}")
        if slots.count(slot) > 1:
            raise RecipeError(f"{told} has its slot {{{slot}}} twice, expected it once")
    lacking = _needed(task) - set(slots)
    if {"name", "names"} <= SLOTS[task] and not {"name", "names"} & set(slots):
        lacking |= {"names"}
    if lacking:
        raise RecipeError(f"{told} lacks its slot {{{min(lacking)}}}, expected {_listed(task)}")


def _needed(task: str) -> frozenset[str]:
    slots = SLOTS[task] - {"is"}
    if task == "keypoint" or {"name", "names"} <= slots:
        return slots - {"name", "names"}
    return slots


def _listed(task: str) -> str:
    return ", ".join(f"{{{slot}}}" for slot in sorted(SLOTS[task])) or "no slots"

"""COCO-Interactive: points, scribbles, boxes and masks as prompts for COCO's instances.

A list of images (as PSALM's script makes it): ``image_info`` is COCO's record of the image, ``anns`` are
COCO's annotations, each with four prompts ``point_visual_prompt_mask``, ``scribble_…``, ``box_…`` and
``mask_…`` as run lengths of the image's size. Categories are COCO's 80, by number.

Each prompt is the ``region`` of a question of kind ``prompt_point`` (``prompt_scribble``, ``prompt_box``,
``prompt_mask``) about its instance. A point that is one pixel becomes the middle of it, a box that
fills its pixels a box; everything else stays a mask, since an object of several pieces
has several points. A prompt without pixels, which the script makes of thin objects, is left out and
counted as note ``prompt_empty``. Tested on files written by hand to the published format.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.coco_records import COCO_CATEGORIES, Annotated, image_in
from deixis.data.sources.reading.fields import (
    as_key,
    as_list,
    as_object,
    read_mask,
    record,
    required,
    sortable,
)
from deixis.data.sources.reading.file_names import first_folder
from deixis.data.sources.reading.questions import Fields, the_file
from deixis.data.sources.reading.records import Record, parts_of, records
from deixis.data.wording import REGION_SLOT
from deixis.geometry import Mask, Point
from deixis.structures import QuestionAnswer, Region, Sample

PROMPTS = ("point", "scribble", "box", "mask")


@dataclass(frozen=True, slots=True)
class CocoInteractive:
    """A file of COCO-Interactive, and the folder of the images."""

    name: str
    path: Path
    images: Path
    split: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The file."""
        return (str(self.path),)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part per image."""
        return parts_of(records(self.path), self._part)

    def _part(self, one: Record) -> Part:
        info = as_object(required(as_object(one.value, "record"), "image_info"), "image")
        return Part(as_key(required(info, "id"), "id"), "image", "", one.place, one.text)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of an image with its annotations and prompts."""
        place = parts[0].place
        if len(parts) > 1:
            return Reading(
                None, (RecordProblem("duplicate_image", f"{len(parts)} records", place),)
            )
        try:
            fields = record(parts[0])
            path, size = image_in(as_object(required(fields, "image_info"), "image"), self.images)
            listed = as_list(required(fields, "anns"), "anns")
        except BadRecord as error:
            return Reading(None, (error.problem(place),))
        annotated = Annotated(size, COCO_CATEGORIES)
        asked: list[QuestionAnswer] = []
        for number, value in enumerate(listed):
            where = f"{place}, anns[{number}]"
            try:
                one = as_object(value, "annotation")
                index = annotated.add(sortable(as_key(required(one, "id"), "id")), one)
            except BadRecord as error:
                annotated.problem(error, where, value if isinstance(value, dict) else None)
                continue
            for kind in PROMPTS:
                try:
                    asked += _prompts(one, kind, index, annotated)
                except BadRecord as error:
                    annotated.remark(error, f"{where}, {kind}")
        sample = Sample(
            id=f"{self.name}/{key}",
            image=path,
            size=size,
            instances=tuple(annotated.instances),
            questions=tuple(asked),
            source=self.name,
            split=self.split,
            left_out=annotated.left_out(),
        )
        return Reading(sample, tuple(annotated.problems), tuple(sorted(annotated.notes.items())))


def _prompts(fields: Fields, kind: str, index: int, annotated: Annotated) -> list[QuestionAnswer]:
    value = fields.get(f"{kind}_visual_prompt_mask")
    if value is None:
        return []
    mask = read_mask(value, annotated.size)
    if mask.is_empty:
        annotated.notes["prompt_empty"] = annotated.notes.get("prompt_empty", 0) + 1
        return []
    return [
        QuestionAnswer(
            f"What is {REGION_SLOT}?",
            annotated.instances[index].category,
            instance=index,
            region=_region(mask, kind),
            kind=f"prompt_{kind}",
        )
    ]


def _region(mask: Mask, kind: str) -> Region:
    if kind == "point" and mask.area == 1:
        row, column = np.argwhere(mask.array)[0].tolist()
        return Point(column + 0.5, row + 0.5)
    if kind == "box":
        box = mask.to_box()
        if box.area == mask.area:
            return box
    return mask


def open_coco_interactive(
    path: Path, *, name: str = "coco_interactive", images: Path | None = None, split: str = "val"
) -> CocoInteractive:
    """Open ``coco_interactive_SPLIT_psalm.json``, or its folder.

    Images are in the given folder ``images``, else in ``SPLIT2017`` beside the file, else beside the file.

    Raises:
        AnnotationError: The file is missing.
    """
    file = the_file(path, f"coco_interactive_{split}_psalm.json")
    images = images or first_folder(file.parent / f"{split}2017", file.parent)
    return CocoInteractive(name, file, images, split)

"""Writes deixis JSON lines, one image per line; `deixis.data.sources.jsonl` reads them."""

from pathlib import Path
from typing import Any

from deixis.data.export.coco import segmentation
from deixis.data.export.files import Records
from deixis.data.export.items import Item, Losses
from deixis.geometry import COCO_KEYPOINTS, Box, Mask, Point
from deixis.structures import GroundedText, Instance, QuestionAnswer, Reference, Region, Sample


class JsonLinesWriter:
    """Writes one file of JSON lines."""

    carries = frozenset(
        {
            *("masks", "keypoints", "crowd flags", "attributes", "relations", "expressions"),
            *("captions", "phrases of captions", "questions", "absent classes"),
            *("salient instances", "images that are not exhaustive", "turned boxes", "scores"),
        }
    )
    needs_look = False

    def __init__(self, path: Path, losses: Losses) -> None:
        self.losses = losses
        self.lines = Records(path)

    def look(self, sample: Sample) -> None:
        """Do nothing."""

    def add(self, item: Item) -> None:
        """Write a line."""
        sample = item.sample
        line: dict[str, Any] = {
            "id": item.key,
            "image": item.file_name,
            "width": sample.size.width,
            "height": sample.size.height,
        }
        if sample.split:
            line["split"] = sample.split
        partial = incomplete(sample)
        if partial is not None:
            line["exhaustive"] = True
        line |= {
            name: values
            for name, values in (
                ("objects", [_object(one) for one in sample.instances]),
                (
                    "relations",
                    [[one.subject, one.predicate, one.object] for one in sample.relations],
                ),
                ("expressions", [_expression(sample, n) for n in range(len(sample.expressions))]),
                ("captions", [self._caption(one, sample) for one in sample.captions]),
                ("questions", self._questions(sample)),
                ("absent", list(sample.absent_categories)),
                ("not_exhaustive", partial),
            )
            if values
        }
        if sample.salient is not None:
            line["salient"] = sample.salient
        self.lines.add([line])

    def finish(self) -> None:
        """Finish the file."""
        self.lines.close()

    def close(self) -> None:
        """Close the file."""
        self.lines.close()

    def _caption(self, caption: GroundedText, sample: Sample) -> object:
        if not caption.phrases:
            return caption.text
        phrases = []
        for phrase in caption.phrases:
            found = [_pointed_at(one, sample.instances) for one in phrase.references]
            objects = [index for index in found if index is not None]
            self.losses.add("units of phrases that are no instances", len(found) - len(objects))
            phrases.append({"start": phrase.start, "end": phrase.end, "objects": objects})
        return {"text": caption.text, "phrases": phrases}

    def _questions(self, sample: Sample) -> list[dict[str, Any]]:
        made = []
        for question in sample.questions:
            fields: dict[str, Any] = {"question": question.question, "answer": question.answer}
            if question.region is not None:
                region = _region(question.region)
                if region is None:
                    self.losses.add("questions about scribbles")
                    continue
                fields["region"] = region
            made.append(fields | _rest(question))
        return made


def incomplete(sample: Sample) -> list[str] | None:
    """Return the classes that are not exhaustive; None if the image has no exhaustive class."""
    left_out = sample.left_out
    if left_out.unknown or left_out.others:
        return None
    present = {one.category for one in sample.instances}
    return sorted(left_out.categories | left_out.broader & present)


def _rest(question: QuestionAnswer) -> dict[str, Any]:
    fields: dict[str, Any] = {"kind": question.kind}
    if question.instance is not None:
        fields["object"] = question.instance
    if question.options:
        fields["options"] = list(question.options)
    if question.rationale:
        fields["rationale"] = question.rationale
    return fields


def _object(instance: Instance) -> dict[str, Any]:
    box = instance.box
    fields: dict[str, Any] = {
        "category": instance.category,
        "box": [box.x1, box.y1, box.x2, box.y2],
    }
    if instance.mask is not None:
        fields["mask"] = segmentation(instance.mask.to_annotation())
    if instance.keypoints is not None:
        fields["keypoints"] = instance.keypoints.to_annotation()
        if instance.keypoints.names != COCO_KEYPOINTS:
            fields["keypoint_names"] = list(instance.keypoints.names)
    if instance.oriented is not None:
        fields["oriented"] = instance.oriented.flat()
    if instance.score is not None:
        fields["score"] = instance.score
    if instance.attributes:
        fields["attributes"] = list(instance.attributes)
    if instance.crowd:
        fields["crowd"] = True
    return fields


def _expression(sample: Sample, number: int) -> dict[str, Any]:
    one = sample.expressions[number]
    return {"text": one.text, "objects": list(one.instances), "family": one.family}


def _region(region: Region) -> dict[str, Any] | None:
    match region:
        case Box():
            return {"box": [region.x1, region.y1, region.x2, region.y2]}
        case Point():
            return {"point": [region.x, region.y]}
        case Mask():
            return {"mask": segmentation(region.to_annotation())}
        case _:
            return None


def _pointed_at(reference: Reference, instances: tuple[Instance, ...]) -> int | None:
    """Return the index of the instance whose box, mask or keypoints a phrase points at, or None."""
    boxes = [unit for unit in reference.units if isinstance(unit, Box)]
    others = [unit for unit in reference.units if unit is not None and not isinstance(unit, Box)]
    fitting = [
        index
        for index, one in enumerate(instances)
        if all(one.box == box for box in boxes) and (boxes or others)
    ]
    for index in fitting:
        one = instances[index]
        if all(unit is one.mask or unit is one.keypoints for unit in others):
            return index
    for index in fitting:
        one = instances[index]
        if all(unit in (one.mask, one.keypoints) for unit in others):
            return index
    return None

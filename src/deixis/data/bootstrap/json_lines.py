"""Kept descriptions of an image as a line that `deixis.data.sources.jsonl` reads."""

from typing import Any

from deixis.data.build.stored_images import image_name
from deixis.data.export.jsonl import incomplete
from deixis.data.sources.base import BadRecord
from deixis.data.sources.registry import OpenedSource
from deixis.data.wording import REGION_SLOT
from deixis.geometry import Box, Keypoints
from deixis.structures import Instance, Sample, Video


def image_fields(sample: Sample, source: OpenedSource) -> dict[str, Any]:
    """Return the fields of an image and all of its instances, so that their indices stay the same.

    Raises:
        BadRecord: The image is not a file, or the sample is a video.
    """
    if isinstance(sample.image, Video):
        raise BadRecord("bad_record", "is of a video, which has no instances")
    partial = incomplete(sample)
    fields: dict[str, Any] = {
        "id": sample.id,
        "image": image_name(sample.image, source.root),
        "width": sample.size.width,
        "height": sample.size.height,
        "exhaustive": partial is not None,
        "objects": [_instance(instance) for instance in sample.instances],
    }
    if partial:
        fields["not_exhaustive"] = partial
    return {**fields, "split": sample.split} if sample.split else fields


def corners(box: Box) -> list[float]:
    """Return a box as xyxy numbers for a line."""
    return [box.x1, box.y1, box.x2, box.y2]


def _instance(instance: Instance) -> dict[str, Any]:
    fields: dict[str, Any] = {"category": instance.category, "box": corners(instance.box)}
    if instance.mask is not None:
        annotation = instance.mask.to_annotation()
        fields["mask"] = annotation.get("polygons", annotation)
    if instance.keypoints is not None:
        fields |= _keypoints(instance.keypoints)
    if instance.attributes:
        fields["attributes"] = list(instance.attributes)
    if instance.crowd:
        fields["crowd"] = True
    return fields


def _keypoints(keypoints: Keypoints) -> dict[str, Any]:
    numbers = [
        number
        for (x, y), seen in zip(
            keypoints.positions.tolist(), keypoints.visibility.tolist(), strict=True
        )
        for number in (x, y, seen)
    ]
    return {"keypoints": numbers, "keypoint_names": list(keypoints.names)}


def description(index: int, answer: str, model: str) -> dict[str, Any]:
    """Return a description as a question with its answer; ``model`` is the model that gave it."""
    return {
        "question": f"What is {REGION_SLOT}?",
        "answer": answer,
        "object": index,
        "kind": "description",
        "provenance": {"model": model},
    }

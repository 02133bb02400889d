"""Writes COCO: instances, keypoints and captions.

Boxes are ``[x, y, width, height]``, masks compressed run lengths, keypoints COCO's 17.
"""

from collections.abc import Iterator

from deixis.data.scenes.export.files import JsonValue, OutputFolder
from deixis.data.scenes.export.scene_items import CATEGORY_IDS, DESCRIPTION, Item
from deixis.data.scenes.vocabulary import (
    CONTAINERS,
    FIGURE,
    HOLDABLES,
    SHAPES,
    SURFACES,
    WEARABLES,
)
from deixis.geometry import COCO_KEYPOINTS
from deixis.structures import Instance

# pairs of keypoints, counted from 1, between which COCO draws a line
_SKELETON = (
    *((16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9)),
    *((8, 10), (9, 11), (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7)),
)

_GROUPS = {
    "shape": SHAPES,
    "holdable": HOLDABLES,
    "wearable": WEARABLES,
    "container": CONTAINERS,
    "surface": SURFACES,
    "person": (FIGURE,),
    "symbol": ("letter", "digit"),
}


def write_coco(folder: OutputFolder, items: Iterator[Item], split: str) -> None:
    """Write ``<split>/*.png`` and three files in ``annotations/``."""
    images: list[JsonValue] = []
    instances: list[JsonValue] = []
    people: list[JsonValue] = []
    captions: list[JsonValue] = []
    for item in items:
        folder.image(f"{split}/{item.file_name}", item.scene.image)
        images.append(image_record(item))
        for instance in item.sample.instances:
            record = instance_record(instance, number=len(instances) + 1, image=item.id)
            instances.append(record)
            if instance.keypoints is not None:
                people.append({**record, **_keypoint_fields(instance)})
        for caption in item.sample.captions:
            number = len(captions) + 1
            captions.append({"id": number, "image_id": item.id, "caption": caption.text})
    head = header(split)
    head["images"] = images
    person: JsonValue = {
        "id": CATEGORY_IDS[FIGURE],
        "name": FIGURE,
        "supercategory": "person",
        "keypoints": list(COCO_KEYPOINTS),
        "skeleton": [list(pair) for pair in _SKELETON],
    }
    folder.json(f"annotations/captions_{split}.json", {**head, "annotations": captions})
    folder.json(
        f"annotations/person_keypoints_{split}.json",
        {**head, "annotations": people, "categories": [person]},
    )
    folder.json(
        f"annotations/instances_{split}.json",
        {**head, "annotations": instances, "categories": category_records()},
    )


def header(split: str) -> dict[str, JsonValue]:
    """Return the first fields of every COCO file."""
    info: JsonValue = {"description": DESCRIPTION, "version": "1.0", "split": split}
    return {"info": info, "licenses": []}


def category_records() -> list[JsonValue]:
    """Return COCO's records of all classes, present or not."""
    groups = {name: group for group, names in _GROUPS.items() for name in names}
    return [
        {"id": number, "name": name, "supercategory": groups[name]}
        for name, number in CATEGORY_IDS.items()
    ]


def image_record(item: Item) -> dict[str, JsonValue]:
    """Return COCO's record of a picture."""
    return {
        "id": item.id,
        "file_name": item.file_name,
        "width": item.scene.size.width,
        "height": item.scene.size.height,
    }


def instance_record(instance: Instance, *, number: int, image: int) -> dict[str, JsonValue]:
    """Return COCO's record of an instance."""
    area = instance.box.area if instance.mask is None else float(instance.mask.area)
    segmentation: JsonValue = []
    if instance.mask is not None:
        segmentation = instance.mask.to_coco(compressed=True)
    return {
        "id": number,
        "image_id": image,
        "category_id": CATEGORY_IDS[instance.category],
        "bbox": list(instance.box.to_xywh()),
        "area": area,
        "segmentation": segmentation,
        "iscrowd": int(instance.crowd),
    }


def _keypoint_fields(instance: Instance) -> dict[str, JsonValue]:
    keypoints = instance.keypoints
    if keypoints is None:
        return {}
    flat: list[JsonValue] = []
    for (x, y), visibility in zip(
        keypoints.positions.tolist(), keypoints.visibility.tolist(), strict=True
    ):
        flat += [round(x, 2), round(y, 2), visibility]
    return {"keypoints": flat, "num_keypoints": int((keypoints.visibility > 0).sum())}

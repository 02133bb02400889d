"""Writes Visual Genome: objects, attributes, relationships, regions, questions and answers.

Boxes are ``x``, ``y``, ``w``, ``h`` in whole pixels (``width`` and ``height`` for regions).
"""

from collections.abc import Iterator

from deixis.data.scenes.export.files import JsonValue, OutputFolder
from deixis.data.scenes.export.scene_items import Item
from deixis.data.wording import REGION_SLOT
from deixis.geometry import Box
from deixis.structures import Instance

_OBJECTS_PER_IMAGE = 1000
"""Object numbers of picture *n* begin at *n* thousand, so that they are unique."""


def write_visual_genome(folder: OutputFolder, items: Iterator[Item], split: str) -> None:
    """Write ``VG_100K/*.png`` and the six official files; a folder holds one split."""
    files: dict[str, list[JsonValue]] = {
        name: []
        for name in (
            *("image_data", "objects", "attributes", "relationships"),
            *("region_descriptions", "question_answers"),
        )
    }
    regions = questions = relationships = 0
    for item in items:
        folder.image(f"VG_100K/{item.id}.png", item.scene.image)
        size = item.scene.size
        files["image_data"].append(
            {
                "image_id": item.id,
                "url": f"VG_100K/{item.id}.png",
                "width": size.width,
                "height": size.height,
                "coco_id": None,
                "flickr_id": None,
                "split": split,
            }
        )
        files["objects"].append({"image_id": item.id, "objects": _objects(item)})
        files["attributes"].append({"image_id": item.id, "attributes": _attributes(item)})
        linked = _relationships(item, first=relationships + 1)
        files["relationships"].append({"image_id": item.id, "relationships": linked})
        described = _regions(item, first=regions + 1)
        files["region_descriptions"].append({"id": item.id, "regions": described})
        asked = _questions(item, first=questions + 1)
        files["question_answers"].append({"id": item.id, "qas": asked})
        relationships += len(linked)
        regions += len(described)
        questions += len(asked)
    for name, content in files.items():
        folder.json(f"{name}.json", content)


def _corner(box: Box) -> dict[str, JsonValue]:
    x, y, width, height = (round(value) for value in box.to_xywh())
    return {"x": x, "y": y, "w": width, "h": height}


def _object_id(item: Item, index: int) -> int:
    return item.id * _OBJECTS_PER_IMAGE + index


def _name(instance: Instance) -> str:
    symbol = instance.attributes[-1] if instance.category in {"letter", "digit"} else ""
    return f"{instance.category} {symbol}".strip()


def _objects(item: Item) -> list[JsonValue]:
    return [
        {
            "object_id": _object_id(item, index),
            **_corner(instance.box),
            "names": [_name(instance)],
            "synsets": [],
            "merged_object_ids": [],
        }
        for index, instance in enumerate(item.sample.instances)
    ]


def _attributes(item: Item) -> list[JsonValue]:
    return [
        {
            "object_id": _object_id(item, index),
            **_corner(instance.box),
            "names": [_name(instance)],
            "attributes": list(instance.attributes),
            "synsets": [],
        }
        for index, instance in enumerate(item.sample.instances)
    ]


def _relationships(item: Item, *, first: int) -> list[JsonValue]:
    def end(index: int) -> JsonValue:
        instance = item.sample.instances[index]
        return {
            "object_id": _object_id(item, index),
            **_corner(instance.box),
            "name": _name(instance),
            "synsets": [],
            "merged_object_ids": [],
        }

    return [
        {
            "relationship_id": number,
            "predicate": relation.predicate,
            "synsets": [],
            "subject": end(relation.subject),
            "object": end(relation.object),
        }
        for number, relation in enumerate(item.sample.relations, start=first)
    ]


def _regions(item: Item, *, first: int) -> list[JsonValue]:
    described = [
        (question.instance, question.answer.rstrip("."))
        for question in item.sample.questions
        if question.kind == "description" and question.instance is not None
    ]
    records: list[JsonValue] = []
    for number, (index, phrase) in enumerate(described, start=first):
        x, y, width, height = (round(value) for value in item.sample.instances[index].box.to_xywh())
        records.append(
            {
                "region_id": number,
                "image_id": item.id,
                "phrase": phrase,
                "x": x,
                "y": y,
                "width": width,
                "height": height,
            }
        )
    return records


def _questions(item: Item, *, first: int) -> list[JsonValue]:
    asked = [
        question
        for question in item.sample.questions
        if question.instance is None and REGION_SLOT not in question.question
    ]
    return [
        {
            "qa_id": number,
            "image_id": item.id,
            "question": question.question,
            "answer": question.answer,
            "q_objects": [],
            "a_objects": [],
        }
        for number, question in enumerate(asked, start=first)
    ]

"""Writes RefCOCO: expressions for single instances, and the instances as COCO.

The three sets of the family are ``refs_location.json`` (RefCOCO: all words allowed),
``refs_appearance.json`` (RefCOCO+: no location words) and ``refs_long.json`` (RefCOCOg). The official
files hold the same records as pickles. ``testA`` refers to figures, ``testB`` to other classes.
"""

from collections.abc import Iterator

from deixis.data.scenes.export.coco import (
    category_records,
    header,
    image_record,
    instance_record,
)
from deixis.data.scenes.export.files import JsonValue, OutputFolder
from deixis.data.scenes.export.scene_items import CATEGORY_IDS, Item
from deixis.data.scenes.vocabulary import FIGURE

_SETS = ("location", "appearance", "long")


def write_refcoco(folder: OutputFolder, items: Iterator[Item], split: str) -> None:
    """Write ``images/*.png``, ``instances_<split>.json`` and ``refs_<set>_<split>.json``."""
    images: list[JsonValue] = []
    instances: list[JsonValue] = []
    references: dict[str, list[JsonValue]] = {name: [] for name in _SETS}
    numbers = dict.fromkeys(_SETS, 0)
    for item in items:
        folder.image(f"images/{item.file_name}", item.scene.image)
        images.append(image_record(item))
        first = len(instances) + 1
        for instance in item.sample.instances:
            number = len(instances) + 1
            instances.append(instance_record(instance, number=number, image=item.id))
        for name in _SETS:
            for target, texts in _by_target(item, name, split).items():
                sentences: list[JsonValue] = []
                for text in texts:
                    sentences.append(_sentence(text, numbers[name]))
                    numbers[name] += 1
                category = item.sample.instances[target].category
                references[name].append(
                    {
                        "ref_id": len(references[name]) + 1,
                        "ann_id": first + target,
                        "image_id": item.id,
                        "category_id": CATEGORY_IDS[category],
                        "file_name": item.file_name,
                        "split": split,
                        "sent_ids": [
                            entry["sent_id"] for entry in sentences if isinstance(entry, dict)
                        ],
                        "sentences": sentences,
                    }
                )
    for name in _SETS:
        folder.json(f"refs_{name}_{split}.json", references[name])
    head = header(split)
    content = {**head, "images": images, "annotations": instances, "categories": category_records()}
    folder.json(f"instances_{split}.json", content)


def _by_target(item: Item, name: str, split: str) -> dict[int, list[str]]:
    texts: dict[int, list[str]] = {}
    for expression in item.sample.expressions:
        if expression.family != name or len(expression.instances) != 1:
            continue
        (target,) = expression.instances
        is_figure = item.sample.instances[target].category == FIGURE
        if split in {"testA", "testB"} and is_figure != (split == "testA"):
            continue
        texts.setdefault(target, []).append(expression.text)
    return texts


def _sentence(text: str, number: int) -> JsonValue:
    tokens: list[JsonValue] = list(text.lower().split())
    return {"sent_id": number, "raw": text, "sent": text.lower(), "tokens": tokens}

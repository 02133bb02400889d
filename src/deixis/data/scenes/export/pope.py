"""Writes POPE: questions about presence. Absent classes are random, popular or adversarial.

Adversarial classes often occur together with a present class. Each picture has equal numbers of
questions with the answers yes and no, up to three of each.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from deixis.data.scenes.export.files import OutputFolder
from deixis.data.scenes.export.scene_items import Item
from deixis.data.scenes.seeds import Dice
from deixis.data.scenes.vocabulary import NAMES
from deixis.language import article

_PER_ANSWER = 3
_SETTINGS = ("random", "popular", "adversarial")


@dataclass(frozen=True, slots=True)
class _Picture:
    id: int
    file_name: str
    present: tuple[str, ...]


def write_pope(folder: OutputFolder, items: Iterator[Item], split: str) -> None:
    """Write ``<split>/*.png`` and one file of JSON lines for each setting."""
    pictures = []
    for item in items:
        folder.image(f"{split}/{item.file_name}", item.scene.image)
        present = tuple(dict.fromkeys(instance.category for instance in item.sample.instances))
        pictures.append(_Picture(item.id, item.file_name, present))
    frequency = Counter(name for picture in pictures for name in picture.present)
    company = _company(pictures)
    for setting in _SETTINGS:
        lines: list[dict[str, int | str]] = []
        for picture in pictures:
            dice = Dice((picture.id, _SETTINGS.index(setting)))
            absent = [name for name in dice.shuffled(NAMES) if name not in picture.present]
            if setting == "popular":
                absent.sort(key=lambda name: -frequency[name])
            elif setting == "adversarial":
                absent.sort(key=lambda name: -sum(company[near, name] for near in picture.present))
            count = min(_PER_ANSWER, len(picture.present), len(absent))
            asked = dice.shuffled(picture.present)[:count]
            pairs = zip(asked, absent[:count], strict=True)
            for name, label in (entry for yes, no in pairs for entry in ((yes, "yes"), (no, "no"))):
                lines.append(
                    {
                        "question_id": len(lines) + 1,
                        "image": picture.file_name,
                        "text": f"Is there {article(name)} in the image?",
                        "label": label,
                    }
                )
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        folder.text(f"scenes_pope_{setting}_{split}.json", text)


def _company(pictures: list[_Picture]) -> Counter[tuple[str, str]]:
    """Count the pictures in which two classes occur together."""
    return Counter(
        (first, second)
        for picture in pictures
        for first in picture.present
        for second in picture.present
        if first != second
    )

"""The input of every exporter."""

from dataclasses import dataclass

from deixis.data.scenes.scene import Scene
from deixis.data.scenes.vocabulary import NAMES
from deixis.structures import Sample

CATEGORY_IDS = {name: position for position, name in enumerate(NAMES, start=1)}
"""Class numbers, counted from 1, the same in all files."""

DESCRIPTION = "Drawn scenes with exact annotations"


@dataclass(frozen=True, slots=True)
class Item:
    """One scene with its number (from 1) and the name of its picture."""

    id: int
    file_name: str
    scene: Scene
    sample: Sample

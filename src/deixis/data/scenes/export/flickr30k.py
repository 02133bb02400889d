"""Writes Flickr30k Entities: sentences with phrases that name chains, and boxes of the chains.

Boxes are ``xmin``, ``ymin``, ``xmax``, ``ymax``, counted from 1 with the last pixel included, as in
the official files and the code that reads them.
"""

from collections.abc import Iterator
from xml.etree import ElementTree as ET

from deixis.data.scenes.export.files import OutputFolder
from deixis.data.scenes.export.scene_items import Item
from deixis.data.scenes.vocabulary import FIGURE, WEARABLES
from deixis.geometry import Box
from deixis.structures import GroundedPhrase, GroundedText


def write_flickr30k(folder: OutputFolder, items: Iterator[Item], split: str) -> None:
    """Write ``flickr30k-images``, ``Annotations``, ``Sentences`` and ``<split>.txt``."""
    names = []
    for item in items:
        name = str(item.id)
        chains = _chains(item)
        folder.image(f"flickr30k-images/{name}.png", item.scene.image)
        folder.text(f"Annotations/{name}.xml", _annotation(item, chains))
        lines = [_sentence(item, caption, chains) for caption in item.sample.captions]
        folder.text(f"Sentences/{name}.txt", "".join(f"{line}\n" for line in lines))
        names.append(name)
    folder.text(f"{split}.txt", "".join(f"{name}\n" for name in names))


def _chains(item: Item) -> dict[tuple[Box, ...], int]:
    """Return chain numbers of the box sets in captions; equal sets have the same number."""
    chains: dict[tuple[Box, ...], int] = {}
    for caption in item.sample.captions:
        for phrase in caption.phrases:
            chains.setdefault(phrase.boxes, item.id * 100 + len(chains))
    return chains


def _sentence(item: Item, caption: GroundedText, chains: dict[tuple[Box, ...], int]) -> str:
    text, position = "", 0
    for phrase in caption.phrases:
        text += caption.text[position : phrase.start]
        kind = _kind(item, phrase)
        text += f"[/EN#{chains[phrase.boxes]}/{kind} {phrase.text}]"
        position = phrase.end
    return text + caption.text[position:]


def _kind(item: Item, phrase: GroundedPhrase) -> str:
    boxes = set(phrase.boxes)
    categories = {i.category for i in item.sample.instances if i.box in boxes}
    if categories == {FIGURE}:
        return "people"
    return "clothing" if categories <= set(WEARABLES) else "other"


def _annotation(item: Item, chains: dict[tuple[Box, ...], int]) -> str:
    root = ET.Element("annotation")
    ET.SubElement(root, "filename").text = f"{item.id}.png"
    size = ET.SubElement(root, "size")
    height, width = item.scene.size
    for tag, value in (("width", width), ("height", height), ("depth", 3)):
        ET.SubElement(size, tag).text = str(value)
    for boxes, chain in chains.items():
        for box in boxes:
            thing = ET.SubElement(root, "object")
            ET.SubElement(thing, "name").text = str(chain)
            corners = ET.SubElement(thing, "bndbox")
            values = (round(box.x1) + 1, round(box.y1) + 1, round(box.x2), round(box.y2))
            for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), values, strict=True):
                ET.SubElement(corners, tag).text = str(value)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"

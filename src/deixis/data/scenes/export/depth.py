"""Writes depth maps as 16-bit PNG: distance times 256, with 0 for unknown (KITTI's scale)."""

from collections.abc import Iterator

import numpy as np

from deixis.data.scenes.export.files import JsonValue, OutputFolder
from deixis.data.scenes.export.scene_items import Item

DEPTH_SCALE = 256


def write_depth(folder: OutputFolder, items: Iterator[Item], split: str) -> None:
    """Write ``<split>/image/*.png``, ``<split>/depth/*.png`` and ``<split>.json``."""
    records: list[JsonValue] = []
    for item in items:
        image, depth = f"{split}/image/{item.file_name}", f"{split}/depth/{item.file_name}"
        folder.image(image, item.scene.image)
        # a known distance is never rounded down to 0
        scaled = np.clip(np.rint(item.scene.depth * DEPTH_SCALE), 1, np.iinfo(np.uint16).max)
        values = np.where(item.scene.depth > 0, scaled, 0).astype(np.uint16)
        folder.image16(depth, values)
        records.append({"image": image, "depth": depth})
    folder.json(f"{split}.json", {"scale": DEPTH_SCALE, "pairs": records})

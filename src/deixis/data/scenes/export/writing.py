"""Writes drawn scenes in a named format."""

from collections.abc import Callable, Iterator
from pathlib import Path

from deixis.data.scenes.drawing import draw_scene
from deixis.data.scenes.export.coco import write_coco
from deixis.data.scenes.export.depth import write_depth
from deixis.data.scenes.export.files import OutputFolder
from deixis.data.scenes.export.flickr30k import write_flickr30k
from deixis.data.scenes.export.pope import write_pope
from deixis.data.scenes.export.refcoco import write_refcoco
from deixis.data.scenes.export.scene_items import Item
from deixis.data.scenes.export.visual_genome import write_visual_genome
from deixis.data.scenes.export.vqav2 import write_vqav2
from deixis.data.scenes.scene_sample import scene_sample
from deixis.errors import RecipeError

Writer = Callable[[OutputFolder, Iterator[Item], str], None]
"""Writes items of a split into a folder: pictures first, then the files that name them."""

FORMATS: dict[str, Writer] = {
    "coco": write_coco,
    "depth": write_depth,
    "flickr30k": write_flickr30k,
    "pope": write_pope,
    "refcoco": write_refcoco,
    "visual_genome": write_visual_genome,
    "vqav2": write_vqav2,
}


def write_scenes(
    out: Path,
    *,
    split: str,
    count: int,
    format: str,  # noqa: A002 - the name of the command line option
    level: str = "standard",
    seed: int = 0,
    on_scene: Callable[[int], None] | None = None,
) -> tuple[Path, ...]:
    """Draw ``count`` scenes of a split and write them; return the files written, in order.

    The same arguments always write the same bytes. Pictures are written first and the files that
    name them last, so an annotation file implies its pictures. ``on_scene`` is called after each
    scene with the number of finished scenes.

    Raises:
        RecipeError: The format is unknown, or ``count`` is less than 1.
        GeometryError: The split or level is unknown, or the seed is negative.
        StorageError: A file cannot be written.
    """
    if format not in FORMATS:
        raise RecipeError(
            f"unknown format {format!r}: expected one of {', '.join(sorted(FORMATS))}"
        )
    if count < 1:
        raise RecipeError(f"{count} scenes: expected at least 1")
    folder = OutputFolder(out)

    def items() -> Iterator[Item]:
        for index in range(count):
            scene = draw_scene(seed, index, level=level, split=split)
            yield Item(index + 1, f"{split}_{index + 1:06d}.png", scene, scene_sample(scene))
            if on_scene is not None:
                on_scene(index + 1)

    FORMATS[format](folder, items(), split)
    return tuple(folder.written)

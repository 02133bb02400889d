"""How fast scenes are drawn, against drawing the same things with Pillow on full-size masks.

    $ python benchmarks/scenes.py

The baseline draws every planned thing as a polygon into a mask of the whole canvas, then pastes
colours, labels and distances through it and reads boxes off the result: less than a scene holds
(no soft edges, textures, shadows, figures' limbs or visibility), by the plainest means.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw

from deixis.data.scenes import draw_scene
from deixis.data.scenes.drawing import roll_size
from deixis.data.scenes.grounds import roll_ground
from deixis.data.scenes.layout import plan_scene, reach
from deixis.data.scenes.seeds import scene_dice
from deixis.data.scenes.sprites import Draft
from deixis.data.scenes.vocabulary import LEVELS

SIDES = {"triangle": 3, "square": 4, "diamond": 4, "pentagon": 5, "hexagon": 6, "star": 10}


def outline(draft: Draft) -> list[tuple[float, float]]:
    half_width, half_height = reach(draft)
    count = SIDES.get(draft.name, 24)
    angles = [2 * pi * step / count for step in range(count)]
    return [(draft.x + half_width * cos(a), draft.y + half_height * sin(a)) for a in angles]


def draw_plainly(index: int, *, level: str, long_side: int) -> int:
    dice = scene_dice(0, index, level=level, split="train")
    size = roll_size(dice, long_side)
    ground = roll_ground(dice, size.height, size.width, level=level)
    drafts = plan_scene(dice, size.height, size.width, ground, level=level)
    image = ground.paint.transpose(1, 2, 0).copy()
    depth = np.repeat(ground.distances[:, None], size.width, axis=1)
    labels = np.full((size.height, size.width), -1, np.int16)
    for owner in sorted(range(len(drafts)), key=lambda owner: -drafts[owner].depth):
        draft = drafts[owner]
        canvas = Image.new("L", (size.width, size.height))
        ImageDraw.Draw(canvas).polygon(outline(draft), fill=255)
        mask = np.asarray(canvas) > 0
        image = np.where(mask[:, :, None], np.array(draft.rgb, np.float32), image)
        depth = np.where(mask, np.float32(draft.depth), depth)
        labels = np.where(mask, np.int16(owner), labels)
    boxes = []
    for owner in range(len(drafts)):
        rows, columns = np.nonzero(labels == owner)
        if rows.size:
            boxes.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    return len(boxes) + int(np.clip(image, 0, 255).astype(np.uint8)[0, 0, 0])


def rate(draw: Callable[[int], object], count: int) -> float:
    """Scenes a second of processor time: other work on the machine does not count."""
    for index in range(20):
        draw(index)
    start = time.process_time()
    for index in range(count):
        draw(index)
    return count / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how fast scenes are drawn.")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--long-side", type=int, default=224)
    options = parser.parse_args()
    count, long_side = options.count, options.long_side
    print(f"scenes with a long side of {long_side}, {count} of each level, one core")
    print(f"{'level':10}{'scenes/s':>12}{'baseline/s':>12}{'ratio':>8}")
    for level in LEVELS:
        # Once over all, so that cached textures are there for both.
        for index in range(count):
            draw_scene(0, index, level=level, long_side=long_side)
        ours = rate(partial(draw_scene, 0, level=level, long_side=long_side), count)
        plain = rate(partial(draw_plainly, level=level, long_side=long_side), count)
        print(f"{level:10}{ours:12.0f}{plain:12.0f}{ours / plain:8.2f}")


if __name__ == "__main__":
    main()

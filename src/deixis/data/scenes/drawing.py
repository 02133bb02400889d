"""Draws scenes: a seed gives a picture and its exact annotations."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int16, UInt8
from numpy import ndarray

from deixis.data.scenes.figures import draw_figure, joints
from deixis.data.scenes.grounds import Ground, roll_ground
from deixis.data.scenes.layout import LEVEL_RULES, plan_scene
from deixis.data.scenes.scene import Corners, Scene, Thing
from deixis.data.scenes.seeds import Dice, scene_dice
from deixis.data.scenes.sprites import (
    Draft,
    Layer,
    Pose,
    draw_container,
    draw_shape,
    draw_surface,
)
from deixis.errors import GeometryError
from deixis.geometry import ImageSize

ASPECTS = ((1, 1), (4, 3), (3, 2), (3, 4), (2, 3))
"""Ratios of width to height."""

MIN_LONG_SIDE = 64
MIN_PIXELS = 12
"""Least visible area of an instance, in pixels of a canvas with a long side of 224."""
MIN_READABLE = 0.6
"""Least visible fraction at which a letter or digit is legible."""

PlacedMask = tuple[int, int, Bool[ndarray, "rows columns"]]
Labels = Int16[ndarray, "height width"]


def draw_scene(
    seed: int, index: int, *, level: str = "standard", split: str = "train", long_side: int = 224
) -> Scene:
    """Draw scene ``index`` of a seed; the same arguments give the same bytes anywhere.

    Levels: ``plain`` (a flat light ground, few instances, almost no occlusion), ``standard``
    (everything) and ``hard`` (clutter, tiny instances, look-alikes, heavy occlusion). A scene has at
    least one instance, and all its instances are visible.

    Raises:
        GeometryError: A number is out of range, or the level or split is unknown.
    """
    check_long_side(long_side)
    dice = scene_dice(seed, index, level=level, split=split)
    size = roll_size(dice, long_side)
    ground = roll_ground(dice, size.height, size.width, level=level)
    picture = None
    while picture is None or not picture.things:
        # rarely, all planned instances are too small to be visible; plan again
        drafts = plan_scene(dice, size.height, size.width, ground, level=level)
        picture = render(drafts, ground, size, visibility=LEVEL_RULES[level].visibility)
    return Scene(
        seed,
        index,
        level,
        split,
        size,
        picture.image,
        picture.labels,
        picture.depth,
        picture.things,
    )


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawn picture: ``kept`` are the indices of visible drafts, in the order of ``things``."""

    kept: tuple[int, ...]
    image: UInt8[ndarray, "height width 3"]
    labels: Int16[ndarray, "height width"]
    depth: Float32[ndarray, "height width"]
    things: tuple[Thing, ...]


def render(
    drafts: Sequence[Draft], ground: Ground, size: ImageSize, *, visibility: float
) -> Picture:
    """Draw drafts on a ground, without those with a smaller visible share than ``visibility``.

    Overwrites the ground's paint.
    """
    layers = draw_layers(drafts, size)
    kept = keep_visible(drafts, layers, size, visibility=visibility)
    image, labels, depth = compose(kept, layers, drafts, ground)
    things = describe_things(kept, drafts, layers, labels, depth)
    return Picture(tuple(kept), image, labels, depth, things)


def check_long_side(long_side: int) -> None:
    """Check that a canvas is large enough for recognisable instances.

    Raises:
        GeometryError: The long side is too short.
    """
    if long_side < MIN_LONG_SIDE:
        raise GeometryError(
            f"long side {long_side} of a scene: expected at least {MIN_LONG_SIDE} pixels"
        )


def roll_size(dice: Dice, long_side: int) -> ImageSize:
    """Draw the size of a landscape, portrait or square canvas."""
    across, down = dice.pick(ASPECTS)
    short_side = round(long_side * min(across, down) / max(across, down))
    if across >= down:
        return ImageSize(short_side, long_side)
    return ImageSize(long_side, short_side)


def draw_layers(drafts: Sequence[Draft], size: ImageSize) -> list[Layer]:
    """Return the layers of all drafts, farthest first."""
    canvas = (size.height, size.width)
    layers: list[Layer] = []
    for owner, draft in enumerate(drafts):
        if draft.pose is not None:
            layers += draw_figure(draft, draft.pose, owner, canvas)
        elif draft.kind == "container":
            layers += draw_container(draft, owner, canvas)
        elif draft.kind == "surface":
            layers += draw_surface(draft, owner, canvas)
        else:
            layers += draw_shape(draft, owner, canvas)
    layers.sort(key=lambda layer: -layer.depth)
    return layers


def paint_labels(layers: Sequence[Layer], size: ImageSize) -> Labels:
    """Return the owner of the front-most layer at each pixel, or -1."""
    labels = np.full((size.height, size.width), -1, np.int16)
    for layer in layers:
        height, width = layer.mask.shape
        part = labels[layer.top : layer.top + height, layer.left : layer.left + width]
        np.copyto(part, np.int16(layer.owner), where=layer.mask)
    return labels


def keep_visible(
    drafts: Sequence[Draft], layers: Sequence[Layer], size: ImageSize, *, visibility: float
) -> list[int]:
    """Return the indices of the drafts that stay visible after the removal of the others.

    Removing a figure removes the instances that it holds or wears. The nearest instance always stays.
    """
    least = MIN_PIXELS * (max(size) / 224) ** 2
    totals = full_areas(layers, len(drafts))
    kept = [owner for owner in range(len(drafts)) if totals[owner] >= least]
    while True:
        alive = set(kept)
        labels = paint_labels([layer for layer in layers if layer.owner in alive], size)
        seen = np.bincount(labels.ravel() + 1, minlength=len(drafts) + 1)[1:].tolist()
        good = {
            owner
            for owner in kept
            if seen[owner] >= least
            and seen[owner] >= _least_seen(drafts[owner], visibility) * totals[owner]
        }
        stays = [
            owner
            for owner in kept
            if owner in good
            and all(
                other is None or other in good
                for other in (drafts[owner].holder, drafts[owner].wearer)
            )
        ]
        if len(stays) == len(kept):
            return kept
        kept = stays


def _least_seen(draft: Draft, visibility: float) -> float:
    return max(visibility, MIN_READABLE) if draft.symbol else visibility


def full_areas(layers: Sequence[Layer], count: int) -> list[int]:
    """Return the number of each owner's pixels on the canvas, including hidden ones."""
    totals = [0] * count
    whole = full_masks(layers)
    for owner, (_, _, mask) in whole.items():
        totals[owner] = int(np.count_nonzero(mask))
    return totals


def full_masks(layers: Sequence[Layer]) -> dict[int, PlacedMask]:
    """Return left, top and the union of all layers' masks for each owner."""
    whole: dict[int, PlacedMask] = {}
    for layer in layers:
        if layer.owner in whole:
            left, top, mask = whole[layer.owner]
            # all layers of an instance share one window
            whole[layer.owner] = (left, top, mask | layer.mask)
        else:
            whole[layer.owner] = (layer.left, layer.top, layer.mask)
    return whole


def compose(
    kept: Sequence[int], layers: Sequence[Layer], drafts: Sequence[Draft], ground: Ground
) -> tuple[UInt8[ndarray, "height width 3"], Labels, Float32[ndarray, "height width"]]:
    """Paint from far to near; return picture, labels (indices into ``kept``) and distances."""
    paint = ground.paint
    height, width = paint.shape[1:]
    number = {owner: position for position, owner in enumerate(kept)}
    labels = np.full((height, width), -1, np.int16)
    depth = np.empty((height, width), np.float32)
    depth[:] = ground.distances[:, None]
    shadowed: set[int] = set()
    for layer in layers:
        if layer.owner not in number:
            continue
        draft = drafts[layer.owner]
        if draft.shadow and layer.owner not in shadowed:
            shadowed.add(layer.owner)
            cast_shadow(paint, draft)
        rows = slice(layer.top, layer.top + layer.mask.shape[0])
        columns = slice(layer.left, layer.left + layer.mask.shape[1])
        part = paint[:, rows, columns]
        change = layer.paint - part
        change *= layer.alpha
        part += change
        np.copyto(labels[rows, columns], np.int16(number[layer.owner]), where=layer.mask)
        np.copyto(depth[rows, columns], np.float32(layer.depth), where=layer.mask)
    np.minimum(paint, np.float32(255.0), out=paint)
    np.maximum(paint, np.float32(0.0), out=paint)
    image = np.empty((height, width, 3), np.uint8)
    for channel in range(3):
        image[:, :, channel] = paint[channel]
    return image, labels, depth


def cast_shadow(paint: Float32[ndarray, "3 height width"], draft: Draft) -> None:
    """Darken the ground softly under an instance."""
    height, width = paint.shape[1:]
    half_width, half_height = draft.half_size
    base = draft.y + half_height * (0.97 if draft.kind != "surface" else 0.9)
    across = max(3.0, half_width * (0.95 if draft.kind != "figure" else 0.7))
    down = max(1.5, across * 0.22)
    left, right = max(0, int(draft.x - across)), min(width, int(draft.x + across) + 1)
    top, bottom = max(0, int(base - down)), min(height, int(base + down) + 1)
    if right <= left or bottom <= top:
        return
    x = (np.arange(left, right, dtype=np.float32) + np.float32(0.5 - draft.x)) / np.float32(across)
    y = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - base)) / np.float32(down)
    fall = np.maximum(np.float32(1.0) - x * x - (y * y)[:, None], np.float32(0.0))
    paint[:, top:bottom, left:right] *= np.float32(1.0) - np.float32(0.32) * fall


def describe_things(
    kept: Sequence[int],
    drafts: Sequence[Draft],
    layers: Sequence[Layer],
    labels: Labels,
    depth: Float32[ndarray, "height width"],
) -> tuple[Thing, ...]:
    """Return the annotations of all kept drafts, measured on the drawn picture."""
    number = {owner: position for position, owner in enumerate(kept)}
    whole = full_masks([layer for layer in layers if layer.owner in number])
    things = []
    for position, owner in enumerate(kept):
        draft = drafts[owner]
        left, top, mask = whole[owner]
        height, width = mask.shape
        visible = np.equal(labels[top : top + height, left : left + width], position)
        full_box = _corners(mask, left, top)
        things.append(
            Thing(
                kind=draft.kind,
                name=draft.name,
                symbol=draft.symbol,
                color=draft.color,
                size=draft.size,
                texture=draft.texture,
                box=_corners(visible, left, top),
                full_box=full_box,
                center=((full_box[0] + full_box[2]) / 2, (full_box[1] + full_box[3]) / 2),
                depth=draft.depth,
                visibility=float(np.count_nonzero(visible) / np.count_nonzero(mask)),
                keypoints=None if draft.pose is None else _keypoints(draft, draft.pose, depth),
                holds=tuple(number[o] for o in kept if drafts[o].holder == owner),
                wears=tuple(number[o] for o in kept if drafts[o].wearer == owner),
                inside=None if draft.inside is None else number.get(draft.inside),
                on=None if draft.on is None else number.get(draft.on),
            )
        )
    return tuple(things)


def _corners(mask: Bool[ndarray, "rows columns"], left: int, top: int) -> Corners:
    rows = np.asarray(mask.any(axis=1))
    columns = np.asarray(mask.any(axis=0))
    return (
        float(left + columns.argmax()),
        float(top + rows.argmax()),
        float(left + columns.size - columns[::-1].argmax()),
        float(top + rows.size - rows[::-1].argmax()),
    )


def _keypoints(
    draft: Draft, pose: Pose, depth: Float32[ndarray, "height width"]
) -> Float32[ndarray, "17 3"]:
    height, width = depth.shape
    own = np.float32(draft.depth)
    result = np.zeros((17, 3), np.float32)
    for row, (x, y) in enumerate(joints(draft, pose).tolist()):
        if 0 <= x < width and 0 <= y < height:
            hidden = depth[int(y), int(x)] < own
            result[row] = (x, y, 1 if hidden else 2)
    return result

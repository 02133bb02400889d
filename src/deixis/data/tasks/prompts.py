"""Building blocks of questions: filled wordings, and regions such as a person might give."""

import math
from functools import lru_cache
from string import Formatter

import numpy as np
from jaxtyping import Bool

from deixis.data.tasks.answers import capitalised, pick
from deixis.data.tasks.inside import outlines, surely_inside
from deixis.data.tasks.rules import RegionKind, Rules
from deixis.errors import RecipeError
from deixis.geometry import Box, Point, Scribble
from deixis.structures import Description, Instance, QuestionPart, Region, Sample

Question = tuple[QuestionPart, ...]
Slot = str | Region | Question

_WORDINGS_KEPT = 2**16
_POLYGON_DRAWS = 8
"""Draws inside a box before polygons are filled, because they are too small or too thin."""
_MASK_DRAWS = 12
"""Draws inside a box before the pixels of a mask are listed, because it covers little of the box."""


def asked(task: str, rng: np.random.Generator, rules: Rules, **slots: Slot) -> Question:
    """Return a question of a task with its slots filled.

    Raises:
        RecipeError: The wording has a slot that the task does not fill.
    """
    return filled(pick(rules.wording(task), rng), slots)


def filled(text: str, slots: dict[str, Slot]) -> Question:
    """Fill the slots of a wording; regions without a slot are appended.

    Raises:
        RecipeError: The wording has a slot without a value.
    """
    parts: list[QuestionPart] = []
    words = ""
    left = {name for name, value in slots.items() if not isinstance(value, str)}
    for literal, name in _pieces(text):
        words += literal
        if name is None:
            continue
        if name not in slots:
            raise RecipeError(f"wording {text!r}: expected the slots {sorted(slots)}, got {name!r}")
        left.discard(name)
        words = _add(slots[name], words, parts)
    if left:
        for name, value in slots.items():
            if name in left:
                words = _add(value, f"{words} ", parts)
    if words:
        parts.append(words)
    if parts and isinstance(parts[0], str) and not isinstance(parts[0], Description):
        parts[0] = capitalised(parts[0])
    return tuple(parts)


def _add(value: Slot, words: str, parts: list[QuestionPart]) -> str:
    """Add words and a value to a question; return the words to put before the next part."""
    if isinstance(value, str) and not isinstance(value, Description):
        return words + value
    for part in value if isinstance(value, tuple) else (value,):
        if isinstance(part, str) and not isinstance(part, Description):
            words += part
        else:
            if words:
                parts.append(words)
            words = ""
            parts.append(part)
    return words


@lru_cache(maxsize=_WORDINGS_KEPT)
def _pieces(text: str) -> tuple[tuple[str, str | None], ...]:
    return tuple((literal, name) for literal, name, _, _ in Formatter().parse(text))


def with_region(text: str, region: Region, *, slot: str) -> Question:
    """Return a question with a region in place of its first slot, or at the end without a slot."""
    before, found, after = text.partition(slot)
    if not found:
        return (f"{text} ", region)
    parts: list[QuestionPart] = [capitalised(before), region, after]
    return tuple([part for part in parts if part != ""])


def draw_region(
    instance: Instance,
    sample: Sample,
    rng: np.random.Generator,
    rules: Rules,
    *,
    kind: RegionKind | None = None,
) -> Region:
    """Draw a point, box, scribble or mask such as a person might give for an instance.

    Points and the vertices of scribbles lie on the mask if there is one, else in the core of the box.
    For a missing mask, the region is the box.
    """
    if kind is None:
        kind = pick(rules.region_kinds, rng)
    if kind == "mask" and instance.mask is not None:
        return instance.mask
    if kind in {"box", "mask"}:
        return instance.box
    if kind == "point":
        return Point(*_places(instance, rng, rules, count=1)[0])
    height, width = sample.size
    places = _places(instance, rng, rules, count=rules.scribble_points)
    return Scribble(tuple(sorted(places)), max(2.0, rules.scribble_width * max(height, width)))


def _places(
    instance: Instance, rng: np.random.Generator, rules: Rules, *, count: int
) -> list[tuple[float, float]]:
    if instance.mask is None or not rules.points_on_mask:
        return [_in_core(instance.box, rng, rules) for _ in range(count)]
    polygons = outlines(instance.mask)
    found = []
    for _ in range(count):
        place = None if polygons is None else _in_polygons(polygons, instance.box, rng)
        found.append(place or _on_mask(instance.mask.array, instance.box, rng))
    return [place or _in_core(instance.box, rng, rules) for place in found]


def _in_polygons(
    polygons: list[list[float]], box: Box, rng: np.random.Generator
) -> tuple[float, float] | None:
    """Return the centre of a pixel inside the polygons; None if a few draws find no such pixel."""
    for _ in range(_POLYGON_DRAWS):
        x = int(box.x1 + rng.random() * box.width) + 0.5
        y = int(box.y1 + rng.random() * box.height) + 0.5
        if x < box.x2 and y < box.y2 and surely_inside(polygons, x, y):
            return x, y
    return None


def _in_core(box: Box, rng: np.random.Generator, rules: Rules) -> tuple[float, float]:
    x, y = box.center
    return (
        x + (rng.random() - 0.5) * rules.box_core * box.width,
        y + (rng.random() - 0.5) * rules.box_core * box.height,
    )


def _on_mask(
    array: Bool[np.ndarray, "height width"], box: Box, rng: np.random.Generator
) -> tuple[float, float] | None:
    """Return the centre of a random pixel of a mask; None if the box contains no such pixel."""
    last_row, last_column = array.shape[0] - 1, array.shape[1] - 1
    for _ in range(_MASK_DRAWS):
        # sums of floats may round up to the far edge
        column = min(int(box.x1 + rng.random() * box.width), last_column)
        row = min(int(box.y1 + rng.random() * box.height), last_row)
        if array[row, column]:
            return column + 0.5, row + 0.5
    left, top = int(box.x1), int(box.y1)
    inner = array[top : math.ceil(box.y2), left : math.ceil(box.x2)]
    pixels = np.flatnonzero(inner)
    if pixels.size == 0:
        return None
    row, column = divmod(int(pixels[int(rng.random() * pixels.size)]), inner.shape[1])
    return left + column + 0.5, top + row + 0.5

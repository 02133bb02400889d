"""Regions given on the command line, and their places in the question."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

from deixis.errors import GeometryError, PromptError
from deixis.geometry import (
    Box,
    ImageSize,
    Mask,
    Point,
    Scribble,
    check_pixels,
    from_fractions,
)
from deixis.processing.images import read_image
from deixis.structures import QuestionPart, Region

MAX_REGIONS = 64
_PLACE = "{region}"
# "What is this?": the word that points, where the sentence or a clause ends after it.
_THIS = re.compile(r"\bthis\b(?=\s*(?:[?.!,;:]|$))", re.IGNORECASE)
_DEFAULT_STROKE = 4.0
_HINT = "hint: give pixels, or fractions of the sides (0 to 1) with --normalized"


def read_regions(
    size: ImageSize,
    *,
    boxes: Sequence[str],
    points: Sequence[str],
    scribbles: Sequence[str],
    masks: Sequence[Path],
    normalized: bool = False,
) -> tuple[Region, ...]:
    """Return the regions in the order boxes, points, scribbles, masks, checked against ``size``.

    A box may exceed the image by a pixel or half a percent and is then clipped. With
    ``normalized`` the numbers are fractions of the image's sides; without it, numbers that look
    like fractions are refused.

    Raises:
        GeometryError: A region has the wrong form, is not finite or does not fit the image.
        PromptError: There are more than 64 regions.
        ImageError: A mask file cannot be read.
    """
    count = len(boxes) + len(points) + len(scribbles) + len(masks)
    if count > MAX_REGIONS:
        raise PromptError(f"{count} regions given, expected at most {MAX_REGIONS}")
    return (
        *(_box(text, size, normalized=normalized) for text in boxes),
        *(_point(text, size, normalized=normalized) for text in points),
        *(_scribble(text, size, normalized=normalized) for text in scribbles),
        *(_mask(path, size) for path in masks),
    )


def place_regions(prompt: str, regions: Sequence[Region]) -> tuple[QuestionPart, ...]:
    """Return the question with its regions in their places.

    Each ``{region}`` of the prompt is replaced by the next region. In a prompt without it, regions
    follow the pointing words ``this`` ("What is this?") if there are as many of them, and the
    prompt otherwise. Without regions the prompt is plain text.

    Raises:
        PromptError: The prompt is empty, or the number of ``{region}`` is not that of the
            regions.
    """
    if not prompt.strip():
        raise PromptError("prompt is empty, expected a question")
    if not regions:
        return (prompt,)
    texts = prompt.split(_PLACE)
    if len(texts) == 1:
        pointed = _THIS.split(prompt)
        texts = pointed if len(pointed) - 1 == len(regions) else [f"{prompt.rstrip()} "]
        texts += [" "] * (len(regions) - len(texts)) + [""] if len(texts) == 1 else []
    if len(texts) - 1 != len(regions):
        raise PromptError(
            f"prompt has {_PLACE} {len(texts) - 1} times, expected {len(regions)}, "
            "once for each region"
        )
    parts: list[QuestionPart] = []
    for text, region in zip(texts, regions, strict=False):
        parts += [text, region]
    parts.append(texts[-1])
    return tuple(part for part in parts if part != "")


def _numbers(text: str, option: str, form: str) -> list[float]:
    if "%" in text:
        raise GeometryError(f"{option} {text!r}: looks like percentages, expected pixels\n{_HINT}")
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise GeometryError(f"{option} {text!r}: expected {form}, as numbers") from error
    if not all(math.isfinite(number) for number in numbers):
        raise GeometryError(f"{option} {text!r}: expected finite numbers")
    return numbers


def _coordinates(text: str, option: str, form: str) -> list[float]:
    """Return as many numbers as ``form`` has names."""
    numbers = _numbers(text, option, form)
    if len(numbers) != len(form.split(",")):
        raise GeometryError(f"{option} {text!r}: expected {form}, got {len(numbers)} numbers")
    return numbers


def _checked(region: Box | Point | Scribble, size: ImageSize) -> None:
    try:
        check_pixels(region, size)
    except GeometryError as error:
        raise GeometryError(f"{error}\n{_HINT}") from None


def _box(text: str, size: ImageSize, *, normalized: bool) -> Region:
    box = Box(*_coordinates(text, "--box", "x1,y1,x2,y2"))
    if normalized:
        return from_fractions(box, size)
    _checked(box, size)
    slack_x, slack_y = max(1.0, 0.005 * size.width), max(1.0, 0.005 * size.height)
    within = (
        box.x1 >= -slack_x
        and box.y1 >= -slack_y
        and box.x2 <= size.width + slack_x
        and box.y2 <= size.height + slack_y
    )
    if not within:
        box.check_inside(size)
    return box.clip(size)


def _point(text: str, size: ImageSize, *, normalized: bool) -> Region:
    point = Point(*_coordinates(text, "--point", "x,y"))
    if normalized:
        return from_fractions(point, size)
    _checked(point, size)
    point.check_inside(size)
    return point


def _scribble(text: str, size: ImageSize, *, normalized: bool) -> Region:
    form = "x,y,x,y,... or x,y,x,y,...@width"
    stroke, at, width = text.partition("@")
    numbers = _numbers(stroke, "--scribble", form)
    if len(numbers) % 2 or (at and not width):
        raise GeometryError(f"--scribble {text!r}: expected {form}")
    thick = _numbers(width, "--scribble", form)[0] if at else _DEFAULT_STROKE
    points = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    scribble = Scribble(points, thick)
    if normalized:
        return from_fractions(scribble, size)
    _checked(scribble, size)
    scribble.to_mask(size)
    return scribble


def _mask(path: Path, size: ImageSize) -> Region:
    loaded = read_image(path)
    if loaded.size != size:
        raise GeometryError(f"mask {loaded.name}: is {loaded.size}, expected the image's {size}")
    inside = loaded.array.max(axis=2) > 0
    if not inside.any():
        raise GeometryError(f"mask {loaded.name}: all pixels are black, expected a region")
    return Mask(inside)

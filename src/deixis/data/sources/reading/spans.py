"""Phrases of a text that refer to instances, given as offsets or as words."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from deixis.data.sources.base import BadRecord, RecordProblem
from deixis.data.sources.reading.fields import (
    OVERSHOOT_PIXELS,
    OVERSHOOT_SHARE,
    as_list,
    as_number,
    as_text,
)
from deixis.data.sources.reading.frames import Frame, current_frame
from deixis.data.sources.reading.image_header import header_size, read_header
from deixis.errors import GeometryError
from deixis.geometry import Box, ImageSize
from deixis.geometry.checks import shown
from deixis.structures import GroundedPhrase, GroundedText, Instance, Reference, UnitGroup


class Span(NamedTuple):
    """A range of characters, the end exclusive, and the instances that it refers to."""

    start: int
    end: int
    instances: tuple[int, ...]


def ground(
    text: object,
    spans: Sequence[Span],
    instances: Sequence[Instance],
    *,
    notes: dict[str, int],
    problems: list[RecordProblem],
    place: str,
) -> GroundedText:
    """Return a grounded text with phrases in order; spans with the same characters are merged.

    A phrase outside the text or without words is a problem. If two phrases overlap partly, the later
    one is left out and ``notes`` counts it as ``phrase_crossing``. Blanks at the ends of the text and
    of phrases are removed.

    Raises:
        BadRecord: The value is not a text.
    """
    whole = as_text(text, "text")
    given = str(text)
    lead = len(given) - len(given.lstrip())
    merged: dict[tuple[int, int], list[int]] = {}
    for span in spans:
        start, end = span.start - lead, min(span.end - lead, len(whole))
        if not (0 <= span.start < span.end <= len(given)) or not whole[max(start, 0) : end].strip():
            detail = f"phrase [{span.start}:{span.end}] of {len(given)} characters"
            problems.append(RecordProblem("span_damaged", detail, place))
            continue
        start = max(start, 0)
        start += len(whole[start:end]) - len(whole[start:end].lstrip())
        end = start + len(whole[start:end].rstrip())
        known = merged.setdefault((start, end), [])
        known += [instance for instance in span.instances if instance not in known]
    phrases: list[GroundedPhrase] = []
    open_ends: list[int] = []
    for start, end in sorted(merged, key=lambda key: (key[0], -key[1])):
        while open_ends and open_ends[-1] <= start:
            open_ends.pop()
        if open_ends and end > open_ends[-1]:
            notes["phrase_crossing"] = notes.get("phrase_crossing", 0) + 1
            continue
        open_ends.append(end)
        chosen = [instances[index] for index in merged[start, end]]
        phrases.append(GroundedPhrase(whole[start:end], start, end, unit_groups(chosen)))
    return GroundedText(whole, tuple(phrases))


def unit_groups(instances: Sequence[Instance]) -> tuple[UnitGroup, ...]:
    """Return the unit groups of a phrase: boxes, with masks if all instances have one; or ()."""
    if not instances:
        return ()
    masked = all(instance.mask is not None for instance in instances)
    names = ("box", "mask") if masked else ("box",)
    references = tuple(
        Reference((one.box, one.mask) if masked else (one.box,)) for one in instances
    )
    return (UnitGroup(names, references),)


def find_phrase(
    text: str, phrase: str, taken: Collection[tuple[int, int]] = ()
) -> tuple[int, int] | None:
    """Return the first free position of a phrase in a text, as whole words in any case."""
    words = phrase.strip()
    pattern = re.compile(rf"(?<!\w){re.escape(words)}(?!\w)", re.IGNORECASE)
    for match in pattern.finditer(text) if words else ():
        if match.span() not in taken:
            return match.span()
    return None


def located_size(path: Path) -> ImageSize:
    """Return the size of an image, for annotations without a size.

    Raises:
        BadRecord: As `deixis.data.sources.reading.image_header.read_header`, or the image has an EXIF
            rotation and its source does not declare the frame of the annotations.
    """
    header = read_header(path)
    if header.orientation != 1 and current_frame() == Frame():
        raise BadRecord(
            "orientation_ambiguous",
            f"EXIF orientation {header.orientation}, no size; say orientation=raw or upright",
        )
    return header_size(path)


def fraction_box(values: object, size: ImageSize, notes: dict[str, int]) -> Box:
    """Return the box in pixels of ``[x1, y1, x2, y2]`` in fractions of the sides, clipped.

    Raises:
        BadRecord: The box has no extent, lies outside the image, is not four numbers, or is in
            pixels.
    """
    numbers = [as_number(value, "box") for value in as_list(values, "box")]
    if len(numbers) != 4:
        raise BadRecord("bad_record", f"box: expected 4 numbers, got {len(numbers)}")
    if max(map(abs, numbers)) > 2:
        raise BadRecord("box_layout", f"box {shown(values)} looks like pixels, expected fractions")
    x1, y1, x2, y2 = numbers
    if not (x1 < x2 and y1 < y2):
        raise BadRecord("box_degenerate", f"box {shown(values)} has no extent")
    across = max(OVERSHOOT_PIXELS / size.width, OVERSHOOT_SHARE)
    down = max(OVERSHOOT_PIXELS / size.height, OVERSHOOT_SHARE)
    if x1 < -across or y1 < -down or x2 > 1 + across or y2 > 1 + down:
        raise BadRecord("box_outside", f"box {shown(values)} leaves its image")
    box = Box(x1 * size.width, y1 * size.height, x2 * size.width, y2 * size.height)
    if min(numbers) < 0 or max(numbers) > 1:
        notes["box_clipped"] = notes.get("box_clipped", 0) + 1
    try:
        return box.clip(size)
    except GeometryError as error:
        raise BadRecord("box_outside", str(error)) from None


def known_index(indices: Mapping[str, int], number: str) -> int:
    """Return the index of the instance of an object's id.

    Raises:
        BadRecord: No valid object has this id.
    """
    if number not in indices:
        raise BadRecord("unknown_annotation", f"object {number[:40]} is missing or invalid")
    return indices[number]

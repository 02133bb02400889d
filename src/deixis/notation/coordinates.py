"""The notation of Pink and TAMP: geometry as numbers in the text.

A box is ``[x1,y1,x2,y2]`` and a point ``[x,y]``, as fractions of the square that the image is
padded to, image in the middle, with three decimals. ``;`` separates several:
``[0.100,0.200,0.300,0.400;0.500,0.600,0.700,0.800]``. With ``marks`` the phrase is between
``<ref>`` and ``</ref>`` right before its coordinates.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from deixis.errors import GeometryError, NotationError
from deixis.geometry import Box, ImageSize, Letterbox, Mask, Padding, Point, Scribble
from deixis.notation.drafts import (
    MAX_DEPTH,
    Draft,
    DraftGroup,
    DraftPhrase,
    DraftReference,
    PhraseStart,
    walk,
)
from deixis.notation.encoded import Decoded, Encoded
from deixis.notation.markers import Marker, gaps_and_markers
from deixis.notation.problems import ProblemLog
from deixis.structures.units import (
    GroundedPhrase,
    GroundedText,
    Reference,
    Region,
    Unit,
    UnitGroup,
    UnitType,
)

_LIST = re.compile(r"\[([\d\s.,;+\-eE]*+)\]")
_CUT_LIST = re.compile(r"\[[\d\s.,;+\-eE]*+\Z")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
# What other models write for a box: tags, location tokens, and numbers in parentheses. Without a tag
# only fractions count, since whole numbers in parentheses are ordinary text. All repeats are bounded.
_FRACTION = r"\s{0,4}(?:[01]?\.\d{1,8}|[01])\s{0,4}"
_FOREIGN = re.compile(
    r"<\|?/?(?:box|bbox|quad|det)(?:_start|_end)?\|?>"
    r"|<(?:loc|bin|patch_index)_?\d{1,4}>"
    r"|<points?\s[^<>]{0,200}>"
    r"|<\d{1,4}><\d{1,4}><\d{1,4}><\d{1,4}>"
    rf"|\((?=[^()]{{0,80}}\.){_FRACTION}(?:,{_FRACTION}){{3}}\)"
    rf"|\((?=[^()]{{0,40}}\.){_FRACTION},{_FRACTION}\)\s{{0,4}}[,;]?\s{{0,4}}"
    rf"\({_FRACTION},{_FRACTION}\)",
    re.IGNORECASE,
)
# float() of a run of digits takes time with its square; no sound coordinate is this long.
_MAX_NUMBER_LENGTH = 40
_LENGTHS = {4: UnitType.BOX.value, 2: UnitType.POINT.value}


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Writes and reads boxes and points as text.

    Without ``marks`` (Pink's form) coordinates follow their phrase after a blank and the start of the
    phrase is not marked: it is read back as an empty phrase. Numbers are rounded to ``decimals``, so
    geometry is read back within half a step of the longer side's grid. ``padding`` is the place of
    the image in the square: ``floor`` is the padding of Pink's public code.
    """

    marks: bool = True
    decimals: int = 3
    max_references: int = 256
    padding: Padding = "half"

    markers: ClassVar[tuple[Marker, ...]] = (
        Marker.EXPRESSION_OPEN,
        Marker.EXPRESSION_CLOSE,
        Marker.BOX_OPEN,
        Marker.BOX_CLOSE,
    )

    @property
    def spelling(self) -> Mapping[Marker, str]:
        """The markers that TAMP uses, spelled as in its paper; ``<loc>`` is read and not written."""
        return {marker: marker.value for marker in self.markers}

    @property
    def latents(self) -> frozenset[Marker]:
        """No marker carries a latent: all geometry is in the text."""
        return frozenset()

    def adapt(self, answer: GroundedText) -> GroundedText:
        """Return the answer with boxes and points alone.

        A mask without a box becomes its box. A reference without either is left out, and so is a
        group that has no form: of other units, or (without ``marks``) of nothing.
        """
        return replace(
            answer,
            phrases=tuple(
                replace(phrase, groups=self._adapted_groups(phrase)) for phrase in answer.phrases
            ),
        )

    def _adapted_groups(self, phrase: GroundedPhrase) -> tuple[UnitGroup, ...]:
        groups: list[tuple[UnitGroup, bool]] = []
        for group in phrase.groups:
            for name in (UnitType.BOX, UnitType.MASK, UnitType.POINT):
                if name not in group.unit_types:
                    continue
                index = group.unit_types.index(name)
                units = [(_without_mask(each.units[index]), each) for each in group.references]
                kind = UnitType.POINT if name is UnitType.POINT else UnitType.BOX
                adapted = UnitGroup(
                    (kind.value,),
                    tuple(Reference((unit,), each.score) for unit, each in units if unit),
                )
                nothing = not group.references and self.marks and kind is UnitType.BOX
                # box and mask groups of the same instances give the same boxes
                changed = adapted != group
                again = any(adapted == kept and (changed or was) for kept, was in groups)
                if (adapted.references or nothing) and not again:
                    groups.append((adapted, changed))
                break
        return tuple(group for group, _ in groups)

    def encode(self, answer: GroundedText, size: ImageSize) -> Encoded:
        """Write an answer; boxes are clipped to the image of ``size``.

        Raises:
            NotationError: A group is not of boxes or points alone, has a reference without a
                unit, or is empty in a form that cannot say so; the words would be read as
                coordinates; phrases nest too deep; there are too many references.
        """
        grid = _Grid(size, self.decimals, self.padding)
        pieces: list[Marker | str] = []
        anything = False
        num_references = 0
        for item in walk(answer):
            if isinstance(item, str):
                pieces.append(item)
                anything = True
            elif isinstance(item, PhraseStart):
                pieces += [Marker.EXPRESSION_OPEN] if self.marks else []
            else:
                pieces += [Marker.EXPRESSION_CLOSE] if self.marks else []
                lists = "".join(grid.format(group, item.phrase) for group in item.phrase.groups)
                if lists:
                    pieces.append(lists if self.marks or not anything else f" {lists}")
                    anything = True
                num_references += len(item.phrase.references)
        if num_references > self.max_references:
            raise NotationError(
                f"an answer has {num_references} references, the limit is {self.max_references}"
            )
        self._check_readable(pieces, answer, size)
        return Encoded(tuple(pieces))

    def _check_readable(
        self, pieces: Sequence[Marker | str], answer: GroundedText, size: ImageSize
    ) -> None:
        read = self.decode(pieces, size).text
        same = read.text == answer.text
        if self.marks:
            same = same and _outline(read) == _outline(answer)
        else:
            same = same and _counts(read) == _counts(answer)
        if not same:
            raise NotationError(
                f"answer {answer.text[:80]!r}: its words would be read as coordinates, or a group "
                "of nothing cannot be written"
            )

    def decode(self, pieces: Sequence[Marker | str], size: ImageSize) -> Decoded:
        """Read pieces as grounded text, with boxes and points in pixels of an image of ``size``.

        Never raises. Numbers outside the image are brought to its edge, corners in the wrong
        order are exchanged, and a box without an extent is left out; each is a problem. What
        looks like a box of another notation stays in the text, and is a problem too.
        """
        reader = _Reader(self, _Grid(size, self.decimals, self.padding))
        for gap, marker, offset in gaps_and_markers(pieces, self.spelling):
            reader.read(gap, marker, offset)
        return reader.decoded()

    def write_region(self, region: Region, size: ImageSize) -> tuple[Marker | str, ...]:
        """Write a region that a question points with, in an image of ``size``.

        A point is ``[x,y]``; everything else is the box around it, clipped to the image. With
        ``marks``, ``<loc>`` and ``</loc>`` stand around it.

        Raises:
            NotationError: No part of the region lies in the image.
        """
        unit = _drawn_unit(region, size)
        group = UnitGroup((_LENGTHS[4 if isinstance(unit, Box) else 2],), (Reference((unit,)),))
        numbers = _Grid(size, self.decimals, self.padding).format(group, GroundedPhrase("", 0, 0))
        return (Marker.BOX_OPEN, numbers, Marker.BOX_CLOSE) if self.marks else (numbers,)

    def read_region(self, text: str, size: ImageSize) -> Box | Point:
        """Read one box or point, ``[x1,y1,x2,y2]`` or ``[x,y]``, in pixels of an image of ``size``.

        Raises:
            NotationError: The text is anything else, or does not fit the image.
        """
        decoded = replace(self, marks=False).decode([text.strip()], size)
        units = [
            unit
            for phrase in decoded.text.phrases
            for reference in phrase.references
            for unit in reference.units
        ]
        problem = f": {decoded.problems[0].message}" if decoded.problems else ""
        if decoded.problems or decoded.text.text or len(units) != 1:
            raise NotationError(
                f"region {text.strip()[:80]!r}: expected [x1,y1,x2,y2] or [x,y]{problem}"
            )
        (unit,) = units
        if not isinstance(unit, Box | Point):
            raise NotationError(f"region {text.strip()[:80]!r}: expected a box or a point")
        return unit


def _drawn_unit(region: Region, size: ImageSize) -> Box | Point:
    """Return a region as the box or point that numbers can write."""
    try:
        match region:
            case Point():
                region.check_inside(size)
                return region
            case Box():
                return region.clip(size)
            case Scribble() | Mask():
                return Mask.from_region(region, size).to_box()
    except GeometryError as error:
        raise NotationError(f"region cannot be written as coordinates: {error}") from error


def _without_mask(unit: Unit | None) -> Unit | None:
    if isinstance(unit, Mask):
        return None if unit.is_empty else unit.to_box()
    return unit


def _outline(answer: GroundedText) -> list[tuple[int, int, list[tuple[tuple[str, ...], int]]]]:
    return [
        (
            phrase.start,
            phrase.end,
            [(group.unit_types, len(group.references)) for group in phrase.groups],
        )
        for phrase in answer.phrases
    ]


def _counts(answer: GroundedText) -> list[tuple[tuple[str, ...], int]]:
    return sorted(group for _, _, groups in _outline(answer) for group in groups)


class _Grid:
    """Pixels of an image as steps of the square's grid, both ways.

    Steps are whole numbers, ``10**decimals`` of them along the square.
    """

    def __init__(self, size: ImageSize, decimals: int, padding: Padding) -> None:
        self._decimals = decimals
        self._steps: int = 10**decimals
        self._side: int = max(size)
        self._lengths = (float(size.width), float(size.height))
        self._padding = padding
        self._offsets = Letterbox(size, self._side, padding).offset

    def step(self, value: float, axis: int) -> int:
        """Return the step that a pixel coordinate falls on, brought into the image."""
        inside = min(max(value, 0.0), self._lengths[axis])
        share = (inside + self._offsets[axis]) / self._side
        if self._padding == "floor":
            # to the digit what "%.3f" prints, also where a share lies halfway
            share = round(share, self._decimals)
        return round(share * self._steps)

    def edges(self, axis: int) -> tuple[int, int]:
        """Return the steps of the image's edges, which may be one and the same."""
        return self.step(0.0, axis), self.step(self._lengths[axis], axis)

    def bounds(self, axis: int) -> tuple[int, int]:
        """Return the steps between which boxes lie: an image is at least one step thick."""
        first, last = self.edges(axis)
        return first, max(last, first + 1)

    def pixel(self, step: int, axis: int) -> float:
        """Return the pixel coordinate of a step, brought into the image."""
        value = step / self._steps * self._side - self._offsets[axis]
        return min(max(value, 0.0), self._lengths[axis])

    def format(self, group: UnitGroup, phrase: GroundedPhrase) -> str:
        """Return a group as a list of coordinates."""
        if group.unit_types not in {(UnitType.BOX,), (UnitType.POINT,)}:
            raise NotationError(
                f"phrase {phrase.text!r}: coordinates write boxes or points, not the unit types "
                f"{group.unit_types}"
            )
        entries: list[str] = []
        for (unit,) in (each.units for each in group.references):
            if isinstance(unit, Box):
                steps = self._corners(unit)
            elif isinstance(unit, Point):
                steps = [self.step(unit.x, 0), self.step(unit.y, 1)]
            else:
                raise NotationError(f"phrase {phrase.text!r}: a reference has no unit to write")
            entries.append(",".join(self._number(step) for step in steps))
        return f"[{';'.join(entries)}]"

    def _number(self, step: int) -> str:
        return f"{step / self._steps:.{self._decimals}f}"

    def _corners(self, box: Box) -> list[int]:
        x1, x2 = self._extent(box.x1, box.x2, 0)
        y1, y2 = self._extent(box.y1, box.y2, 1)
        return [x1, y1, x2, y2]

    def _extent(self, first: float, last: float, axis: int) -> tuple[int, int]:
        low, high = self.step(first, axis), self.step(last, axis)
        if low < high:
            return low, high
        # an instance thinner than a step still needs an extent: one step, inside the image
        return (low, low + 1) if low < self.bounds(axis)[1] else (low - 1, low)

    def read(self, numbers: Sequence[float], problems: ProblemLog, position: int) -> Sequence[int]:
        """Return the steps of the numbers of a box or a point that a model wrote."""
        limits = self.bounds if len(numbers) == 4 else self.edges
        steps: list[int] = []
        for index, value in enumerate(numbers):
            first, last = limits(index % 2)
            step = round(min(max(value, -1.0), 2.0) * self._steps)
            if not first <= step <= last:
                problems.add(
                    "out_of_range", f"coordinate {value:.6g} lies outside the image", position
                )
            steps.append(min(max(step, first), last))
        return steps


class _Reader:
    """Reads text with lists of coordinates in it, from front to back."""

    def __init__(self, notation: Coordinates, grid: _Grid) -> None:
        self._notation = notation
        self._grid = grid
        self._draft = Draft()
        self._problems = ProblemLog()
        # The phrase that coordinates right here belong to; None in words.
        self._target: DraftPhrase | None = None
        self._marked = False
        self._num_references = 0
        self._position = 0

    def read(self, gap: str, marker: Marker | None, position: int) -> None:
        """Take the text before a marker, then the marker; None is the end."""
        self._read_words(gap, position - len(gap), at_end=marker is None)
        if marker is Marker.EXPRESSION_OPEN:
            self._target = None
            if not self._draft.open_phrase():
                self._problems.add("too_deep", f"a phrase lies in {MAX_DEPTH} others", position)
        elif marker is Marker.EXPRESSION_CLOSE and self._draft.open:
            self._target = self._draft.close_phrase()
            self._marked = True
        elif marker is Marker.EXPRESSION_CLOSE:
            self._problems.add("unopened_phrase", "a phrase ends and none is open", position)
        elif marker is None:
            self._finish(position)
        elif marker not in self._notation.markers:
            self._problems.add(
                "unexpected_marker", f"{marker.value} does not belong here", position
            )

    def _read_words(self, gap: str, start: int, *, at_end: bool) -> None:
        for foreign in _FOREIGN.finditer(gap):
            self._add_foreign(foreign.group(), start + foreign.start())
        end = 0
        # Whether words, or brackets of another meaning, are between the last list and here.
        apart = False
        for match in _LIST.finditer(gap):
            self._position = start + match.start()
            apart = apart or bool(gap[end : match.start()].strip())
            here = None if apart else self._target
            group = self._parse(match.group(1), may_be_empty=here is not None and self._marked)
            if group is None:
                apart = True
                continue
            if here is None:
                self._add_words(gap[end : match.start()].removesuffix(" "))
            end = match.end()
            apart = False
            # A list whose boxes all lack an extent says nothing, not that nothing is there.
            if group.references or not match.group(1).strip():
                self._target = here or self._empty_phrase()
                self._target.groups.append(group)
        rest = gap[end:]
        cut = _cut_list(rest) if at_end else None
        if cut is not None:
            self._problems.add("truncated", "the text ends inside coordinates", start + end + cut)
            rest = rest[:cut].removesuffix(" ")
        # a blank between lists is no word, also where a marker that does not belong stands there
        after_list = end > 0 or self._target is not None
        if not at_end and not self._notation.marks and after_list and not rest.strip():
            rest = ""
        self._add_words(rest)

    def _add_words(self, words: str) -> None:
        if words:
            self._draft.add_text(words)
            self._target = None
            self._marked = False

    def _empty_phrase(self) -> DraftPhrase:
        if self._notation.marks:
            self._problems.add(
                "group_without_phrase", "coordinates follow no phrase", self._position
            )
        if not self._draft.open_phrase():
            self._problems.add(
                "too_deep", f"coordinates lie in {MAX_DEPTH} phrases", self._position
            )
        self._marked = False
        return self._draft.close_phrase()

    def _parse(self, text: str, *, may_be_empty: bool) -> DraftGroup | None:
        """Read the text between brackets; None if it is not meant as coordinates."""
        if not text.strip():
            return DraftGroup((UnitType.BOX.value,)) if may_be_empty else None
        entries = [entry.split(",") for entry in text.split(";")]
        if all(len(entry) == 1 and _is_blank_separated(entry[0]) for entry in entries):
            self._add_foreign(f"[{text}]", self._position)
            return None
        if len(entries) == 1 and len(entries[0]) == 1:
            return None
        lengths = {len(entry) for entry in entries}
        if len(lengths) > 1 or not lengths <= _LENGTHS.keys():
            self._problems.add(
                "wrong_count", f"[{text[:80]}] is neither boxes nor points", self._position
            )
            return None
        numbers = [[_parse_number(number) for number in entry] for entry in entries]
        known = [[number for number in entry if number is not None] for entry in numbers]
        if [len(entry) for entry in known] != [len(entry) for entry in numbers]:
            self._problems.add(
                "invalid_number", f"[{text[:80]}] has a number amiss", self._position
            )
            return None
        group = DraftGroup((_LENGTHS[len(entries[0])],))
        for entry in known:
            self._num_references += 1
            if self._num_references > self._notation.max_references:
                continue
            unit = self._unit(entry)
            if unit is not None:
                group.references.append(DraftReference((unit,)))
        return group

    def _add_foreign(self, text: str, position: int) -> None:
        self._problems.add(
            "foreign_notation",
            f"{text[:80]!r} looks like coordinates of another notation, expected [x1,y1,x2,y2]",
            position,
        )

    def _unit(self, numbers: Sequence[float]) -> Box | Point | None:
        steps = self._grid.read(numbers, self._problems, self._position)
        if len(steps) == 2:
            return Point(self._grid.pixel(steps[0], 0), self._grid.pixel(steps[1], 1))
        (x1, x2), (y1, y2) = sorted(steps[::2]), sorted(steps[1::2])
        if [x1, y1, x2, y2] != steps:
            self._problems.add(
                "unordered_box", f"the corners of {numbers} are mixed", self._position
            )
        left, right = self._grid.pixel(x1, 0), self._grid.pixel(x2, 0)
        top, bottom = self._grid.pixel(y1, 1), self._grid.pixel(y2, 1)
        if left >= right or top >= bottom:
            self._problems.add("empty_box", f"the box {numbers} has no extent", self._position)
            return None
        return Box(left, top, right, bottom)

    def _finish(self, position: int) -> None:
        for phrase in self._draft.open:
            self._problems.add(
                "unclosed_phrase",
                f"the phrase from character {phrase.start} does not end",
                position,
            )
        if self._draft.open and "truncated" not in self._problems:
            self._problems.add("truncated", "the text ends inside a phrase", position)
        limit = self._notation.max_references
        if self._num_references > limit:
            self._problems.add(
                "too_many_references",
                f"{self._num_references} references, the first {limit} are kept",
            )

    def decoded(self) -> Decoded:
        """Return the decoded text."""
        text, slots = self._draft.build()
        return Decoded(text, slots, self._problems.listed())


def _cut_list(text: str) -> int | None:
    """Return where a list of coordinates begins that the end of the text cut off."""
    start = text.rfind("[")
    if start < 0 or not _CUT_LIST.match(text, start):
        return None
    return start if any(mark in text[start:] for mark in ".,;") else None


def _is_blank_separated(text: str) -> bool:
    """Whether a text is four numbers separated by blanks, at least one with decimals."""
    # split() of a hostile text would make a list of all its words
    numbers = text.split(None, 4)
    return (
        len(numbers) == 4
        and "." in text
        and all(_parse_number(number) is not None for number in numbers)
    )


def _parse_number(text: str) -> float | None:
    stripped = text.strip()
    if len(stripped) > _MAX_NUMBER_LENGTH or not _NUMBER.fullmatch(stripped):
        return None
    return float(stripped)

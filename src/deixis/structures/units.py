"""What a model points with: unit types, units and grounded text."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from deixis.errors import GeometryError
from deixis.geometry import Box, DepthMap, Keypoints, Mask, Point, Scribble

Unit = Box | Mask | Point | Keypoints | DepthMap
"""What a model gives."""

Region = Point | Box | Scribble | Mask


class Description(str):
    """Words of a question that say which region is meant, set apart from the others.

    A text like any other for all that do not care; a region encoder may read it (TAMP 2.2).
    """

    __slots__ = ()


class RegionType(StrEnum):
    """How a region is given: drawn on the image, or described in words."""

    POINT = "point"
    BOX = "box"
    SCRIBBLE = "scribble"
    MASK = "mask"
    TEXT = "text"

    @property
    def number(self) -> int:
        """What stands for the type in tensors."""
        return tuple(RegionType).index(self)

    @classmethod
    def of(cls, region: "Region | Description") -> "RegionType":
        """The type of a region."""
        match region:
            case Description():
                return cls.TEXT
            case Point():
                return cls.POINT
            case Box():
                return cls.BOX
            case Scribble():
                return cls.SCRIBBLE
            case Mask():
                return cls.MASK


"""What a person gives."""


class UnitType(StrEnum):
    """The unit types that deixis decodes; a notation may carry other names, kept as undecoded."""

    BOX = "box"
    MASK = "mask"
    POINT = "point"
    KEYPOINT = "keypoint"
    DEPTH = "depth"


@dataclass(frozen=True, slots=True)
class Reference:
    """One instance that a phrase points at: a unit for each unit type of its group.

    A unit is None where its type has no decoder ("undecoded"). ``score`` is the model's own
    estimate, in [0, 1], that the units are right; None where nothing estimated it (truth).
    """

    units: tuple[Unit | None, ...]
    score: float | None = None

    def __post_init__(self) -> None:
        if self.score is not None and not 0.0 <= self.score <= 1.0:
            raise GeometryError(f"score {self.score} of a reference is not in [0, 1]")


@dataclass(frozen=True, slots=True)
class UnitGroup:
    """References of one phrase that share their unit types.

    ``unit_types`` has one name for a plain group and several for a composite one
    (``("box", "mask")``: each reference has both). No references means "nothing there".
    """

    unit_types: tuple[str, ...]
    references: tuple[Reference, ...]

    def __post_init__(self) -> None:
        if not self.unit_types:
            raise GeometryError("a unit group needs at least one unit type")
        for reference in self.references:
            if len(reference.units) != len(self.unit_types):
                raise GeometryError(
                    f"a reference has {len(reference.units)} units, its group {self.unit_types}"
                )


@dataclass(frozen=True, slots=True)
class GroundedPhrase:
    """A span of a grounded text and the units that it points at.

    ``start`` and ``end`` are character offsets into the text, end exclusive. ``groups`` may be
    empty: the phrase is marked and points at nothing.
    """

    text: str
    start: int
    end: int
    groups: tuple[UnitGroup, ...] = ()

    @property
    def references(self) -> tuple[Reference, ...]:
        """References of all groups, in order."""
        return tuple(reference for group in self.groups for reference in group.references)

    def _units(self) -> Iterator[Unit]:
        for reference in self.references:
            yield from (unit for unit in reference.units if unit is not None)

    @property
    def boxes(self) -> tuple[Box, ...]:
        """Decoded boxes, in order, in source pixels."""
        return tuple(unit for unit in self._units() if isinstance(unit, Box))

    @property
    def masks(self) -> tuple[Mask, ...]:
        """Decoded masks, in order, at the size of the source image."""
        return tuple(unit for unit in self._units() if isinstance(unit, Mask))

    @property
    def keypoints(self) -> tuple[Keypoints, ...]:
        """Decoded keypoint sets, in order, in source pixels."""
        return tuple(unit for unit in self._units() if isinstance(unit, Keypoints))

    @property
    def scores(self) -> tuple[float | None, ...]:
        """The score of each reference, in order."""
        return tuple(reference.score for reference in self.references)


@dataclass(frozen=True, slots=True)
class GroundedText:
    """Text whose phrases point at instances.

    Phrases are ordered by start, then outermost first. A phrase may hold another; two phrases
    never cross.
    """

    text: str
    phrases: tuple[GroundedPhrase, ...] = ()

    def __post_init__(self) -> None:
        open_ends: list[int] = []
        previous = (-1, 0)
        for phrase in self.phrases:
            if not 0 <= phrase.start <= phrase.end <= len(self.text):
                raise GeometryError(
                    f"phrase {phrase.text!r} [{phrase.start}:{phrase.end}] lies outside a text of "
                    f"{len(self.text)} characters"
                )
            if self.text[phrase.start : phrase.end] != phrase.text:
                raise GeometryError(
                    f"phrase {phrase.text!r} is not the text at [{phrase.start}:{phrase.end}]"
                )
            order = (phrase.start, -phrase.end)
            if order < previous:
                raise GeometryError(f"phrase {phrase.text!r} is out of order")
            previous = order
            while open_ends and open_ends[-1] <= phrase.start:
                open_ends.pop()
            if open_ends and phrase.end > open_ends[-1]:
                raise GeometryError(f"phrase {phrase.text!r} crosses another phrase")
            open_ends.append(phrase.end)

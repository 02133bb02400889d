"""The things of one image while they are read, and what was left out of them.

Every reader whose samples may be exhaustive fills an `Inventory`. It keeps the instances, finds the
same box given twice, and knows of each loss whether it was of a known class: `Inventory.left_out` is
what the sample says, and nothing else decides whether anybody counts, denies or finds all.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import floor

from deixis.data.sources.base import BadRecord, Reading, RecordProblem
from deixis.geometry import Box, ImageSize
from deixis.language import is_plural, plural
from deixis.structures import ANYTHING, ImageSource, Instance, LeftOut, Sample, Video

SAME_EDGE = 0.05
"""Pixels: edges that differ by less are the same edge, written with other digits."""


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """Which class names may mean the same thing: ``related`` of each name, itself not among them.

    A name is related to all above it, to all below it, and to its other spellings.
    """

    related: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, parents: Iterable[tuple[str, str]]) -> "Taxonomy":
        """Take pairs of a class and the name of its group; a group may be a class or may not be.

        >>> Taxonomy.of([("fruit", "none"), ("apple", "fruit")]).related["apple"]
        frozenset({'fruit'})
        """
        pairs = list(parents)
        names: dict[str, list[str]] = {one_spelling(name): [] for name, _ in pairs}
        above: dict[str, set[str]] = {}
        for name, parent in pairs:
            names[one_spelling(name)].append(name)
            if one_spelling(parent) != one_spelling(name):
                above.setdefault(one_spelling(name), set()).add(one_spelling(parent))
        related: dict[str, set[str]] = {}
        for key in names:
            for other in _reached(key, above) & names.keys():
                related.setdefault(key, set()).add(other)
                related.setdefault(other, set()).add(key)
        made: dict[str, frozenset[str]] = {}
        for key, spellings in names.items():
            others = [name for one in related.get(key, ()) for name in names[one]]
            for name in spellings:
                found = frozenset([*others, *spellings]) - {name}
                if found:
                    made[name] = found
        return cls(made)

    def broader(self, present: Collection[str]) -> frozenset[str]:
        """Names that things of the names that are present may bear too."""
        found: set[str] = set()
        for name in present if self.related else ():
            found.update(self.related.get(name, ()))
        return frozenset(found)


NO_TAXONOMY = Taxonomy()


def _reached(start: str, above: Mapping[str, set[str]]) -> set[str]:
    """All that is above a name; a circle of groups ends where it began."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for name in above.get(waiting.pop(), ()):
            if name not in found and name != start:
                found.add(name)
                waiting.append(name)
    return found


@lru_cache(maxsize=4096)
def one_spelling(name: str) -> str:
    """A class name without what people write now one way, now another: case, blanks, number."""
    words = " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
    return words if not words or is_plural(f"the {words}") else plural(words)


class Inventory:
    """The instances of one image, its faults and notes, and what was left out of it.

    Args:
        claimed: The source annotates everything of its classes. Otherwise anything may be missing,
            whatever is read.
    """

    def __init__(self, *, claimed: bool = True) -> None:
        self.claimed = claimed
        self.instances: list[Instance] = []
        self.problems: list[RecordProblem] = []
        self.notes: dict[str, int] = {}
        self._lost: set[str] = set()
        self._unknown = False
        self._places: dict[tuple[str, int], list[int]] = {}

    def add(self, instance: Instance) -> int:
        """Add an instance and return its index.

        One of the same class on the same box as an earlier one is the same thing given twice: the
        earlier one takes what it lacked, and the notes count ``box_twice``. Where both have masks or
        keypoints that differ, or one is a crowd, nobody knows how many there are: both stay, the
        class is not complete, and the notes count ``box_shared``.
        """
        index = self._twin(instance)
        if index is not None:
            joined = _joined(self.instances[index], instance)
            if joined is not None:
                self.note("box_twice")
                self.instances[index] = joined
                return index
            self.lose(instance.category, "box_shared")
        index = len(self.instances)
        self.instances.append(instance)
        self._places.setdefault((instance.category, floor(instance.box.x1)), []).append(index)
        return index

    def note(self, rule: str, count: int = 1) -> None:
        """Count what was normalised by a rule."""
        self.notes[rule] = self.notes.get(rule, 0) + count

    def problem(self, error: BadRecord, place: str, *, category: str | None = None) -> None:
        """List something that cannot be used, which may have been a thing of a class."""
        self.remark(error, place)
        self.lose(category)

    def remark(self, error: BadRecord, place: str) -> None:
        """List something that cannot be used and was no thing, such as a caption."""
        self.problems.append(error.problem(place))

    def lose(self, category: str | None, rule: str = "") -> None:
        """Say that a thing of a class, or of one that is not known, was left out.

        With ``rule`` it is counted among the notes.
        """
        if category is None:
            self._unknown = True
        else:
            self._lost.add(category)
        if rule:
            self.note(rule)

    def left_out(self, taxonomy: Taxonomy = NO_TAXONOMY) -> LeftOut:
        """What the instances lack, and which names are broader than they look."""
        if not self.claimed or self._unknown:
            return ANYTHING
        present = {one.category for one in self.instances}
        broader = taxonomy.broader(present | self._lost) | _ambiguous(present)
        lost = frozenset(self._lost)
        return LeftOut(categories=lost, broader=broader)

    def reading(
        self,
        key: str,
        image: ImageSource | Video,
        size: ImageSize,
        *,
        source: str,
        split: str,
        classes: Iterable[str] = (),
        taxonomy: Taxonomy = NO_TAXONOMY,
    ) -> Reading:
        """The sample of an image, whose id is the source's name and ``key``, with faults and notes.

        ``classes`` are all classes that the source annotates: those without an instance are absent
        from the image, unless something was left out.
        """
        left_out = self.left_out(taxonomy)
        present = {one.category for one in self.instances}
        absent = dict.fromkeys(name for name in classes if name not in present)
        sample = Sample(
            id=f"{source}/{key}",
            image=image,
            size=size,
            instances=tuple(self.instances),
            absent_categories=tuple(absent) if left_out.is_nothing else (),
            source=source,
            split=split,
            left_out=left_out,
        )
        return Reading(sample, tuple(self.problems), self.counts())

    def counts(self) -> tuple[tuple[str, int], ...]:
        """The notes, as a reading has them."""
        return tuple(sorted(self.notes.items()))

    def _twin(self, instance: Instance) -> int | None:
        box = instance.box
        for left in {floor(box.x1 - SAME_EDGE), floor(box.x1 + SAME_EDGE)}:
            for index in self._places.get((instance.category, left), ()):
                if _same(self.instances[index].box, box):
                    return index
        return None


def _same(one: Box, other: Box) -> bool:
    return (
        abs(one.x1 - other.x1) < SAME_EDGE
        and abs(one.y1 - other.y1) < SAME_EDGE
        and abs(one.x2 - other.x2) < SAME_EDGE
        and abs(one.y2 - other.y2) < SAME_EDGE
    )


def _joined(first: Instance, second: Instance) -> Instance | None:
    """One instance of two on the same box; None where they are two things."""
    if first.crowd != second.crowd:
        return None
    for one, other in ((first.mask, second.mask), (first.keypoints, second.keypoints)):
        if one is not None and other is not None and one != other:
            return None
    return replace(
        first,
        mask=second.mask if first.mask is None else first.mask,
        keypoints=second.keypoints if first.keypoints is None else first.keypoints,
        attributes=tuple(dict.fromkeys((*first.attributes, *second.attributes))),
        oriented=second.oriented if first.oriented is None else first.oriented,
        score=second.score if first.score is None else first.score,
    )


def _ambiguous(present: Collection[str]) -> frozenset[str]:
    """Names that are present in several spellings."""
    if len(present) < 2:
        return frozenset()
    spelled: dict[str, list[str]] = {}
    for name in present:
        spelled.setdefault(one_spelling(name), []).append(name)
    return frozenset(name for names in spelled.values() if len(names) > 1 for name in names)

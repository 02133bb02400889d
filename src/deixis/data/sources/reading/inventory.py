"""The instances of one image during reading, and those that were left out.

Every reader whose samples may be exhaustive fills an `Inventory`. It keeps the instances, merges
duplicate boxes, and records the class of each instance that was lost. `Inventory.left_out` alone
decides which classes tasks may count, deny or search for all instances of.
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
"""Tolerance in pixels: edges that differ by less are equal up to rounding."""


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """Class names that may apply to the same instance: ``related`` maps a name to the others.

    A name is related to all names above and below it, and to its other spellings.
    """

    related: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, parents: Iterable[tuple[str, str]]) -> "Taxonomy":
        """Return the taxonomy of pairs of a class and its group; a group need not be a class.

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
        """Return other names that instances of the present classes may have."""
        found: set[str] = set()
        for name in present if self.related else ():
            found.update(self.related.get(name, ()))
        return frozenset(found)


NO_TAXONOMY = Taxonomy()


def _reached(start: str, above: Mapping[str, set[str]]) -> set[str]:
    """Return all names above a name; a cycle of groups is followed once."""
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
    """Return a class name normalised for case, blanks and plural."""
    words = " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
    return words if not words or is_plural(f"the {words}") else plural(words)


class Inventory:
    """The instances of one image, its problems and notes, and the classes with lost instances.

    Args:
        claimed: The source claims to annotate every instance of its classes. Otherwise instances of
            any class may be missing.
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

        An instance with the class and box of an earlier one is a duplicate: the earlier one takes
        over the fields that it lacks, and the notes count ``box_twice``. If their masks or keypoints
        differ, or one of them is a crowd, the number of instances is unknown: both stay, the class
        counts as incomplete, and the notes count ``box_shared``.
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
        """Count a normalisation under the name of its rule."""
        self.notes[rule] = self.notes.get(rule, 0) + count

    def problem(self, error: BadRecord, place: str, *, category: str | None = None) -> None:
        """List the problem of a lost instance of ``category``, or of an unknown class."""
        self.remark(error, place)
        self.lose(category)

    def remark(self, error: BadRecord, place: str) -> None:
        """List the problem of a record that is not an instance, such as a caption."""
        self.problems.append(error.problem(place))

    def lose(self, category: str | None, rule: str = "") -> None:
        """Record that an instance of ``category``, or of an unknown class (None), was left out.

        With ``rule`` it is also counted in the notes.
        """
        if category is None:
            self._unknown = True
        else:
            self._lost.add(category)
        if rule:
            self.note(rule)

    def left_out(self, taxonomy: Taxonomy = NO_TAXONOMY) -> LeftOut:
        """Return the classes with lost instances, and the names that other classes share."""
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
        """Return the sample of an image with problems and notes; its id is the source's name and ``key``.

        ``classes`` are all classes that the source annotates: those without an instance are absent
        from the image, unless an instance was left out.
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
        """Return the notes in the form of `Reading`."""
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
    """Merge two instances with the same box; None if they may be different instances."""
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
    """Return the names that are present in several spellings."""
    if len(present) < 2:
        return frozenset()
    spelled: dict[str, list[str]] = {}
    for name in present:
        spelled.setdefault(one_spelling(name), []).append(name)
    return frozenset(name for names in spelled.values() if len(names) > 1 for name in names)

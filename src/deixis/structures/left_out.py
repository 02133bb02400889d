"""Instances that the annotations of an image lack, which tasks that count or deny depend on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Instances that an image may have and its sample lacks.

    All tasks that count, deny or ask for all instances use this record alone.

    Args:
        unknown: An instance of an unknown class is missing, so no class is complete.
        categories: Classes with at least one missing instance.
        others: Not all classes without instances were annotated, as in LVIS. Classes with instances
            are complete.
        broader: Names that instances of another class may also have, such as ``fruit`` beside
            apples. No instance is missing, but the number of instances of such a name is unknown.
    """

    unknown: bool = False
    categories: frozenset[str] = frozenset()
    others: bool = False
    broader: frozenset[str] = frozenset()

    @property
    def is_nothing(self) -> bool:
        """Whether the instances of all classes are complete."""
        return not (self.unknown or self.categories or self.others)

    def covers(self, category: str) -> bool:
        """Whether the instances of a class that has some are complete and all have its name."""
        return not (self.unknown or category in self.categories or category in self.broader)


NOTHING = LeftOut()
ANYTHING = LeftOut(unknown=True)
"""Of annotations that claim nothing: anything may be missing."""

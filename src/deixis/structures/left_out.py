"""What the annotations of an image lack: the one ground for counting, denying and finding all."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What may be in an image and is not among the instances of its sample.

    Every task that counts, denies or finds all goes by this alone.

    Args:
        unknown: Something of a class that is not known is missing, so no class is complete.
        categories: Classes of which at least one thing is missing.
        others: Classes without instances were not all looked for, as in LVIS. The classes that have
            instances are complete.
        broader: Names that things of another name may bear too, such as ``fruit`` beside apples.
            Nothing is missing, but the number of such a name is not known.
    """

    unknown: bool = False
    categories: frozenset[str] = frozenset()
    others: bool = False
    broader: frozenset[str] = frozenset()

    @property
    def is_nothing(self) -> bool:
        """Whether every thing of every class is there."""
        return not (self.unknown or self.categories or self.others)

    def covers(self, category: str) -> bool:
        """Whether every thing of a class that has instances is there, and bears its name."""
        return not (self.unknown or category in self.categories or category in self.broader)


NOTHING = LeftOut()
ANYTHING = LeftOut(unknown=True)
"""Of annotations that claim nothing: anything may be missing."""

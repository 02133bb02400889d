"""Which annotations of an image are missing; this decides what may be counted or denied."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Instances that may be in an image but are missing from its sample.

    Tasks that count, deny or ask for all instances use this and nothing else.

    Args:
        unknown: An instance of an unknown class is missing, so no class is complete.
        categories: Classes with at least one missing instance.
        others: Some classes without instances were not looked for, as in LVIS. Classes with instances
            are complete.
        broader: Names that also apply to instances with another name, such as ``fruit`` beside apples.
            No instance is missing, but the number for such a name is unknown.
    """

    unknown: bool = False
    categories: frozenset[str] = frozenset()
    others: bool = False
    broader: frozenset[str] = frozenset()

    @property
    def is_nothing(self) -> bool:
        """Whether no instance of any class is missing."""
        return not (self.unknown or self.categories or self.others)

    def covers(self, category: str) -> bool:
        """Whether all instances of a class in the sample are annotated under this name."""
        return not (self.unknown or category in self.categories or category in self.broader)


NOTHING = LeftOut()
ANYTHING = LeftOut(unknown=True)
"""For annotations that do not claim to be complete: anything may be missing."""

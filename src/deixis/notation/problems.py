"""Problems as they are found, with a bound on how many are listed."""

from deixis.structures.answer import Problem


class ProblemLog:
    """Collects the problems of one text.

    Hostile text can have a hundred thousand problems of one kind. The first of each kind are listed
    one by one and the rest are counted, so that a report stays small and complete.
    """

    def __init__(self, listed_per_code: int = 16) -> None:
        self._listed_per_code = listed_per_code
        self._problems: list[Problem] = []
        self._counts: dict[str, int] = {}

    def add(self, code: str, message: str, position: int | None = None) -> None:
        """Add one problem."""
        self._counts[code] = self._counts.get(code, 0) + 1
        if self._counts[code] <= self._listed_per_code:
            self._problems.append(Problem(code, message, position))

    def __contains__(self, code: str) -> bool:
        return code in self._counts

    def listed(self) -> tuple[Problem, ...]:
        """Return the listed problems in order, then the total of each code that has more."""
        more = [
            Problem(code, f"{count} of these in all, the first {self._listed_per_code} are listed")
            for code, count in self._counts.items()
            if count > self._listed_per_code
        ]
        return (*self._problems, *more)

"""Deprecations of other libraries, collected over a run and listed at its end.

A run of the tests does not fail for it, since the versions are pinned and a user's run does not
fail for it either. ``make test-latest`` runs with ``--fail-on-deprecations``.
"""

import warnings
from collections import Counter
from pathlib import Path

import pytest

_KINDS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)


class Deprecations:
    """Counts each deprecation by its text and by the file that it points to."""

    def __init__(self, *, fail: bool) -> None:
        self._fail = fail
        self._seen: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, nodeid: str
    ) -> None:
        """Record a warning of a test, of this process or a worker."""
        if not issubclass(warning_message.category, _KINDS):
            return
        place = "/".join(Path(warning_message.filename).parts[-3:])
        text = f"{warning_message.category.__name__}: {warning_message.message} ({place})"
        self._seen[text] += 1
        self._first.setdefault(text, nodeid)

    def lines(self) -> list[str]:
        """Return each deprecation once, with its count and a test that caused it."""
        return [
            f"{text}: {count} times, first in {self._first[text]}"
            for text, count in self._seen.most_common()
        ]

    def status(self, status: int) -> int:
        """Return the exit status of a run that would have ended with ``status``."""
        fails = self._fail and self._seen and status == pytest.ExitCode.OK
        return pytest.ExitCode.TESTS_FAILED if fails else status

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the deprecations at the end of a run."""
        for line in self.lines():
            terminalreporter.write_line(line)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the run, if requested."""
        session.exitstatus = self.status(session.exitstatus)

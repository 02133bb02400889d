"""Progress of long work on stderr: a bar on a terminal, regular lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

_SECONDS_BETWEEN_LINES = 10.0


class Report(Protocol):
    """Called with the amount of work done."""

    def __call__(self, done: int, total: int, detail: str = "", /) -> None:
        """Show that ``done`` of ``total`` are done, with a short note."""


@contextmanager
def shown_progress(label: str, unit: str) -> Iterator[Report]:
    """Yield a function that shows progress with a rate and the remaining time."""
    if sys.stderr.isatty():
        with _bar(label, unit) as report:
            yield report
    else:
        yield _Lines(label, unit)


class _Lines:
    def __init__(self, label: str, unit: str) -> None:
        self._label = label
        self._unit = unit
        self._start = time.monotonic()
        self._shown = self._start
        self._first: int | None = None

    def __call__(self, done: int, total: int, detail: str = "", /) -> None:
        now = time.monotonic()
        if self._first is None:
            # work done before a run was resumed does not count in the rate
            self._first = done
        if done < total and now - self._shown < _SECONDS_BETWEEN_LINES:
            return
        self._shown = now
        rate = (done - self._first) / max(now - self._start, 1e-9)
        words = [f"{self._label}: {done} of {total}"]
        if rate > 0:
            words.append(f"{rate:.3g} {self._unit} a second")
            words.append(f"{_clock((total - done) / rate)} left")
        print(", ".join([*words, *([detail] if detail else [])]), file=sys.stderr, flush=True)


@contextmanager
def _bar(label: str, unit: str) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=False) as progress:
        task = progress.add_task(label, total=None, rate="", detail="")
        start = time.monotonic()
        first: int | None = None

        def report(done: int, total: int, detail: str = "", /) -> None:
            nonlocal first
            first = done if first is None else first
            rate = (done - first) / max(time.monotonic() - start, 1e-9)
            shown = f"{rate:.3g} {unit}/s" if rate else ""
            progress.update(task, completed=done, total=total, rate=shown, detail=detail)

        yield report


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"

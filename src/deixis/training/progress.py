"""The training log: one JSON line per logged step, means since the last one."""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deixis.models.pointing import PointingOutput
from deixis.training.data import TurnCounts


class TrainLog:
    """Collect losses and measures; write and report their means.

    ``turns`` counts the turns of each stage so far, those of earlier sittings included.
    """

    def __init__(
        self, path: Path, report: Callable[[dict[str, float]], None] | None, *, total: int
    ) -> None:
        self.path = path
        self.report = report
        self.total = total
        self._sums: dict[str, float] = defaultdict(float)
        self._count = 0
        self._samples = 0
        self._fixed: dict[str, float | str] = {}
        self._turns = TurnCounts()
        self.turns: dict[str, TurnCounts] = defaultdict(TurnCounts)
        for row in self._rows():
            self.turns[row["stage"]] += _counts(row)
        self._before = self._last_seconds()
        self._start = self._since = time.monotonic()

    def _rows(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def _last_seconds(self) -> float:
        rows = self._rows()
        return float(rows[-1]["seconds"]) if rows else 0.0

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, earlier sittings included."""
        return self._before + time.monotonic() - self._start

    def add(
        self,
        stage: str,
        lr: float,
        output: PointingOutput,
        norm: float,
        samples: int,
        turns: TurnCounts,
    ) -> None:
        """Add one step."""
        self._fixed = {"stage": stage, "lr": lr}
        self._sums["loss"] += float(output.loss.detach())
        self._sums["norm"] += norm
        for name, value in {**output.parts, **output.measures}.items():
            self._sums[name] += float(value.detach())
        self._count += 1
        self._samples += samples
        self._turns += turns
        self.turns[stage] += turns

    def flush(self, step: int) -> None:
        """Write a line: means of losses and measures since the last one, and sums of turns."""
        now = time.monotonic()
        means = {name: total / self._count for name, total in self._sums.items()}
        row: dict[str, float | str] = {
            "step": step,
            "of": self.total,
            **self._fixed,
            **{name: round(value, 5) for name, value in means.items()},
            "turns": self._turns.kept,
            "turns_left_out": self._turns.left_out,
            "rows_without_turns": self._turns.rows_without,
            "rows_per_second": round(self._samples / (now - self._since), 2),
            "seconds": round(self.seconds, 1),
        }
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if self.report is not None:
            self.report({k: v for k, v in row.items() if not isinstance(v, str)})
        self._sums.clear()
        self._count = self._samples = 0
        self._turns = TurnCounts()
        self._since = now


def _counts(row: Mapping[str, Any]) -> TurnCounts:
    # logs of earlier versions have no turns
    names = ("turns", "turns_left_out", "rows_without_turns")
    return TurnCounts(*(int(row.get(name, 0)) for name in names))

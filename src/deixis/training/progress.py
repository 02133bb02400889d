"""The training log: one JSON line per logged step, means since the last one."""

import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch

from deixis.models.pointing import PointingOutput


class TrainLog:
    """Collect losses and measures; write and report their means."""

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
        self._before = self._last_seconds()
        self._start = self._since = time.monotonic()

    def _last_seconds(self) -> float:
        if not self.path.exists():
            return 0.0
        lines = self.path.read_text().splitlines()
        return float(json.loads(lines[-1])["seconds"]) if lines else 0.0

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, earlier sittings included."""
        return self._before + time.monotonic() - self._start

    def add(self, stage: str, lr: float, output: PointingOutput, norm: float, samples: int) -> None:
        """Add one step."""
        self._fixed = {"stage": stage, "lr": lr}
        told = {"loss": output.loss, **output.parts, **output.measures}
        # one read for all of them: an accelerator waits for each
        values = torch.stack([value.detach().float() for value in told.values()]).tolist()
        for name, value in zip(told, values, strict=True):
            self._sums[name] += value
        self._sums["norm"] += norm
        self._count += 1
        self._samples += samples

    def flush(self, step: int) -> None:
        """Write the means since the last flush as a line."""
        now = time.monotonic()
        means = {name: total / self._count for name, total in self._sums.items()}
        row: dict[str, float | str] = {
            "step": step,
            "of": self.total,
            **self._fixed,
            **{name: round(value, 5) for name, value in means.items()},
            "rows_per_second": round(self._samples / (now - self._since), 2),
            "seconds": round(self.seconds, 1),
        }
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if self.report is not None:
            self.report({k: v for k, v in row.items() if not isinstance(v, str)})
        self._sums.clear()
        self._count = self._samples = 0
        self._since = now

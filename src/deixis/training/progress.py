"""The training log: JSON lines with means since the previous line."""

import json
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from deixis.errors import StorageError
from deixis.models.pointing import PointingOutput
from deixis.storage import append_lines, write_file
from deixis.training.data import TurnCounts

logger = logging.getLogger(__name__)


class TrainLog:
    """Collect losses and measures; write and report their means.

    An existing log is truncated to ``step``, where the run resumes: rows of later steps were
    written after the checkpoint and will be written again. ``turns`` counts the turns of each stage
    so far, including earlier sessions of the run.

    Args:
        path: A file of JSON lines, which need not exist.
        report: Called with the numbers of every row.
        total: Steps of the whole run.
        step: Completed steps.

    Raises:
        StorageError: The file cannot be read or written.
    """

    def __init__(
        self,
        path: Path,
        report: Callable[[dict[str, float]], None] | None,
        *,
        total: int,
        step: int = 0,
    ) -> None:
        self.path = path
        self.report = report
        self.total = total
        self._sums: dict[str, float] = defaultdict(float)
        self._count = 0
        self._left_out = 0
        self._samples = 0
        self._fixed: dict[str, float | str] = {}
        self._turns = TurnCounts()
        self.turns: dict[str, TurnCounts] = defaultdict(TurnCounts)
        rows = rows_until(path, step, once=True)
        for row in rows:
            self.turns[str(row.get("stage"))] += _counts(row)
        before = rows[-1].get("seconds") if rows else 0.0
        sound = isinstance(before, int | float) and math.isfinite(before)
        self._before = float(before) if before is not None and sound else 0.0
        self._start = self._since = time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall time of the run so far in seconds, including earlier sessions."""
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
        told = {"loss": output.loss, **output.parts, **output.measures}
        # one transfer for all values: each would synchronise with the accelerator
        values = torch.stack([value.detach().float() for value in told.values()]).tolist()
        for name, value in zip(told, values, strict=True):
            self._sums[name] += value
        self._sums["norm"] += norm
        self._count += 1
        self._samples += samples
        self._turns += turns
        self.turns[stage] += turns

    def leave_out(self, stage: str, lr: float, samples: int) -> None:
        """Count a step whose loss or gradient was not finite; no mean includes it."""
        self._fixed = {"stage": stage, "lr": lr}
        self._left_out += 1
        self._samples += samples

    def flush(self, step: int, quarantined: int = 0) -> None:
        """Write a line with means of losses and measures since the last one, and sums of turns.

        Without steps since the last line, nothing is written. The line is not synced to the disk:
        after a power failure the log may lack its last rows.

        Raises:
            StorageError: The file cannot be written.
        """
        if not self._count and not self._left_out:
            return
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
            **({"left_out": self._left_out} if self._left_out else {}),
            **({"quarantined": quarantined} if quarantined else {}),
            "rows_per_second": round(self._samples / max(now - self._since, 1e-9), 2),
            "seconds": round(self.seconds, 1),
        }
        append_lines(self.path, [json.dumps(row)], synced=False)
        if self.report is not None:
            self.report({k: v for k, v in row.items() if not isinstance(v, str)})
        self._sums.clear()
        self._count = self._samples = self._left_out = 0
        self._turns = TurnCounts()
        self._since = now


def _counts(row: Mapping[str, Any]) -> TurnCounts:
    # logs of earlier versions have no turns, and a damaged log may have any value
    found = [row.get(name) for name in ("turns", "turns_left_out", "rows_without_turns")]
    return TurnCounts(*(value if type(value) is int else 0 for value in found))


def rows_until(path: Path, step: int, *, once: bool = False) -> list[dict[str, Any]]:
    """Truncate a file of JSON lines to rows of the first ``step`` steps and return these rows.

    An incomplete last line, as a kill may leave, is removed. Other invalid lines are removed with a
    warning. With ``once`` only the first row of each step is kept. A file without such lines is not
    rewritten.

    Raises:
        StorageError: The file cannot be read or written.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"{path}: cannot read: {(error.strerror or '').lower()}") from error
    lines = data.split(b"\n")
    rows: list[dict[str, Any]] = []
    kept: list[bytes] = []
    last = 0
    for number, line in enumerate(lines, start=1):
        row = _row(line)
        if row is None:
            if line.strip() and number < len(lines):
                logger.warning("%s: line %d is not a log row; skipped", path, number)
        elif row["step"] <= step and (row["step"] > last or not once):
            last = row["step"]
            rows.append(row)
            kept.append(line + b"\n")
    whole = b"".join(kept)
    if whole != data:
        write_file(path, whole)
    return rows


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        return None
    return row

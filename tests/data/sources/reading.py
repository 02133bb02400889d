"""Run a source as the engine does: parts grouped by image and sorted, each group a sample."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deixis.data.sources.base import REASONS, Part, PassedOver, Reading, RecordProblem, Source
from deixis.structures import Sample


def collect(source: Source) -> dict[str, Reading]:
    """Read a whole source into memory: what became of each image, by its key.

    Faults that belong to no image are under the empty key.
    """
    grouped: dict[str, list[Part]] = {}
    lost: list[RecordProblem] = []
    for part in source.parts():
        if isinstance(part, PassedOver):
            continue
        # everything that the engine has to write
        "".join(map(str, part if isinstance(part, Part) else (part.detail, part.place))).encode()
        if isinstance(part, RecordProblem):
            lost.append(part)
        else:
            grouped.setdefault(part.key, []).append(part)
    readings = {
        key: source.sample(key, sorted(parts, key=_order)) for key, parts in sorted(grouped.items())
    }
    if lost:
        assert "" not in readings
        readings[""] = Reading(None, tuple(lost))
    for reading in readings.values():
        assert all(problem.code in REASONS for problem in reading.problems)
    return readings


def samples(source: Source) -> dict[str, Sample]:
    """The samples of a source without any fault, by key."""
    readings = collect(source)
    assert not [problem for reading in readings.values() for problem in reading.problems]
    return {key: reading.sample for key, reading in readings.items() if reading.sample is not None}


def codes(readings: Mapping[str, Reading]) -> dict[str, int]:
    """How often each fault was found."""
    return dict(Counter(problem.code for one in readings.values() for problem in one.problems))


def notes(readings: Mapping[str, Reading]) -> dict[str, int]:
    """How often each normalisation was made."""
    total: Counter[str] = Counter()
    for reading in readings.values():
        total.update(dict(reading.notes))
    return dict(total)


def write_json(path: Path, content: Any) -> Path:
    """Write a JSON file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_lines(path: Path, records: Iterable[Any]) -> Path:
    """Write a JSON-lines file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(one)}\n" for one in records))
    return path


def _order(part: Part) -> tuple[str, str, str, str]:
    # the engine's
    return part.kind, part.order, part.place, part.payload

"""Write samples in a format and read them again."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deixis.data.export import ExportOptions, ExportReport, export_samples
from deixis.data.sources.base import Part, Source
from deixis.data.sources.registry import OpenedSource
from deixis.data.sources.scenes import Scenes
from deixis.structures import Sample


@dataclass(frozen=True)
class Exported:
    """A finished export."""

    folder: Path
    report: ExportReport
    quarantine: list[dict[str, Any]]


def opened(source: Source) -> OpenedSource:
    """An opened source."""
    root = getattr(source, "images", None)
    return OpenedSource(source, source.name, Path(root) if root is not None else Path())


def export(
    folder: Path, form: str, *sources: Source, budget: float = 0.0, **options: Any
) -> Exported:
    """Export sources into ``folder/out``."""
    out = folder / "out"
    out.mkdir(parents=True)
    report = export_samples(
        [opened(source) for source in sources],
        form,
        out,
        quarantine=folder / "faults.jsonl",
        options=ExportOptions(**options),
        budget=budget,
    )
    problems = (folder / "faults.jsonl").read_text().splitlines()
    assert report.images == report.written + report.quarantined
    assert len(problems) == report.reasons.total()
    # no temporary files are left
    assert not list(folder.rglob(".*"))
    return Exported(out, report, [json.loads(line) for line in problems])


def scenes(count: int = 12, split: str = "val") -> Scenes:
    """Drawn scenes."""
    return Scenes(count=count, split=split)


def scene_samples(source: Scenes) -> list[Sample]:
    """The samples of the drawn scenes."""
    made = []
    for part in source.parts():
        assert isinstance(part, Part)
        sample = source.sample(part.key, [part]).sample
        assert sample is not None
        made.append(replace(sample, image=Path()))
    return made

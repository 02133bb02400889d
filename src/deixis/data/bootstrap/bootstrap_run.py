"""Runs bootstrapping, or continues an interrupted run.

A folder belongs to one plan. Journals hold one line for each finished image. At the end, the run
writes the output files from the journals in the order of sources and keys, and then the manifest:
a folder without a manifest is unfinished.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deixis.data.bootstrap.bootstrap_plan import BootstrapPlan
from deixis.data.bootstrap.files import claim, lines_file
from deixis.data.bootstrap.round_trip import DROPPED, Asker
from deixis.data.bootstrap.round_trip_worker import ASKED, CROWDED, Job, read_journal, run_blocks
from deixis.data.bootstrap.worker_processes import run_workers
from deixis.data.build.build_run import locked
from deixis.data.build.index import make_index
from deixis.errors import DeixisError, StorageError
from deixis.storage import write_json
from deixis.structures import ImageArray

Progress = Callable[[int, int], None]
"""Called with the number of finished images and the total."""

BINS = 10
"""Number of equal bins of the IoU histogram."""


@dataclass(frozen=True, slots=True)
class BootstrapResult:
    """A finished run: its folder and its manifest."""

    folder: Path
    manifest: Mapping[str, Any]


def bootstrap(
    plan: BootstrapPlan,
    out: Path,
    *,
    open_model: Callable[[], Asker],
    read: Callable[[Path], ImageArray],
    workers: int = 1,
    progress: Progress | None = None,
) -> BootstrapResult:
    """Describe boxes, locate the descriptions, and keep those that lead back to their box.

    Writes to ``out``: ``data/SOURCE.jsonl`` with the kept descriptions of each source,
    ``dropped.jsonl`` with all other descriptions and the reasons, ``quarantine.jsonl`` with
    annotations and images that cannot be used, and ``manifest.json``.

    Args:
        plan: The plan of the run.
        out: A new or empty folder, or one with a run of the same plan.
        open_model: Returns the model; called once in each process.
        read: Returns the upright pixels of an image file.
        workers: Processes on this machine; several processes need picklable ``open_model`` and
            ``read``.
        progress: Called with the progress of the run.

    Raises:
        RecipeError: The folder holds a run of another plan.
        AnnotationError: An annotation file is damaged beyond its records.
        StorageError: A file cannot be written.
        LockedError: Another process works in the folder.
    """
    with locked(out):
        manifest = out / "manifest.json"
        claim(out, plan.digest, plan.to_dict())
        if manifest.exists():
            return BootstrapResult(out, json.loads(manifest.read_text(encoding="utf-8")))
        work = out / ".build"
        index = make_index(plan.indexed, work / "index")
        job = Job(plan, index, work, open_model, read)
        _run(job, workers, progress or (lambda done, total: None))  # noqa: ARG005
        result = _finish(job, out)
        shutil.rmtree(work, ignore_errors=True)
        return BootstrapResult(out, result)


def _run(job: Job, workers: int, tell: Progress) -> None:
    done = {number: len(read_journal(job.journal(number))) for number in range(job.blocks)}
    missing = [number for number, lines in done.items() if lines < job.count(number)]
    total = sum(done.values())
    tell(total, job.images)
    if workers > 1 and len(missing) > 1:
        run_workers(job, missing, workers, lambda count: tell(count, job.images))
        return

    def add(count: int) -> None:
        nonlocal total
        total += count
        tell(total, job.images)

    run_blocks(job, missing, add)


def _entries(job: Job) -> Iterator[dict[str, Any]]:
    """Yield the lines of all journals, in the order of the images."""
    for number in range(job.blocks):
        done = read_journal(job.journal(number))
        if sorted(done) != list(range(job.count(number))):
            raise StorageError(f"{job.journal(number)}: lines of finished images are missing")
        yield from (done[at] for at in range(job.count(number)))


def _finish(job: Job, out: Path) -> dict[str, Any]:
    """Write the files and the manifest."""
    names = [one.source.name for one in job.plan.sources]
    counts = {name: _Counts() for name in names}
    with ExitStack() as stack:
        kept = {name: stack.enter_context(lines_file(out, f"data/{name}.jsonl")) for name in names}
        dropped = stack.enter_context(lines_file(out, "dropped.jsonl"))
        quarantine = stack.enter_context(lines_file(out, "quarantine.jsonl"))
        for name, problem in job.index.problems:
            quarantine.write(
                {
                    "source": name,
                    "place": problem.place,
                    "code": problem.code,
                    "detail": problem.detail,
                }
            )
        for entry in _entries(job):
            counts[entry["source"]].add(entry)
            if entry["kept"] is not None:
                kept[entry["source"]].write(entry["kept"])
            for one in entry["dropped"]:
                dropped.write(one)
            for one in entry["faults"]:
                quarantine.write(one)
    manifest = {
        "digest": job.plan.digest,
        "plan": job.plan.to_dict(),
        "sources": {
            one.source.name: {
                "spec": one.spec,
                "file": f"data/{one.source.name}.jsonl",
                "images": str(one.root),
                **counts[one.source.name].to_dict(),
            }
            for one in job.plan.sources
        },
        "files": [file.describe() for file in (*kept.values(), dropped, quarantine)],
    }
    write_json(out / "manifest.json", manifest)
    return manifest


class _Counts:
    """Counts of a source's images and instances by outcome."""

    def __init__(self) -> None:
        self.images: Counter[str] = Counter()
        self.not_described: Counter[str] = Counter()
        self.total = self.kept = self.captions = 0
        self.reasons: Counter[str] = Counter(dict.fromkeys(DROPPED, 0))
        self.bins = [0] * BINS

    def add(self, entry: Mapping[str, Any]) -> None:
        self.images[entry["fate"]] += 1
        if entry["fate"] in {ASKED, CROWDED} or entry["skipped"]:
            self.total += entry["objects"]
        if entry["fate"] == CROWDED:
            self.not_described["in_images_of_too_many"] += entry["objects"]
        self.not_described.update(entry["skipped"])
        line = entry["kept"] or {}
        self.kept += len(line.get("expressions", ()))
        self.captions += len(line.get("captions", ()))
        self.reasons.update(one["reason"] for one in entry["dropped"])
        ious = [one["provenance"]["iou"] for one in line.get("expressions", ())]
        ious += [one["iou"] for one in entry["dropped"] if one["found"] is not None]
        for iou in ious:
            self.bins[min(int(iou * BINS), BINS - 1)] += 1

    def to_dict(self) -> dict[str, Any]:
        described = self.kept + sum(self.reasons.values())
        if self.total != described + sum(self.not_described.values()):
            raise DeixisError(f"the counts of outcomes do not add up to {self.total} instances")
        return {
            "image_fates": dict(sorted(self.images.items())),
            "objects": self.total,
            "not_described": dict(sorted(self.not_described.items())),
            "described": described,
            "kept": self.kept,
            "keep_rate": self.kept / described if described else None,
            "dropped": dict(self.reasons),
            "iou_of_found": {"bin_width": 1 / BINS, "counts": self.bins},
            "captions": self.captions,
        }


def reading_specs(folder: Path, manifest: Mapping[str, Any]) -> Sequence[str]:
    """Return source specifications of the kept descriptions, for ``deixis data build``.

    Image names are relative to the folder of their source; all geometry is in the source frame.
    """
    specs = []
    for name, one in manifest["sources"].items():
        path = folder / str(one["file"])
        specs.append(f"jsonl:{path},name={name},images={one['images']},orientation=upright")
    return specs

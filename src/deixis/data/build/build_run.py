"""Runs a build, or continues an interrupted one.

A folder belongs to one plan. A build first indexes all annotations, then writes one shard for each
block, in any order and on any number of workers, and lists finished blocks in a journal. It writes
the manifest last: a data set without a manifest is unfinished. Interruptions do not change the
final bytes.
"""

import json
import multiprocessing
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from deixis.data.build.block import Quarantined
from deixis.data.build.block_worker import quarantine_path, run_block, run_watched, shard_name
from deixis.data.build.build_plan import BuildPlan
from deixis.data.build.cluster import run_on_cluster
from deixis.data.build.dataset import read_manifest
from deixis.data.build.index import Index, make_index
from deixis.data.build.isolated import run_isolated
from deixis.data.build.orphans import end_with_parent
from deixis.data.build.shards import write_quarantine
from deixis.errors import BudgetError, DeixisError, RecipeError, StorageError
from deixis.storage import (
    append_lines,
    clear_drafts,
    locked_folder,
    make_folder,
    read_lines,
    sha256_of,
    write_file,
    write_json,
)

Progress = Callable[[str, int, int], None]
"""Called with the step, the amount done and the total (0 if unknown)."""

CODE_ERROR_BUDGET = 0.0001
_RESPAWNS = 3
_SPACE_FROM = 3
"""Number of finished shards from which the size of the rest is estimated."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The number of images with problems from which a build stops.

    A build stops when more than ``share`` of a source's images have problems, after the first
    ``least`` images, or more than ``most`` images in total. Code errors have a separate budget,
    `CODE_ERROR_BUDGET`.
    """

    share: float = 0.01
    least: int = 100
    most: int = 100_000

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise RecipeError(f"error budget {self.share}: expected 0 to 1")

    def is_over(self, bad: int, seen: int) -> bool:
        """Return whether ``bad`` images with problems of ``seen`` images exceed the budget."""
        return (seen >= self.least and bad > self.share * seen) or bad > self.most


@dataclass(frozen=True, slots=True)
class BuildResult:
    """A finished data set: its folder and its manifest."""

    folder: Path
    manifest: Mapping[str, Any]


def build(
    plan: BuildPlan,
    out: Path,
    *,
    workers: int = 1,
    cluster: str | None = None,
    budget: Budget | None = None,
    progress: Progress | None = None,
) -> BuildResult:
    """Build a data set, or continue an interrupted build.

    Args:
        plan: The plan of the build.
        out: A new or empty folder, or one with a build of the same plan.
        workers: Processes on this machine.
        cluster: The address of a Ray cluster to use instead (see `deixis.data.build.cluster`).
        budget: How many images may have problems.
        progress: Called with the progress of each step.

    Raises:
        RecipeError: The folder holds another build.
        AnnotationError: An annotation file is damaged beyond its records.
        BudgetError: Too many images have problems. No manifest is written; finished shards are kept.
        StorageError: A file cannot be written.
        LockedError: Another process builds in the folder.
        CheckpointError: The build is finished, but its manifest is damaged.
    """
    _check_free(out)
    known, begun = out.exists(), (out / "plan.json").exists()
    with locked(out):
        work = out / ".build"
        manifest = out / "manifest.json"
        tell = progress or (lambda step, done, total: None)  # noqa: ARG005
        try:
            _claim(plan, out)
            if manifest.exists():
                return BuildResult(out, read_manifest(out))
            index = make_index(plan, work / "index", on_parts=lambda count: tell("index", count, 0))
        except BaseException:
            if not begun:
                _forget(out, keep=known)
            raise
        run = _Run(plan, out, work, index, budget or Budget(), tell)
        run.clear_drafts()
        run.blocks(workers, cluster)
        return BuildResult(out, run.finish())


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Make a build's folders, and lock them inside the ``with`` block.

    Raises:
        LockedError: Another process holds the lock.
        StorageError: The folder cannot be made.
    """
    with locked_folder(out, "building there", name=".build.lock"):
        make_folder(out / "data")
        make_folder(out / ".build" / "quarantine")
        yield


def _forget(out: Path, *, keep: bool) -> None:
    """Undo a build that has made nothing; ``keep`` the folder if it existed before."""
    shutil.rmtree(out / ".build", ignore_errors=True)
    for name in ("plan.json", ".build.lock"):
        with suppress(OSError):
            (out / name).unlink()
    for folder in (out / "data", *(() if keep else (out,))):
        with suppress(OSError):
            folder.rmdir()


def _check_free(out: Path) -> None:
    if not out.is_dir() or (out / "plan.json").exists():
        return
    own = {"data", ".build", ".build.lock"}
    other = [
        one.name
        for one in out.iterdir()
        if one.name not in own and not re.fullmatch(r"\.plan\.json\.[0-9a-f]+\.tmp", one.name)
    ]
    if other or ((out / "data").exists() and any((out / "data").iterdir())):
        raise StorageError(f"output {out}: is not empty, expected a new or empty folder")


def _claim(plan: BuildPlan, out: Path) -> None:
    path = out / "plan.json"
    text = json.dumps({"digest": plan.digest, **plan.to_dict()}, indent=1) + "\n"
    if not path.exists():
        write_file(path, text)
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["digest"]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise StorageError(f"{path}: damaged: {error}") from error
    if found != plan.digest:
        raise RecipeError(
            f"{out} holds another build, or its annotations have changed; "
            "expected the same sources, tasks, seed and options"
        )


class _Run:
    """Makes the blocks of a build and reports progress."""

    def __init__(
        self,
        plan: BuildPlan,
        out: Path,
        work: Path,
        index: Index,
        budget: Budget,
        tell: Progress,
    ) -> None:
        self.plan = plan
        self.out = out
        self.work = work
        self.index = index
        self.budget = budget
        self.tell = tell
        self.journal = work / "journal.jsonl"
        self.done = self._journaled()
        self.checked = 0
        self.begun: set[int] = set()

    def _journaled(self) -> dict[int, dict[str, Any]]:
        """Return the entries of blocks whose files match the journal; the rest is made again."""
        done: dict[int, dict[str, Any]] = {}
        for line in read_lines(self.journal):
            try:
                entry = json.loads(line)
                number = int(entry["block"])
            except (ValueError, KeyError, TypeError):
                continue
            shard = self.out / "data" / shard_name(number, self.index.blocks)
            whole = shard.exists() and shard.stat().st_size == entry["bytes"]
            whole = whole and quarantine_path(self.out, number).exists()
            if whole and sha256_of(shard) == entry["sha256"]:
                done[number] = entry
        return done

    def clear_drafts(self) -> None:
        """Remove the unfinished files of an interrupted run."""
        for folder in (self.out, self.out / "data", self.work, self.work / "quarantine"):
            clear_drafts(folder)

    def blocks(self, workers: int, cluster: str | None) -> None:
        """Make the missing blocks."""
        missing = [number for number in range(self.index.blocks) if number not in self.done]
        self._check_budget()
        self.tell("build", len(self.done), self.index.blocks)
        if cluster is not None and missing:
            job = (self.plan, self.index, missing, self.out)
            run_on_cluster(*job, address=cluster, take=self._take)
            return
        if workers == 1 or len(missing) < 2:
            for number in missing:
                self._take(run_block(self.plan, self.index, number, self.out))
            return
        respawns = 0
        while missing:
            try:
                self._with_pool(missing, min(workers, len(missing)))
            except BrokenProcessPool as error:
                respawns += 1
                if respawns > _RESPAWNS:
                    raise DeixisError(
                        f"{self.out}: worker processes were killed {respawns} times; "
                        "is there enough memory?"
                    ) from error
                # one of these blocks killed the process; the pool does not say which
                for number in sorted(self.begun - self.done.keys()):
                    self._take(run_isolated(self.plan, self.index, number, self.out))
            missing = [number for number in missing if number not in self.done]

    def _with_pool(self, missing: list[int], workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent) as pool:
            waiting = iter(missing)
            running: set[Future[dict[str, Any]]] = set()
            try:
                while True:
                    for number in waiting:
                        job = (self.plan, self.index, number, self.out)
                        self.begun.add(number)
                        running.add(pool.submit(run_watched, *job))
                        if len(running) >= 2 * workers:
                            break
                    if not running:
                        return
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        self._take(future.result())
            except BaseException:
                for future in running:
                    future.cancel()
                raise

    def _take(self, entry: dict[str, Any]) -> None:
        append_lines(self.journal, [json.dumps(entry, separators=(",", ":"))])
        self.done[entry["block"]] = entry
        self.tell("build", len(self.done), self.index.blocks)
        self._check_budget()
        self._check_space()

    def _check_space(self) -> None:
        """Stop as soon as the finished shards predict that the disk is too small for the rest."""
        left = self.index.blocks - len(self.done)
        if len(self.done) < _SPACE_FROM or not left:
            return
        mean = sum(entry["bytes"] for entry in self.done.values()) / len(self.done)
        free = shutil.disk_usage(self.out).free
        if left * mean > free:
            raise StorageError(
                f"{self.out}: the remaining {left} shards need about {left * mean / 2**20:.0f} MiB, "
                f"but {free / 2**20:.0f} MiB are free\n"
                "hint: make room and start again; finished shards are kept"
            )

    def _check_budget(self) -> None:
        """Stop if the finished blocks before the first unfinished one exceed the budget.

        This prefix makes a build stop at the same block, whatever the order of the workers.
        """
        while self.checked in self.done:
            self.checked += 1
        entries = [self.done[number] for number in range(self.checked)]
        for source, count in self.index.counts.items():
            fates = _fates(entries, source)
            bad = sum(entry["at_fault"].get(source, 0) for entry in entries)
            seen = sum(fates.values())
            if self.budget.is_over(bad, seen):
                raise BudgetError(self._over(source, bad, seen, entries))
            # problems without an image are known for the whole source from the beginning
            lost, every = bad + count.problems, count.images + count.problems
            if self.checked and count.problems and self.budget.is_over(lost, every):
                raise BudgetError(self._over(source, lost, every, entries))
            broken = sum(
                n
                for entry in entries
                for name, code, _, n in entry["faults"]
                if name == source and code == "code_error"
            )
            if broken > CODE_ERROR_BUDGET * (seen + count.problems):
                raise BudgetError(
                    f"source {source}: {broken} of {seen} images raised an error in the code: "
                    + self._over(source, bad, seen, entries)
                )

    def _over(self, source: str, bad: int, seen: int, entries: list[dict[str, Any]]) -> str:
        reasons: Counter[str] = Counter()
        examples: list[str] = []
        for name, problem in self.index.problems:
            if name == source:
                reasons[problem.code] += 1
                examples.append(f"{problem.place}: {problem.code}: {problem.detail}")
        for entry in entries:
            for name, code, _, n in entry["faults"]:
                reasons[code] += n if name == source else 0
            examples += [
                f"{place}: {code}: {detail}"
                for name, code, place, detail in entry["examples"]
                if name == source
            ]
        top = ", ".join(f"{code} {n}" for code, n in reasons.most_common(3))
        first = (
            f"source {source}: {bad} of {seen} images have problems, "
            f"expected at most {self.budget.share:.4g} of them; mostly {top}"
        )
        return "\n".join([first, *examples[:5]])

    def finish(self) -> dict[str, Any]:
        """Write the quarantine table and the manifest, and remove temporary files."""
        entries = [self.done[number] for number in range(self.index.blocks)]
        rows = [
            Quarantined(name, "", problem.place, problem.code, problem.detail[:200], "", "record")
            for name, problem in self.index.problems
        ]
        for number in range(self.index.blocks):
            table = pq.read_table(quarantine_path(self.out, number))
            rows += [Quarantined(**row) for row in table.to_pylist()]
        write_quarantine(self.out / "quarantine.parquet", rows)
        manifest = self._manifest(entries, rows)
        write_json(self.out / "manifest.json", manifest)
        shutil.rmtree(self.work, ignore_errors=True)
        return manifest

    def _manifest(self, entries: list[dict[str, Any]], rows: list[Quarantined]) -> dict[str, Any]:
        tasks: Counter[str] = Counter()
        for entry in entries:
            tasks.update(entry["tasks"])
        return {
            "digest": self.plan.digest,
            "plan": self.plan.to_dict(),
            "conversations": sum(entry["rows"] for entry in entries),
            "tasks": dict(sorted(tasks.items())),
            "sources": {
                one.source.name: self._source(one.source.name, str(one.root), entries, rows)
                for one in self.plan.sources
            },
            "shards": [
                {
                    "name": f"data/{shard_name(entry['block'], self.index.blocks)}",
                    "rows": entry["rows"],
                    "bytes": entry["bytes"],
                    "sha256": entry["sha256"],
                }
                for entry in entries
            ],
            "quarantine": {
                "rows": len(rows),
                "sha256": sha256_of(self.out / "quarantine.parquet"),
                "reasons": dict(sorted(Counter(row.code for row in rows).items())),
            },
        }

    def _source(
        self, name: str, root: str, entries: list[dict[str, Any]], rows: list[Quarantined]
    ) -> dict[str, Any]:
        fates = _fates(entries, name)
        notes: Counter[str] = Counter()
        for entry in entries:
            for source, note, n in entry["notes"]:
                notes[note] += n if source == name else 0
        count = self.index.counts[name]
        if sum(fates.values()) != count.images:
            raise DeixisError(
                f"source {name}: {count.images} images indexed, but {sum(fates.values())} counted"
            )
        return {
            "root": root,
            "images": count.images,
            "records": count.parts + count.problems + sum(count.passed_over.values()),
            "records_passed_over": count.passed_over,
            "used": fates["used"],
            "used_without_some_records": fates["partly"],
            "quarantined": fates["quarantined"],
            "filtered": {"no_task_applies": fates["no_task_applies"]},
            "quarantined_records": sum(
                row.source == name and row.scope == "record" for row in rows
            ),
            "normalised": {note: n for note, n in sorted(notes.items()) if n},
        }


def _fates(entries: list[dict[str, Any]], source: str) -> Counter[str]:
    fates: Counter[str] = Counter(used=0, partly=0, quarantined=0, no_task_applies=0)
    for entry in entries:
        for name, fate, n in entry["images"]:
            if name == source:
                fates[fate] += n
    return fates

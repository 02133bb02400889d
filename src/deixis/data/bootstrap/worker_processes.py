"""Runs bootstrapping workers in several processes of this machine; each opens the model."""

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from deixis.data.bootstrap.round_trip_worker import Job, read_journal, run_blocks
from deixis.data.build.orphans import end_with_parent
from deixis.errors import DeixisError

RESPAWNS = 3
"""How often killed workers are started again."""
_SECONDS_BETWEEN_LOOKS = 0.2


def run_workers(
    job: Job, missing: list[int], workers: int, on_total: Callable[[int], None]
) -> None:
    """Give each process every n-th block, and start killed processes again.

    Args:
        job: The input of all workers.
        missing: The unfinished blocks.
        workers: Number of processes.
        on_total: Called with the total number of finished images.

    Raises:
        DeixisError: Workers were killed too often, or a worker raised an error.
    """
    respawns = 0
    while missing:
        count = min(workers, len(missing))
        if not _run(job, [missing[start::count] for start in range(count)], on_total):
            respawns += 1
            if respawns > RESPAWNS:
                raise DeixisError(
                    f"worker processes were killed {respawns} times; is there enough memory?"
                )
        missing = [n for n in missing if len(read_journal(job.journal(n))) < job.count(n)]


def _run(job: Job, chunks: list[list[int]], on_total: Callable[[int], None]) -> bool:
    """Run one process for each chunk; return False if a worker was killed."""
    context = multiprocessing.get_context("spawn")
    sent = replace(job, parent=multiprocessing.current_process().pid)
    running: list[tuple[SpawnProcess, Connection]] = []
    progress = _Progress(job)
    try:
        for chunk in chunks:
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(sent, chunk, sender), daemon=True)
            process.start()
            sender.close()
            running.append((process, receiver))
        while any(process.is_alive() for process, _ in running):
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            on_total(progress.total())
            for process, receiver in running:
                _check(process, receiver)
        for process, receiver in running:
            process.join()
            _check(process, receiver)
        on_total(progress.total())
        return all(process.exitcode == 0 for process, _ in running)
    finally:
        for process, receiver in running:
            process.kill()
            process.join()
            receiver.close()


def _check(process: SpawnProcess, receiver: Connection) -> None:
    """Raise the error of a worker."""
    if receiver.poll():
        try:
            error = receiver.recv()
        except EOFError:
            error = None
        if isinstance(error, DeixisError):
            raise error
    if process.exitcode is not None and process.exitcode > 0:
        raise DeixisError("a worker process raised an error; see its traceback above")


def _work(job: Job, numbers: list[int], sender: Connection) -> None:
    end_with_parent()
    try:
        run_blocks(job, numbers)
    except DeixisError as error:
        sender.send(error)


class _Progress:
    """Counts the lines of all journals and reads only new bytes."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.seen: dict[Path, tuple[int, int]] = {}

    def total(self) -> int:
        for number in range(self.job.blocks):
            path = self.job.journal(number)
            size, lines = self.seen.get(path, (0, 0))
            if path.exists() and path.stat().st_size > size:
                with path.open("rb") as file:
                    file.seek(size)
                    data = file.read()
                self.seen[path] = size + len(data), lines + data.count(b"\n")
        return min(self.job.images, sum(lines for _, lines in self.seen.values()))

"""Makes blocks with images that crash or hang a process, and quarantines those images.

A pool does not report which image crashed its process. So the block of a crashed process is made
again in a separate process that reports each image before reading it. An image that crashes this
process twice, or exceeds the time limit, is quarantined, and the block is made without it.
"""

import multiprocessing
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from deixis.data.build.block_worker import run_block
from deixis.data.build.build_plan import BuildPlan
from deixis.data.build.image_limits import IMAGE_SECONDS, ImageKey, Lost
from deixis.data.build.index import Index
from deixis.data.build.orphans import end_with_parent
from deixis.data.sources.base import RecordProblem
from deixis.errors import DeixisError

_GRACE = 1.0
_START = 60.0
"""Seconds that the start of a process may take in addition to the limit of an image; `_GRACE` lets
the limit inside the process expire first."""
_KILLS = 3
_CRASHES = {-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE}
"""Exit codes of crashes. SIGKILL is left out: it comes from outside the process."""


def run_isolated(
    plan: BuildPlan, index: Index, number: int, out: Path, *, seconds: float = IMAGE_SECONDS
) -> dict[str, Any]:
    """Make a block as `run_block` does, in a separate process that may crash.

    Raises:
        DeixisError: The block cannot be made, or its process was killed from outside several times.
    """
    lost: dict[ImageKey, RecordProblem] = {}
    suspect: ImageKey | None = None
    kills = 0
    while True:
        entry, image, code = _attempt(plan, index, number, out, lost, seconds)
        if entry is not None:
            return entry
        if code is None:
            if image is None:
                raise DeixisError(f"block {number}: its process did not start in {seconds:g} s")
            lost[image] = RecordProblem("decode_timeout", f"not read in {seconds:g} s")
        elif code in _CRASHES and image is not None:
            if image == suspect:
                name = signal.Signals(-code).name
                lost[image] = RecordProblem(
                    "decoder_crash", f"reading it ended the process: {name}"
                )
            suspect = image
        else:
            kills += 1
            if kills == _KILLS:
                raise DeixisError(
                    f"block {number}: its process ended {kills} times with code {code}; "
                    "is there enough memory?"
                )


def _attempt(
    plan: BuildPlan, index: Index, number: int, out: Path, lost: Lost, seconds: float
) -> tuple[dict[str, Any] | None, ImageKey | None, int | None]:
    """Return the block's entry; without one, the last image and the exit code (None: it hung)."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(there, plan, index, number, out, dict(lost)))
    process.start()
    there.close()
    image: ImageKey | None = None
    try:
        while here.poll(seconds + (_START if image is None else _GRACE)):
            told = here.recv()
            if isinstance(told, DeixisError):
                raise told
            if isinstance(told, dict):
                return told, None, 0
            image = told
    except EOFError:
        process.join()
        return None, image, process.exitcode
    else:
        return None, image, None
    finally:
        process.kill()
        process.join()
        here.close()


def _child(
    there: Connection, plan: BuildPlan, index: Index, number: int, out: Path, lost: Lost
) -> None:
    end_with_parent()
    try:
        there.send(run_block(plan, index, number, out, lost=lost, watch=there.send))
    except DeixisError as error:
        there.send(error)

"""Workers of a build whose parent is killed: a real parent, real workers, a real SIGKILL."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

_CHILD = """
import os, sys, time
sys.path[:0] = [{tests!r}]
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from deixis.data.build import BuildPlan, build
from deixis.data.build.index import make_index
from deixis.data.build.isolated import run_isolated
from deixis.data.mixture import parse_mixture
from deixis.data.sources.base import Part, Reading
from deixis.data.sources.registry import OpenedSource
from deixis.data.tasks import TASKS

@dataclass(frozen=True)
class Endless:
    name: str = "endless"
    files: tuple[str, ...] = ()
    images: Any = None

    def parts(self) -> Iterator[Part]:
        for number in range(4):
            yield Part(f"{{number}}", "image", "", "image", "")

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        Path({pids!r}, str(os.getpid())).touch()
        while True:
            time.sleep(0.1)

if __name__ == "__main__":
    sources = (OpenedSource(Endless(), "endless", Path()),)
    plan = BuildPlan(sources, parse_mixture("caption", known=TASKS), shard_images=1)
    out = Path({out!r})
    if {isolated}:
        run_isolated(plan, make_index(plan, out / "index"), 0, out)
    else:
        build(plan, out, workers=2)
"""


def _until(holds: Callable[[], bool]) -> None:
    for _ in range(1200):
        if holds():
            return
        time.sleep(0.1)
    pytest.fail("it did not happen in two minutes")


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # a zombie: the process has ended, but its parent has not waited for it
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize(("isolated", "workers"), [(False, 2), (True, 1)])
def test_workers_end_when_their_parent_is_killed(
    tmp_path: Path, *, isolated: bool, workers: int
) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    child = tmp_path / "child.py"
    child.write_text(
        _CHILD.format(
            tests=str(Path(__file__).parents[2]),
            pids=str(pids),
            out=str(tmp_path / "out"),
            isolated=isolated,
        )
    )
    with subprocess.Popen([sys.executable, str(child)]) as process:  # noqa: S603
        try:
            _until(lambda: len(list(pids.iterdir())) == workers or process.poll() is not None)
            assert process.poll() is None
        finally:
            process.send_signal(signal.SIGKILL)
    for path in pids.iterdir():
        _until(partial(_gone, int(path.name)))

"""Processes that are killed at a chosen step, and disks that are full from a chosen byte on."""

import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

_STEPS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}


def in_child(work: Callable[[], object]) -> int:
    """Start work in a new process; return its number."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def ended(child: int) -> int:
    """Wait for a process; return its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at_step(step: int, work: Callable[[], object]) -> bool:
    """Run work in a child that is killed before its n-th call to the file system.

    Returns whether it was killed; False means that it has fewer calls and came to its end.
    """

    def child() -> None:
        left = step
        fsync = os.fsync

        def count() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        def counted_fsync(descriptor: int) -> None:
            count()
            fsync(descriptor)

        pytest.MonkeyPatch().setattr(os, "fsync", counted_fsync)
        sys.addaudithook(lambda event, _: count() if event in _STEPS else None)
        work()

    code = ended(in_child(child))
    assert code in {0, -signal.SIGKILL}
    return code != 0


def killed_at_byte(limit: int, work: Callable[[], object]) -> bool:
    """Run work in a child that is ended within the write that grows a file over ``limit`` bytes.

    Returns whether it was ended.
    """

    def child() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        work()

    code = ended(in_child(child))
    assert code in {0, -signal.SIGXFSZ}
    return code != 0


@contextmanager
def short_files(limit: int) -> Iterator[None]:
    """Limit the size of files, like a disk that is full at a chosen byte."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    kept = sys.dont_write_bytecode
    # Python does not detect truncated bytecode of a module
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sys.dont_write_bytecode = kept


@contextmanager
def full_disk(calls: int) -> Iterator[None]:
    """After some calls, fsync fails because the disk is full."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls -= 1
        if calls < 0:
            raise OSError(28, "No space left on device")
        real(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        yield

"""Ranks for tests, forked from a server that imports deixis once: an import takes several seconds."""

import multiprocessing
from collections.abc import Callable

from torch.multiprocessing.spawn import start_processes

multiprocessing.set_forkserver_preload(["deixis.training.steps"])


def run_ranks(main: Callable[..., None], *arguments: object) -> None:
    """Run ``main(rank, *arguments)`` in two processes; raise the first error of one."""
    start_processes(main, args=arguments, nprocs=2, start_method="forkserver")

"""Blocks made on the machines of a Ray cluster.

A block needs nothing but its own file and gives nothing but its own shard, so a cluster has only to
run `run_block` somewhere: there is no shuffle. The output folder has to be on storage that all
machines see. Ray runs a block again elsewhere when the machine that had it is lost; running it twice
writes the same bytes twice.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deixis.data.build.block_worker import run_block
from deixis.data.build.build_plan import BuildPlan
from deixis.data.build.index import Index
from deixis.data.build.isolated import run_isolated
from deixis.errors import DeixisError, RecipeError

RETRIES = 5
"""How often a block may be lost with its machine."""
_AHEAD = 4


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    try:
        import ray  # noqa: PLC0415  # an extra, and slow to load
    except ImportError as error:
        raise RecipeError(
            "building on a cluster needs Ray; install deixis with the extra `scale`"
        ) from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    mine = not ray.is_initialized()
    if mine:
        options: dict[str, Any] = {"address": address, "log_to_driver": False}
        if address == "local":
            options |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        try:
            ray.init(configure_logging=False, **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RecipeError(f"cluster {address}: cannot connect: {first}") from error
    try:
        yield ray
    finally:
        if mine:
            ray.shutdown()


def run_on_cluster(
    plan: BuildPlan,
    index: Index,
    blocks: Sequence[int],
    out: Path,
    *,
    address: str,
    take: Callable[[dict[str, Any]], None],
) -> None:
    """Make blocks on a cluster; ``take`` gets what is in each, in the order in which they end.

    Args:
        plan: What to build.
        index: Its finished index.
        blocks: Numbers of the blocks to make.
        out: The data set's folder, on shared storage.
        address: ``auto``, ``host:port``, ``ray://host:port``, or ``local`` for this machine.
        take: Told of each finished block.

    Raises:
        RecipeError: Ray is not installed, or there is no cluster.
        DeixisError: A block failed, or was lost too often.
    """
    with _connected(address) as ray:
        remote = ray.remote(num_cpus=1, max_retries=RETRIES)(run_block)
        # once to the cluster, not once for every block
        shared = [ray.put(one) for one in (plan, index)]
        width = max(int(ray.cluster_resources().get("CPU", 1)), 1) * _AHEAD
        waiting = iter(blocks)
        running: list[Any] = []
        numbers: dict[Any, int] = {}
        while True:
            for number in waiting:
                task = remote.remote(*shared, number, out.resolve())
                numbers[task] = number
                running.append(task)
                if len(running) >= width:
                    break
            if not running:
                return
            finished, running = ray.wait(running, num_returns=1)
            for one in finished:
                try:
                    entry = ray.get(one)
                except ray.exceptions.RayTaskError as error:
                    cause = error.cause
                    raise cause if isinstance(cause, DeixisError) else error from None
                except ray.exceptions.WorkerCrashedError:
                    # not its machine, its process: an image that kills, most likely
                    entry = run_isolated(plan, index, numbers[one], out.resolve())
                except ray.exceptions.RayError as error:
                    first = str(error).splitlines()[0]
                    raise DeixisError(f"cluster {address}: a block was lost: {first}") from error
                take(entry)

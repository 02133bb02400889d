"""Makes the blocks of a build on the machines of a Ray cluster.

A block reads one file and writes one shard, so the cluster only calls `run_block` and shuffles
nothing. All machines need access to the storage of the output folder. When a machine is lost, Ray
runs its block on another machine, which writes the same bytes.
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
"""How often Ray runs a block again after it was lost with its machine."""
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
    """Make blocks on a cluster.

    Args:
        plan: The plan of the build.
        index: The finished index of the plan.
        blocks: Numbers of the blocks to make.
        out: The data set's folder, on shared storage.
        address: ``auto``, ``host:port``, ``ray://host:port``, or ``local`` for this machine.
        take: Called with the journal entry of each block, in the order in which blocks finish.

    Raises:
        RecipeError: Ray is not installed, or no cluster answers at the address.
        DeixisError: A block failed, or was lost too often.
    """
    with _connected(address) as ray:
        remote = ray.remote(num_cpus=1, max_retries=RETRIES)(run_block)
        # sent to the cluster once, not for every block
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
                    # the process crashed, not the machine; an image is the likely cause
                    entry = run_isolated(plan, index, numbers[one], out.resolve())
                except ray.exceptions.RayError as error:
                    first = str(error).splitlines()[0]
                    raise DeixisError(f"cluster {address}: a block was lost: {first}") from error
                take(entry)

import subprocess
import sys
from pathlib import Path

import pytest
from annotated import bytes_of, line, plan_of, write_lines

from deixis.data.build import build

_ON_TWO_MACHINES = """
import sys, threading, time
sys.path[:0] = [{tests!r}]
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from annotated import plan_of
from deixis.data.build import build

out = Path({out!r})
cluster = Cluster(
    initialize_head=True,
    head_node_args={{"num_cpus": 0, "include_dashboard": False}},
)
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)

def kill() -> None:
    journal = out / ".build" / "journal.jsonl"
    while not journal.exists() or journal.read_bytes().count(b"\\n") < 3:
        time.sleep(0.01)
    cluster.remove_node(nodes[0], allow_graceful=False)
    print("killed", flush=True)

killer = threading.Thread(target=kill)
killer.start()
build(plan_of("jsonl:{lines}"), out, cluster="auto")
killer.join()
# the cluster sees a loss only when the machine has been silent for a while
while len([node for node in ray.nodes() if node["Alive"]]) > 2:
    time.sleep(0.1)
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.slow
def test_a_cluster_that_loses_a_machine_gives_the_same_bytes(tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "lines.jsonl", [line(number) for number in range(800)])
    build(plan_of(f"jsonl:{lines}"), tmp_path / "here")
    script = _ON_TWO_MACHINES.format(
        tests=str(Path(__file__).parents[2]), out=str(tmp_path / "out"), lines=lines
    )
    command = [sys.executable, "-c", script]
    ended = subprocess.run(  # noqa: S603
        command, check=False, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    # Ray says much beside it
    assert "killed" in set(ended.stdout.splitlines())
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "here")

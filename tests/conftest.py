"""Fixtures of several test packages."""

import os
import shutil
from pathlib import Path

import pytest
from command import Ended, Run
from deprecations import Deprecations
from hypothesis import HealthCheck, settings

from deixis.cli import main

# Tensors in tests are tiny: a second thread costs more than it gives, above all on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A build makes each of its files durable. A test's folder does not have to outlive the machine: in memory
# that costs nothing, and a kill of a process sees the same files.
_MEMORY = Path("/dev/shm")  # noqa: S108 (pytest makes a folder of its own in it)
if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 6 * 2**30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))

# The time of an example depends on the load of the machine.
settings.register_profile("deixis", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("deixis")

_SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
_REAL_WEIGHTS = Path(__file__).parents[1] / ".real-weights"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that fails a run on deprecations of other libraries."""
    parser.addoption("--fail-on-deprecations", action="store_true", help="see deprecations.py")


def pytest_configure(config: pytest.Config) -> None:
    """Collect deprecations where the results are: a worker's come to the process that began it."""
    if not hasattr(config, "workerinput"):
        fail = config.getoption("--fail-on-deprecations")
        config.pluginmanager.register(Deprecations(fail=fail))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data beside the checkout; skip the test without it.

    With ``DEIXIS_REQUIRE_SHARED=1`` its absence is a failure, so that a run that is meant to have
    it cannot pass by skipping.
    """
    if _SHARED_DATA.is_dir():
        return _SHARED_DATA
    message = f"no real data at {_SHARED_DATA}"
    if os.environ.get("DEIXIS_REQUIRE_SHARED") == "1":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def real_weights() -> Path:
    """Return the folder of small released models; skip the test without it."""
    folder = Path(os.environ.get("DEIXIS_REAL_WEIGHTS", _REAL_WEIGHTS))
    if not folder.is_dir():
        pytest.skip(f"no released weights at {folder}: make real-weights fetches them")
    return folder


@pytest.fixture
def deixis(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run ``deixis`` with arguments; it must not print a traceback."""

    def run(*arguments: object) -> Ended:
        capfd.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ending:
            code = ending.code if isinstance(ending.code, int) else 1
        printed = capfd.readouterr()
        assert "Traceback" not in printed.err
        return Ended(code, printed.out, printed.err)

    return run

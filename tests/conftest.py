"""Fixtures that several parts use."""

import os
from pathlib import Path

import pytest

# Tensors in tests are tiny: a second thread costs more than it gives, above all on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

_SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Give the folder of real data beside the checkout; skip where there is none.

    With ``DEIXIS_REQUIRE_SHARED=1`` its absence is a failure, so that a run that is meant to have
    it cannot pass by skipping.
    """
    if _SHARED_DATA.is_dir():
        return _SHARED_DATA
    message = f"no real data at {_SHARED_DATA}"
    if os.environ.get("DEIXIS_REQUIRE_SHARED") == "1":
        pytest.fail(message)
    pytest.skip(message)

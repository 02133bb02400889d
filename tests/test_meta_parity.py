"""The page that sets parts of the papers beside references is what its command measures."""

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest

RESULTS = Path(__file__).parent.parent / "results"


def parity_program() -> Any:
    """The program of the page, as a module."""
    spec = importlib.util.spec_from_file_location("deixis_parity", RESULTS / "parity.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses of the file look their own module up by name
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


PARTS = parity_program().PARTS


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_a_part_equals_its_reference_within_its_bound(part: Any) -> None:
    # another seed than that of the page: the bound is no matter of luck
    assert part.difference(seed=5) <= part.bound


def test_the_page_has_every_part_and_none_is_beyond_its_bound() -> None:
    page = (RESULTS / "parity.md").read_text()
    rows = re.findall(r"^\| (.*) \|$", page, re.MULTILINE)[2:]
    written = [row.split(" | ") for row in rows]
    assert [row[0] for row in written] == [part.name for part in PARTS]
    for row, part in zip(written, PARTS, strict=True):
        assert row[1:4] == [part.official, part.ours, part.preset]
        assert float(row[-2]) <= float(row[-1]) == part.bound
    for fact in ("command: `python results/parity.py", "seed: 11", "torch ", "hardware: "):
        assert fact in page

"""Benchmarks run, at a size that says nothing about speed."""

import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

TRAINS = {"anchored_decoder"}
"""Benchmarks that train the small model: minutes even for one step of each stage."""

SMALL = {
    "aggregation": "--images 1 --regions 2 --channels 8 --grid 6 --mask 24 --repeats 1",
    "data_build": "--images 40 --memory 20 --rounds 1",
    "features": "--images 1 --rounds 1",
    "generation": "--tokens 4 --questions 2 --repeats 1",
    "grouped_matching": "--images 2 --groups 2 --references 3",
    "language_loss": "--tokens 64 --vocabulary 100 --width 8 --repeats 1",
    "scenes": "--count 2 --long-side 64",
}


def test_every_benchmark_is_run_or_named() -> None:
    assert {path.stem for path in BENCHMARKS.glob("*.py")} == set(SMALL) | TRAINS


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_runs(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = BENCHMARKS / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(path), *SMALL[name].split()])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.strip()

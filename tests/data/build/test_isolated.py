from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from data.build.hostile import ROOT, Hostile

from deixis.data.build import Budget, BuildPlan, BuiltDataset, block, build
from deixis.data.build.index import make_index
from deixis.data.build.isolated import run_isolated
from deixis.data.mixture import Mixture
from deixis.data.sources.registry import OpenedSource


def _plan(harm: dict[int, str]) -> BuildPlan:
    source = OpenedSource(Hostile(harm), "hostile", ROOT)
    mixture = Mixture((("detection_all", 1.0),))
    return BuildPlan((source,), mixture, check_images=False, shard_images=20)


def _rows(folder: Path) -> dict[str, Any]:
    return {row["id"]: row for row in BuiltDataset(folder).rows()}


def _quarantined(folder: Path) -> list[tuple[str, str]]:
    rows = pq.read_table(folder / "quarantine.parquet").to_pylist()
    return [(row["key"], row["code"]) for row in rows]


@pytest.mark.slow
def test_an_image_that_crashes_its_process_is_quarantined(
    tmp_path: Path,
) -> None:
    build(_plan({}), tmp_path / "clean", workers=2)
    build(_plan({25: "crash"}), tmp_path / "out", workers=2, budget=Budget(share=0.1))
    assert _quarantined(tmp_path / "out") == [("025", "decoder_crash")]
    clean, found = _rows(tmp_path / "clean"), _rows(tmp_path / "out")
    assert clean.keys() - found.keys() == {"025/0"}
    assert all(found[key] == clean[key] for key in found)


def test_an_image_over_the_time_limit_is_quarantined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block, "IMAGE_SECONDS", 0.2)
    build(_plan({5: "wait", 41: "wait"}), tmp_path / "out", budget=Budget(share=0.1))
    assert _quarantined(tmp_path / "out") == [("005", "decode_timeout"), ("041", "decode_timeout")]
    assert len(_rows(tmp_path / "out")) == 58


@pytest.mark.slow
def test_a_process_with_hanging_native_code_is_killed(tmp_path: Path) -> None:
    plan = _plan({1: "spin", 7: "crash"})
    index = make_index(plan, tmp_path / "index")
    (tmp_path / "out" / ".build" / "quarantine").mkdir(parents=True)
    (tmp_path / "out" / "data").mkdir()
    entry = run_isolated(plan, index, 0, tmp_path / "out", seconds=1)
    assert entry["rows"] == 18
    codes = {code: n for _, code, _, n in entry["faults"]}
    assert codes == {"decode_timeout": 1, "decoder_crash": 1}

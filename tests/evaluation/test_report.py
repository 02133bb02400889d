import json
from pathlib import Path

import pytest
from answer_keys import FEW, LIMIT, TASK_NAMES, KeyPredictor

from deixis.errors import BenchmarkError, StorageError
from deixis.evaluation import (
    CenterBox,
    LargestInstance,
    Report,
    evaluate,
    write_results_table,
)

REC = "scenes/rec:val@standard"
FACTS = {"title": "scenes-tiny", "command": "deixis eval", "hardware": "2 cores", "commit": "abc"}


def test_a_report_is_plain_json(full_report: Report, tmp_path: Path) -> None:
    full_report.to_json(tmp_path / "report.json")
    read = json.loads((tmp_path / "report.json").read_text())
    assert read == json.loads(json.dumps(full_report.to_dict(), allow_nan=False))
    assert len(read["results"]) == 3 * len(TASK_NAMES)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_each_result_holds_its_protocol(full_report: Report) -> None:
    terms = full_report["scenes/rec:val@hard"].protocol
    assert (terms.benchmark, terms.set, terms.split) == ("scenes/rec:val@hard", "location", "val")
    assert (terms.level, terms.num_examples, terms.wording) == ("hard", FEW, "Where {is} {x}?")
    assert (terms.threshold, terms.inequality) == (0.5, ">")
    assert (terms.predictor.name, terms.predictor.decoding) == ("key", "none")
    assert len(terms.examples_sha256) == 64
    assert full_report["scenes/count:val@hard"].protocol.inequality is None


def test_a_report_that_cannot_be_written_is_a_storage_error(
    full_report: Report, tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match=r"report\.json: cannot write"):
        full_report.to_json(tmp_path / "none" / "report.json")


def test_an_unknown_result_is_refused(full_report: Report) -> None:
    with pytest.raises(BenchmarkError, match=r"no result of scenes/rec:train: the report holds"):
        full_report["scenes/rec:train"]


def test_markdown_has_a_row_for_each_benchmark(full_report: Report) -> None:
    lines = full_report.to_markdown().splitlines()
    for result in full_report.results:
        rows = [line for line in lines if line.startswith(f"| {result.benchmark} |")]
        assert len(rows) == len(result.scores)
    assert "| accuracy at 0.5 |" in lines[0]
    assert "1.000 [1.000, 1.000]" in lines[2]


def test_the_page_of_results_compares_the_model_with_baselines(
    oracle: KeyPredictor, tmp_path: Path
) -> None:
    names = [REC]
    reports = {
        "scenes-tiny": evaluate(oracle, names, limit=LIMIT),
        "centre box": evaluate(CenterBox(), names, limit=LIMIT),
        "largest instance": evaluate(LargestInstance(), names, limit=LIMIT),
        "not measured": Report(()),
    }
    write_results_table(reports, tmp_path / "scenes_tiny.md", **FACTS)
    text = (tmp_path / "scenes_tiny.md").read_text()
    for fact in FACTS.values():
        assert fact in text
    assert "right where IoU > 0.5" in text
    (heading,) = [line for line in text.splitlines() if line.startswith("| benchmark")]
    (row,) = [line for line in text.splitlines() if line.startswith(f"| {REC}")]
    assert heading.endswith("| centre box | largest instance | not measured |")
    largest = reports["largest instance"][REC].headline
    assert row.endswith(f"| {reports['centre box'][REC].headline:.3f} | {largest:.3f} | – |")  # noqa: RUF001 - a dash in a table cell
    assert row.startswith(f"| {REC} | 1.000 [1.000, 1.000] | ")


def test_every_task_has_a_section_on_the_page(full_report: Report, tmp_path: Path) -> None:
    write_results_table({"model": full_report}, tmp_path / "page.md", **FACTS)
    sections = [
        line for line in (tmp_path / "page.md").read_text().splitlines() if line.startswith("## ")
    ]
    # The composite task has a section for each of its units.
    assert len(sections) == len(TASK_NAMES) + 1


def test_a_baseline_that_was_asked_other_examples_is_refused(
    oracle: KeyPredictor, tmp_path: Path
) -> None:
    reports = {
        "model": evaluate(oracle, [REC], limit=LIMIT),
        "centre box": evaluate(CenterBox(), [REC], limit=2),
    }
    with pytest.raises(BenchmarkError, match="centre box was asked other examples"):
        write_results_table(reports, tmp_path / "page.md", **FACTS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("reports", [{}, {"model": Report(())}])
def test_a_page_without_results_is_refused(reports: dict[str, Report], tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="a table needs results"):
        write_results_table(reports, tmp_path / "page.md", **FACTS)

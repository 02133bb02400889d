"""The page of results of a recipe; the program writes all of it."""

from collections.abc import Mapping
from pathlib import Path

from deixis.errors import BenchmarkError
from deixis.evaluation.benchmark import BENCHMARK_TASKS
from deixis.evaluation.protocol import EvaluationProtocol
from deixis.evaluation.report import Report, Result
from deixis.evaluation.score_tables import Figures, figures_of, format_table, headline, number
from deixis.evaluation.scorers import Score
from deixis.storage import write_file

_PREAMBLE = (
    "Written by the program; do not edit. Figures are fractions in [0, 1], with 95 % bootstrap "
    "intervals in brackets.\n"
)


def write_results_table(
    reports: Mapping[str, Report],
    path: Path,
    *,
    title: str,
    command: str,
    hardware: str,
    commit: str,
) -> None:
    """Write a page with every benchmark of the first report beside those of the others.

    ``reports`` has the model's report first, then those of the baselines, by name. Each baseline
    gives one column with its headline figure, or a dash where it was not measured.

    Raises:
        BenchmarkError: There are no results, or a baseline was asked other examples.
        StorageError: The page cannot be written.
    """
    if not reports or not next(iter(reports.values())).results:
        raise BenchmarkError("a table needs results")
    (_, report), *baselines = reports.items()
    terms = report.results[0].protocol
    pieces = [
        f"# {title}\n",
        _PREAMBLE,
        provenance(terms, command=command, hardware=hardware, commit=commit),
    ]
    for heading, rows in _sections(report, dict(baselines)).items():
        pieces += [f"## {heading}\n", format_table(rows)]
    write_file(path, "\n".join(pieces))


def provenance(terms: EvaluationProtocol, *, command: str, hardware: str, commit: str) -> str:
    """Return a Markdown list of the conditions that a page's numbers depend on."""
    facts = {
        "command": f"`{command}`",
        "commit": commit,
        "deixis": terms.deixis_version,
        "hardware": hardware,
        "weights (SHA-256)": terms.predictor.weights_sha256 or number(None),
        "decoding": terms.predictor.decoding,
        "seed of the scenes": str(terms.seed),
        "seed of the intervals": str(terms.interval_seed),
        "boxes": terms.box_frame,
        "several references": terms.selection,
        "failures": terms.failure_policy,
    }
    return "".join(f"- {name}: {value}\n" for name, value in facts.items())


def _sections(report: Report, baselines: Mapping[str, Report]) -> dict[str, list[Figures]]:
    sections: dict[str, list[Figures]] = {}
    for result in report.results:
        for kind, score in result.scores.items():
            row = {"benchmark": result.benchmark}
            row |= figures_of(score, result.calibration)
            for name, baseline in baselines.items():
                row[name] = number(_baseline_figure(baseline, result, kind))
            sections.setdefault(_heading(result.protocol, score, kind), []).append(row)
    return sections


def _heading(terms: EvaluationProtocol, score: Score, kind: str) -> str:
    task = BENCHMARK_TASKS[terms.task]
    unit = {"rec": " (box)", "res": " (mask)"}.get(kind, "") if terms.task == "locate" else ""
    decided = getattr(score, "inequality", None)
    rule = f", right where IoU {decided} {terms.threshold}" if decided else ""
    return f"{task.title[:1].upper()}{task.title[1:]}{unit}: `{task.wording}`{rule}"


def _baseline_figure(baseline: Report, result: Result, kind: str) -> float | None:
    for other in baseline.results:
        if other.benchmark == result.benchmark:
            if other.protocol.examples_sha256 != result.protocol.examples_sha256:
                raise BenchmarkError(
                    f"{result.benchmark}: {other.protocol.predictor.name} was asked other examples"
                )
            return headline(other.scores[kind]).value
    return None

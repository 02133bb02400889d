"""Compare the sources of boxes and the strategies that combine them, and write a page.

$ python results/fusion.py scenes-tiny results/fusion.md --limit 1000

All boxes of a benchmark come from the same answers. For each strategy, the page says whether it is
better or worse than the box decoder alone, by the interval of the difference.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from deixis.evaluation import Result, evaluate
from deixis.evaluation.fusion_comparison import FusionComparison
from deixis.evaluation.results_table import provenance
from deixis.evaluation.score_tables import format_table
from deixis.inference import load
from deixis.metrics import Interval
from deixis.storage import write_file
from deixis.training.release import hardware

STRATEGIES = ("agreement", "mean", "iou_vote", "score")
_PREAMBLE = """Written by the program; do not edit. Figures are fractions in [0, 1], with 95 % bootstrap intervals
in brackets.
"""
_MEANING = """`docs/fusion.md` describes the strategies. *Gain* is the accuracy of a strategy minus that of the box
decoder, which is the answer without fusion; its interval resamples pairs. *Won* answers are right with
the strategy only, *lost* ones with the decoder only. *Any source right* is the upper limit for a strategy
that picks a source. Nothing was tuned: an IoU of at least {threshold} counts as agreement, which is the default.
"""


def sign(interval: Interval) -> str:
    """Describe what an interval of differences shows."""
    if interval.low > 0:
        return "better"
    return "worse" if interval.high < 0 else "no difference"


def verdicts(fusion: FusionComparison, level: str) -> Iterator[dict[str, str]]:
    """Give a row for each strategy: what the differences come to."""
    for name, gain in fusion.gains.items():
        yield {
            "level": level,
            "strategy": name,
            "accuracy at 0.5": f"{sign(gain.accuracy_interval)} ({gain.accuracy:+.3f})",
            "mean IoU": f"{sign(gain.mean_iou_interval)} ({gain.mean_iou:+.3f})",
        }


def findings(compared: dict[str, FusionComparison]) -> Iterator[str]:
    """Write what the numbers say, in words."""
    rows = [row for level, one in compared.items() for row in verdicts(one, level)]
    measures = ("accuracy at 0.5", "mean IoU")
    words = [row[measure].split(" (")[0] for row in rows for measure in measures]
    better, worse = (words.count(word) for word in ("better", "worse"))
    yield (
        f"Of {len(words)} comparisons with the box decoder alone, {better} show a gain and "
        f"{worse} a loss; between equals, one in twenty would by chance."
    )
    if not better:
        yield "No strategy is better than the box decoder: fusion does not help here."
    gaps = []
    for level, one in compared.items():
        decoder = one.sources["decoder"].accuracy
        gaps.append(f"{one.any_right - decoder:+.3f} ({level})")
    yield f"A strategy that always picked the right source would gain {', '.join(gaps)}."
    yield ""
    yield format_table(rows)


def compared_of(results: tuple[Result, ...]) -> dict[str, FusionComparison]:
    """What was compared at each level."""
    return {result.protocol.level: result.fusion for result in results if result.fusion is not None}


def main() -> None:
    """Ask, compare and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("page", type=Path)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--detector", type=Path)
    options = parser.parse_args()

    # before the work: the code that runs
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"],  # noqa: S607 - whichever git the user has
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()

    def tell(benchmark: str, done: int, total: int) -> None:
        if done == total:
            print(benchmark, total, file=sys.stderr, flush=True)

    report = evaluate(
        load(options.model, detector=options.detector),
        ["scenes/rec:val"],
        limit=options.limit,
        batch_size=options.batch_size,
        progress=tell,
        fuse=STRATEGIES,
    )
    compared = compared_of(report.results)
    first = next(iter(compared.values()))
    detector = "none" if first.detector is None else first.detector.name
    pieces = [
        f"# Fusion of boxes with {options.model}\n",
        _PREAMBLE,
        provenance(
            report.results[0].protocol,
            command=f"python results/fusion.py {' '.join(sys.argv[1:])}",
            hardware=hardware(),
            commit=commit,
        )
        + f"- detector: {detector}\n",
        _MEANING.format(threshold=first.threshold),
        "## What it shows\n",
        "\n".join(findings(compared)),
    ]
    for result in report.results:
        if result.fusion is not None:
            pieces += [f"## {result.benchmark}\n", format_table(result.fusion.rows())]
    write_file(options.page, "\n".join(pieces))


if __name__ == "__main__":
    main()

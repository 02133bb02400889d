"""Write the results page of a model, trivial baselines beside it.

$ python results/write.py scenes-tiny results/scenes_tiny.md --limit 200
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from deixis.evaluation import CenterBox, LargestInstance, evaluate, write_results_table
from deixis.inference import load
from deixis.training.release import hardware

SETS = ("", "-appearance", "-long")
SPLITS = ("val", "testA", "testB")
OTHERS = ("several", "absent", "detection", "count", "reg", "region_qa", "vqa")


def names() -> Iterator[str]:
    """Name every benchmark of the page: expressions of each set and split, then the other tasks."""
    for words in SETS:
        for split in SPLITS:
            yield f"scenes/rec{words}:{split}"
            yield f"scenes/res{words}:{split}"
    for task in OTHERS:
        yield f"scenes/{task}:val"


def main() -> None:
    """Evaluate and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("page", type=Path)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()
    chosen = list(names())
    located = [name for name in chosen if name.startswith(("scenes/rec", "scenes/res"))]

    def tell(benchmark: str, done: int, total: int) -> None:
        if done == total:
            print(benchmark, total, file=sys.stderr, flush=True)

    size = options.batch_size
    reports = {
        options.model: evaluate(
            load(options.model), chosen, limit=options.limit, batch_size=size, progress=tell
        )
    }
    for baseline in (CenterBox(), LargestInstance()):
        reports[baseline.name] = evaluate(baseline, located, limit=options.limit, batch_size=size)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"],  # noqa: S607 - whichever git the user has
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    write_results_table(
        reports,
        options.page,
        title=f"{options.model} on drawn scenes",
        command=f"python results/write.py {' '.join(sys.argv[1:])}",
        hardware=hardware(),
        commit=commit,
    )


if __name__ == "__main__":
    main()

"""Write a page about the descriptions that bootstrapping keeps, and how many of them are right.

$ python results/bootstrap.py scenes-tiny results/bootstrap.md --scenes 200

The truth about drawn scenes is known: a description is right if all of its words are true of the instance
and fit no other instance of the scene. With --photos, a folder of photos in COCO's layout, the page also
says how many descriptions of their boxes are kept; it cannot say how many of these are right.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from deixis.cli.asking import OpenModel, read_pixels
from deixis.data.bootstrap import BootstrapPlan, bootstrap, judge
from deixis.data.scenes import draw_scene
from deixis.data.scenes.describe import Facts
from deixis.data.sources import open_source
from deixis.training.release import hardware

SEED = 31_337
LEVELS = ("plain", "standard", "hard")
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MIN_AREA = 2000.0
_COLUMNS = (
    *("IoU at least", "kept", "keep rate", "kept: right", "kept: true"),
    *("dropped: right", "dropped: true", "right ones kept"),
)
_PHOTOS = """The model was trained on drawn scenes only: it has no words for the contents of photos. Descriptions that
are kept have words for drawn scenes, and their boxes overlap by chance. The table shows that the filter
keeps few wrong descriptions, without knowing the truth. The filters are the defaults: at most 15
instances per image, and boxes of more than 2000 square pixels."""


class Judged(NamedTuple):
    """A description: how well its box was found, how large that is, and what the scene says."""

    iou: float
    area: float
    read: bool
    true: bool
    right: bool


def run(
    model: OpenModel, spec: str, *, workers: int, **options: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Bootstrap a source; its counts and every description with its object, box and IoU."""
    source = open_source(spec)
    plan = BootstrapPlan((source,), model.record(), **options)

    def tell(done: int, total: int) -> None:
        if done == total:
            print(spec, total, file=sys.stderr, flush=True)

    with TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        result = bootstrap(
            plan, out, open_model=model, read=read_pixels, workers=workers, progress=tell
        )
        (counts,) = result.manifest["sources"].values()
        rows = list(descriptions(out, counts["file"]))
    return counts, rows


def descriptions(out: Path, file: str) -> Iterator[dict[str, Any]]:
    """Read all descriptions of a bootstrapping, kept and dropped."""
    for line in (out / file).read_text().splitlines():
        fields = json.loads(line)
        for one in fields["expressions"]:
            index = one["objects"][0]
            box = fields["objects"][index]["box"]
            iou = one["provenance"]["iou"]
            yield {
                "id": fields["id"],
                "object": index,
                "box": box,
                "expression": one["text"],
                "iou": iou,
            }
    for line in (out / "dropped.jsonl").read_text().splitlines():
        yield json.loads(line)


def judged(rows: Iterable[dict[str, Any]], level: str) -> list[Judged]:
    """Judge descriptions of the scenes of a level."""
    made, facts = [], {}
    for row in rows:
        number = int(row["id"].rpartition("/")[2])
        if number not in facts:
            facts[number] = Facts(draw_scene(SEED, number, level=level, split="train"))
        verdict = judge(facts[number], row["object"], row["expression"])
        x1, y1, x2, y2 = row["box"]
        made.append(
            Judged(
                row["iou"],
                (x2 - x1) * (y2 - y1),
                verdict.is_read,
                verdict.is_true,
                verdict.is_alone,
            )
        )
    return made


def share(rows: Iterable[Judged], holds: Callable[[Judged], bool]) -> str:
    """Write a fraction of rows."""
    found = [holds(row) for row in rows]
    return f"{sum(found) / len(found):.3f}" if found else "-"


def table(rows: list[Judged]) -> list[str]:
    """Write what is kept and how much of it is right at each threshold."""
    right = [row for row in rows if row.right]
    lines = [
        f"| {' | '.join(_COLUMNS)} |",
        f"| {' | '.join('---' for _ in _COLUMNS)} |",
    ]
    for threshold in THRESHOLDS:
        kept = [row for row in rows if row.iou >= threshold]
        dropped = [row for row in rows if row.iou < threshold]
        cells = (
            f"{threshold:.1f}",
            str(len(kept)),
            share(rows, lambda row, least=threshold: row.iou >= least),  # type: ignore[misc]
            share(kept, lambda row: row.right),
            share(kept, lambda row: row.true),
            share(dropped, lambda row: row.right),
            share(dropped, lambda row: row.true),
            share(right, lambda row, least=threshold: row.iou >= least),  # type: ignore[misc]
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def summary(rows: list[Judged]) -> str:
    """Write what there is before anything is dropped."""
    unread = sum(not row.read for row in rows)
    return (
        f"{len(rows)} descriptions, {share(rows, lambda row: row.right)} are right and "
        f"{share(rows, lambda row: row.true)} true; the judge could not parse {unread}, which count "
        "as wrong."
    )


def scene_pages(model: OpenModel, scenes: int, workers: int) -> Iterator[str]:
    """Write the tables of each level."""
    for level in LEVELS:
        spec = f"scenes:train,count={scenes},seed={SEED},level={level}"
        counts, rows = run(model, spec, workers=workers, max_objects=None, min_area=None)
        verdicts = judged(rows, level)
        large = [row for row in verdicts if row.area > MIN_AREA]
        dropped = ", ".join(f"{name} {count}" for name, count in counts["dropped"].items())
        yield from (
            f"## Level {level}",
            "",
            f"{scenes} scenes. {summary(verdicts)} Dropped at 0.5: {dropped}.",
            "",
            *table(verdicts),
            "",
            f"Only boxes of more than {MIN_AREA:.0f} square pixels: {summary(large)}",
            "",
            *table(large),
            "",
        )


def photo_page(model: OpenModel, photos: Path, workers: int) -> Iterator[str]:
    """Write the keep rates on photos."""
    annotations = photos / "annotations" / "instances_train.json"
    spec = f"coco:{annotations},images={photos / 'images' / 'train'}"
    yield from (
        "## Photos",
        "",
        _PHOTOS,
        "",
    )
    counts, rows = run(model, spec, workers=workers)
    dropped = ", ".join(f"{name} {count}" for name, count in counts["dropped"].items())
    fates = ", ".join(f"{name} {count}" for name, count in counts["image_fates"].items())
    yield f"Photos: {fates}. {counts['objects']} objects, {counts['described']} described."
    yield f"Dropped at 0.5: {dropped}."
    yield from ("", "| IoU at least | kept | keep rate |", "| --- | --- | --- |")
    for threshold in THRESHOLDS:
        kept = sum(row["iou"] >= threshold for row in rows)
        yield f"| {threshold:.1f} | {kept} | {kept / max(1, len(rows)):.3f} |"


def command(options: argparse.Namespace) -> str:
    """Write what was run; where the photos lie on this machine matters to nobody."""
    photos = "" if options.photos is None else " --photos PHOTOS"
    return f"python results/bootstrap.py {options.model} {options.page} --scenes {options.scenes}{photos}"


def main() -> None:
    """Bootstrap, judge and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("page", type=Path)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    model = OpenModel(options.model)
    record = model.record()
    lines = [
        f"# Self-consistent bootstrapping with {options.model}",
        "",
        "Written by the program; do not edit. Figures are fractions in [0, 1].",
        "",
        f"- command: `{command(options)}`",
        f"- hardware: {hardware()}",
        f"- weights (SHA-256): {record.get('weights_sha256', 'none')}",
        f"- decoding: {record['decoding']}",
        f"- scenes: split `train`, seed {SEED}, which no training and no benchmark uses",
        "- asked: `What is <region>?` with the true box, then `Where {is} {x}?` with the answer",
        "- right: every word is true of the instance, and the words fit no other instance of the scene",
        "- true: every word is true of the instance; the words may fit others too",
        "- right ones kept: the share of right descriptions that is kept",
        "",
    ]
    lines += scene_pages(model, options.scenes, options.workers)
    if options.photos is not None and options.photos.is_dir():
        lines += photo_page(model, options.photos, options.workers)
    options.page.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Annotations to conversations: the engine against `datasets`, the public baseline, in one run.

All take the same COCO files of drawn numbers (boxes, polygons, captions; no image is opened),
make the same conversations with the same task functions on as many processes, and write Parquet.
`datasets` gets the annotations grouped by image, in memory, and maps: once a task, example by example
(its plain use, the baseline), and once in all with a batched function that makes every task's rows (its
best use). The engine builds: it sorts on disk, checks, journals and hashes beside.

Also measured: conversations per second and core in the pure middle (parts in, rows out), parts
sorted per second, peak memory of a build at three sizes, and from these the projected hours for
10^8 conversations.

Run: python benchmarks/data_build.py [--images 20000] [--memory 20000,200000] [--memory-tasks caption] (needs `pip install datasets`)
"""

import argparse
import gc
import json
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deixis.data.build import BuildPlan, build
from deixis.data.build.block import BlockContent, make_parts
from deixis.data.build.index import make_index, read_block
from deixis.data.mixture import Mixture, parse_mixture
from deixis.data.sources import Part, open_source
from deixis.data.tasks import TASKS

MIXTURE = (
    "detection,segmentation,detection_names,detection_example,count,count_words,quadrant_box,"
    "reg,interactive_box_point,interactive_mask_box,caption,statement"
)
NAMES = [
    "person",
    "car",
    "dog",
    "cat",
    "chair",
    "table",
    "cup",
    "bottle",
    "book",
    "bird",
    "boat",
    "bus",
    "train",
    "horse",
    "sheep",
    "cow",
]
PROCESSES = 2


def write_coco(folder: Path, images: int) -> int:
    """Write instances and captions of ``images`` images; return how many annotations there are."""
    dice = np.random.default_rng(0)
    (folder / "annotations").mkdir(parents=True)
    count = 0
    path = folder / "annotations" / "instances_train.json"
    with path.open("w") as file:
        file.write('{"images": [')
        for image in range(images):
            record = {"id": image, "file_name": f"{image:012d}.jpg", "width": 640, "height": 480}
            file.write(("," if image else "") + json.dumps(record))
        file.write('], "annotations": [')
        for image in range(images):
            for _ in range(int(dice.integers(1, 15))):
                x, y, w, h = (
                    (dice.random(4) * (400, 300, 200, 150) + (0, 0, 20, 20)).round(2).tolist()
                )
                # an outline that does not cross itself, as people draw them
                turns = np.linspace(0, 2 * np.pi, 20, endpoint=False)
                reach = 0.3 + 0.2 * dice.random(20)
                around = np.stack([np.cos(turns), np.sin(turns)], axis=1) * reach[:, None] + 0.5
                corners = around * (w, h) + (x, y)
                record = {
                    "id": count + 1,
                    "image_id": image,
                    "category_id": int(dice.integers(1, 17)),
                    "bbox": [x, y, w, h],
                    "area": w * h / 2,
                    "iscrowd": 0,
                    "segmentation": [corners.round(2).ravel().tolist()],
                }
                file.write(("," if count else "") + json.dumps(record))
                count += 1
        categories = [{"id": number, "name": name} for number, name in enumerate(NAMES, 1)]
        file.write(f'], "categories": {json.dumps(categories)}}}')
    captions = [
        {"id": number, "image_id": number % images, "caption": "A boat and a bird by the sea."}
        for number in range(2 * images)
    ]
    frame = [
        {"id": image, "file_name": f"{image:012d}.jpg", "width": 640, "height": 480}
        for image in range(images)
    ]
    (folder / "annotations" / "captions_train.json").write_text(
        json.dumps({"images": frame, "annotations": captions})
    )
    return count + len(captions)


def plan_of(folder: Path, mixture: str = MIXTURE) -> BuildPlan:
    """The plan of all."""
    source = open_source(f"coco:{folder},split=train")
    return BuildPlan((source,), parse_mixture(mixture, known=TASKS), check_images=False)


def with_engine(folder: Path, out: Path) -> int:
    """Build; return the conversations."""
    return int(build(plan_of(folder), out, workers=PROCESSES).manifest["conversations"])


def grouped(plan: BuildPlan) -> Iterator[dict[str, Any]]:
    """Annotations by image, in memory: what `map` needs, and `datasets` does not do."""
    groups: dict[str, list[Part]] = {}
    for part in plan.sources[0].source.parts():
        if isinstance(part, Part):
            groups.setdefault(part.key, []).append(part)
    for key in sorted(groups):
        parts = sorted(groups[key], key=lambda part: (part.kind, part.order))
        yield {"key": key, "parts": [list(part) for part in parts]}


def with_datasets(folder: Path, out: Path) -> int:
    """The same with `datasets`: load as JSON, group by image, map, write."""
    import datasets  # noqa: PLC0415  # the baseline alone needs it

    datasets.disable_progress_bars()
    plan = plan_of(folder)

    def instruct(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        content = BlockContent()
        images = [
            (0, key, [Part(*part) for part in parts])
            for key, parts in zip(batch["key"], batch["parts"], strict=True)
        ]
        make_parts(plan, images, content)
        return {name: [row[name] for row in content.rows] for name in content.rows[0]}

    cache = str(out / "cache")
    data = datasets.Dataset.from_generator(lambda: grouped(plan), cache_dir=cache)
    made = data.map(
        instruct,
        batched=True,
        num_proc=PROCESSES,
        remove_columns=data.column_names,
        load_from_cache_file=False,
    )
    made.to_parquet(str(out / "data.parquet"))
    return len(made)


def with_a_map_a_task(folder: Path, out: Path) -> int:
    """The same with one `map` a task, example by example: its plain use."""
    import datasets  # noqa: PLC0415  # the baseline alone needs it

    datasets.disable_progress_bars()
    plan = plan_of(folder)
    data = datasets.Dataset.from_generator(lambda: grouped(plan), cache_dir=str(out / "cache"))
    made = []
    for name, rate in plan.mixture.rates:
        task = replace(plan, mixture=Mixture(((name, rate),)))

        def instruct(row: dict[str, Any], task: BuildPlan = task) -> dict[str, Any]:
            content = BlockContent()
            make_parts(task, [(0, row["key"], [Part(*part) for part in row["parts"]])], content)
            return {"row": content.rows[0] if content.rows else None}

        mapped = data.map(
            instruct,
            num_proc=PROCESSES,
            remove_columns=data.column_names,
            load_from_cache_file=False,
        )
        made.append(mapped.filter(lambda row: row["row"] is not None, num_proc=PROCESSES))
    whole = datasets.concatenate_datasets(made)
    whole.to_parquet(str(out / "data.parquet"))
    return len(whole)


def timed(make: Any, folder: Path, out: Path) -> tuple[float, int]:
    """Seconds and conversations."""
    out.mkdir()
    start = time.perf_counter()
    count = make(folder, out)
    return time.perf_counter() - start, count


def _built(folder: Path, out: Path, mixture: str, pipe: Any) -> None:
    build(plan_of(folder, mixture), out, workers=1)
    # not ru_maxrss: that begins with what the parent held when it forked
    status = Path("/proc/self/status").read_text().splitlines()
    pipe.send(next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024)


def peak_memory(folder: Path, out: Path, mixture: str) -> float:
    """MiB that a build in one process holds at most."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_built, args=(folder, out, mixture, there))
    process.start()
    found = float(here.recv())
    process.join()
    return found


BASELINE = "datasets, a map a task"
ARMS = {
    BASELINE: with_a_map_a_task,
    "datasets, one batched map": with_datasets,
    "deixis": with_engine,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--memory", default="2000,20000,200000", help="images, for peak memory")
    parser.add_argument("--memory-tasks", default=MIXTURE, help="what is made of them")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        folder = root / "coco"
        annotations = write_coco(folder, arguments.images)
        plan = plan_of(folder)
        start = time.perf_counter()
        index = make_index(plan, root / "index")
        indexing = time.perf_counter() - start
        rows, start = 0, time.perf_counter()
        for number in range(index.blocks):
            content = BlockContent()
            make_parts(plan, read_block(index.block(number)), content)
            rows += len(content.rows)
        middle = time.perf_counter() - start
        print(
            f"{arguments.images} images, {annotations} annotations, mixture of {len(MIXTURE.split(','))}"
        )
        print(f"sorted: {annotations / indexing:,.0f} annotations/s on one core")
        print(f"middle: {rows / middle:,.0f} conversations/s on one core ({rows} conversations)")
        best: dict[str, float] = {}
        counts: dict[str, int] = {}
        for turn in range(arguments.rounds):
            for name, make in ARMS.items():
                gc.collect()
                seconds, counts[name] = timed(make, folder, root / f"{name}-{turn}")
                best[name] = min(best.get(name, seconds), seconds)
                shutil.rmtree(root / f"{name}-{turn}")
        if len(set(counts.values())) > 1:
            raise SystemExit(f"not the same work: {counts}")
        for name, seconds in best.items():
            print(
                f"{name}: {seconds:.1f} s on {PROCESSES} processes, files to shards, "
                f"{best[BASELINE] / seconds:.2f} x {BASELINE}"
            )
        for cores in (2, 64):
            hours = (
                1e8 / (rows / middle) / cores / 3600
                + 1e8 * annotations / rows / (annotations / indexing) / 3600
            )
            print(
                f"projected: 10^8 conversations on {cores} cores: {hours:.1f} h (sorting on one core)"
            )
        for size in map(int, arguments.memory.split(",")):
            shutil.rmtree(folder)
            count = write_coco(folder, size)
            start = time.perf_counter()
            most = peak_memory(folder, root / f"peak-{size}", arguments.memory_tasks)
            seconds = time.perf_counter() - start
            print(f"memory: {count} annotations: {most:.0f} MiB at most, {seconds:.0f} s")


if __name__ == "__main__":
    main()

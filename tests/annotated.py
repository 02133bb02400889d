"""Annotation files for tests of the engine: many images, few bytes, some of them wrong."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deixis.data.build import BuildPlan
from deixis.data.mixture import parse_mixture
from deixis.data.sources import named_apart, open_source
from deixis.data.tasks import TASKS

NAMES = ("cat", "dog", "cup", "chair", "tree")


def line(number: int, **changes: Any) -> dict[str, Any]:
    """One image with a few instances, a relation, an expression, a caption and a question."""
    count = 1 + number % 5
    objects = [
        {
            "category": NAMES[(number + step) % 5],
            "box": [10 + 30 * step, 20 + step, 35 + 30 * step, 60 + step + number % 7],
            "mask": [[10 + 30 * step, 20, 34 + 30 * step, 20, 34 + 30 * step, 58]],
        }
        for step in range(count)
    ]
    fields: dict[str, Any] = {
        "id": f"image-{number:06d}",
        "image": f"{number:06d}.png",
        "width": 200,
        "height": 100,
        "exhaustive": True,
        "objects": objects,
        "captions": [f"Picture {number} with a literal <REF> and “quotes”."],
        "expressions": [{"text": f"the {objects[0]['category']} on the left", "objects": [0]}],
        "questions": [{"question": "Is it day?", "answer": "yes", "object": 0}],
    }
    if count > 1:
        fields["relations"] = [[0, "next to", 1]]
    return fields | changes


def write_lines(path: Path, lines: Sequence[Mapping[str, Any] | str]) -> Path:
    """Write a JSON-lines file; texts are written as they are."""
    texts = [one if isinstance(one, str) else json.dumps(one) for one in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def plan_of(
    *specs: str, tasks: str = "rec,detection,count*0.5,reg,caption", **options: Any
) -> BuildPlan:
    """Return a plan that does not check image files."""
    return BuildPlan(
        tuple(named_apart([open_source(spec) for spec in specs])),
        parse_mixture(tasks, known=TASKS),
        **{"check_images": False, "shard_images": 20} | options,
    )


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Return all files of a data set except the lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".build.lock"
    }

"""The work of a build's worker: it turns one block into one shard."""

import faulthandler
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deixis.data.build.block import Quarantined, make_block
from deixis.data.build.build_plan import BuildPlan
from deixis.data.build.image_limits import ImageKey, Lost
from deixis.data.build.index import Index
from deixis.data.build.shards import write_quarantine, write_shard
from deixis.storage import sha256_of

_BLOCK_SECONDS = 300
"""Seconds that a block may take, in addition to one second for each image."""


def shard_name(number: int, blocks: int) -> str:
    """Return the file name of a shard in the data folder."""
    return f"train-{number:05d}-of-{blocks:05d}.parquet"


def run_block(
    plan: BuildPlan,
    index: Index,
    number: int,
    out: Path,
    *,
    lost: Lost | None = None,
    watch: Callable[[ImageKey], None] | None = None,
) -> dict[str, Any]:
    """Write the shard and the quarantine table of one block, and return their journal entry.

    Writing a block again writes the same bytes. See `make_block` for ``lost`` and ``watch``.
    """
    content = make_block(plan, index.block(number), lost=lost or {}, watch=watch)
    shard = out / "data" / shard_name(number, index.blocks)
    videos = any(source.videos for source in plan.sources)
    size = write_shard(shard, content.rows, embed=plan.embed, videos=videos)
    write_quarantine(quarantine_path(out, number), content.quarantine)
    return {
        "block": number,
        "rows": len(content.rows),
        "bytes": size,
        "sha256": sha256_of(shard),
        "images": [[source, fate, n] for (source, fate), n in sorted(content.images.items())],
        "at_fault": dict(sorted(content.with_problems.items())),
        "tasks": dict(sorted(content.tasks.items())),
        "notes": [[source, note, n] for (source, note), n in sorted(content.notes.items())],
        "faults": sorted(
            [row.source, row.code, row.scope, n] for row, n in _counted(content.quarantine).items()
        ),
        "examples": [
            [row.source, row.code, row.place, row.detail] for row in content.quarantine[:5]
        ],
    }


def run_watched(plan: BuildPlan, index: Index, number: int, out: Path) -> dict[str, Any]:
    """Call `run_block` in a pool's process, and exit the process if native code hangs."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123  # a device
        faulthandler.dump_traceback_later(
            _BLOCK_SECONDS + plan.shard_images, exit=True, file=nowhere
        )
        try:
            return run_block(plan, index, number, out)
        finally:
            faulthandler.cancel_dump_traceback_later()


@dataclass(frozen=True, slots=True)
class _ProblemKind:
    source: str
    code: str
    scope: str


def _counted(rows: list[Quarantined]) -> Counter[_ProblemKind]:
    return Counter(_ProblemKind(row.source, row.code, row.scope) for row in rows)


def quarantine_path(out: Path, number: int) -> Path:
    """Return the path of a block's quarantine table, which the end of the build merges."""
    return out / ".build" / "quarantine" / f"{number:06d}.parquet"

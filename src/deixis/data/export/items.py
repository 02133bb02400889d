"""What every writer is given, and what of it a format cannot hold."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from deixis.structures import Sample

NO_SPLIT = "all"
"""How the files of samples are named that belong to no split."""


@dataclass(frozen=True, slots=True)
class Item:
    """One sample on its way out.

    ``id`` is a number that no other image of the export has, ``key`` a text of which the same is
    true, ``file_name`` where its picture is, as the format says it.
    """

    id: int
    key: str
    file_name: str
    sample: Sample


@dataclass(slots=True)
class Losses:
    """What was left out because a format has no place for it, by kind."""

    counts: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, count: int = 1) -> None:
        """Count something that is not written."""
        if count:
            self.counts[kind] += count


@runtime_checkable
class Writer(Protocol):
    """Writes items in one format."""

    @property
    def carries(self) -> frozenset[str]:
        """The kinds of `content` that the format has a place for; boxes and classes it always has."""

    def look(self, sample: Sample) -> None:
        """Take note of a sample before any is written; only called where `needs_look` says so."""

    @property
    def needs_look(self) -> bool:
        """Whether how to write depends on all the samples."""

    def add(self, item: Item) -> None:
        """Write one item, or nothing of it.

        Raises:
            AnnotationError: The format cannot hold it at all.
            GeometryError: Its geometry cannot be used.
            StorageError: The disk refuses it.
        """

    def finish(self) -> None:
        """Write what can only be known at the end."""

    def close(self) -> None:
        """Let go of open files, however the work ended."""


def content(sample: Sample) -> Counter[str]:
    """How much a sample has of everything but boxes and classes, by kind."""
    instances = sample.instances
    found = {
        "masks": sum(one.mask is not None for one in instances),
        "keypoints": sum(one.keypoints is not None for one in instances),
        "crowd flags": sum(one.crowd for one in instances),
        "attributes": sum(len(one.attributes) for one in instances),
        "turned boxes": sum(one.oriented is not None for one in instances),
        "scores": sum(one.score is not None for one in instances),
        "visible shares": sum(one.visibility != 1 for one in instances),
        "relations": len(sample.relations),
        "expressions": len(sample.expressions),
        "captions": len(sample.captions),
        "phrases of captions": sum(len(caption.phrases) for caption in sample.captions),
        "questions": len(sample.questions),
        "absent classes": len(sample.absent_categories),
        "salient instances": int(sample.salient is not None),
        "depth maps": int(sample.depth is not None),
        "images that are not exhaustive": int(not sample.exhaustive),
    }
    return Counter({kind: count for kind, count in found.items() if count})


def split_name(sample: Sample) -> str:
    """The split of a sample as a part of a file name; `NO_SPLIT` where it has none."""
    return re.sub(r"[^A-Za-z0-9-]+", "_", sample.split)[:40].strip("_") or NO_SPLIT

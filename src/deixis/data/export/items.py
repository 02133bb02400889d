"""The interface of writers, their input, and the count of contents that a format cannot hold."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from deixis.structures import Sample

NO_SPLIT = "all"
"""File name for samples without a split."""


@dataclass(frozen=True, slots=True)
class Item:
    """One sample to write.

    ``id`` (a number) and ``key`` (a text) are unique within the export. ``file_name`` names the
    picture as the format requires.
    """

    id: int
    key: str
    file_name: str
    sample: Sample


@dataclass(slots=True)
class Losses:
    """Counts, by kind, of contents left out because the format cannot hold them."""

    counts: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, count: int = 1) -> None:
        """Count content that is not written."""
        if count:
            self.counts[kind] += count


@runtime_checkable
class Writer(Protocol):
    """Writes items in one format."""

    @property
    def carries(self) -> frozenset[str]:
        """The kinds of `content` that the format can hold, in addition to boxes and classes."""

    def look(self, sample: Sample) -> None:
        """Inspect a sample before any is written; called only if `needs_look` is true."""

    @property
    def needs_look(self) -> bool:
        """Whether the writer has to inspect all samples before it writes the first."""

    def add(self, item: Item) -> None:
        """Write one item whole, or raise and write nothing.

        Raises:
            AnnotationError: The format cannot hold the item.
            GeometryError: The geometry of the item is invalid.
            StorageError: A file cannot be written.
        """

    def finish(self) -> None:
        """Finish the files after the last item."""

    def close(self) -> None:
        """Close open files, also after an error."""


def content(sample: Sample) -> Counter[str]:
    """Count a sample's contents by kind, except boxes and classes."""
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
    """Return the split of a sample as part of a file name, or `NO_SPLIT`."""
    return re.sub(r"[^A-Za-z0-9-]+", "_", sample.split)[:40].strip("_") or NO_SPLIT

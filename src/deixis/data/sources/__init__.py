"""Readers of annotation formats, one format per file."""

from deixis.data.sources.base import REASONS, BadRecord, Part, Reading, RecordProblem, Source
from deixis.data.sources.registry import (
    FORMATS,
    OpenedSource,
    named_apart,
    open_source,
    refuse_videos,
)

__all__ = [
    "FORMATS",
    "REASONS",
    "BadRecord",
    "OpenedSource",
    "Part",
    "Reading",
    "RecordProblem",
    "Source",
    "named_apart",
    "open_source",
    "refuse_videos",
]

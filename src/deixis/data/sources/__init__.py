"""Readers of annotation formats, one format per file."""

from deixis.data.sources.base import REASONS, BadRecord, Fault, Part, Reading, Source
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
    "Fault",
    "OpenedSource",
    "Part",
    "Reading",
    "Source",
    "named_apart",
    "open_source",
    "refuse_videos",
]

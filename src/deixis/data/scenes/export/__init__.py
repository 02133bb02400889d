"""Writes drawn scenes in the formats of annotated photographs."""

from deixis.data.scenes.export.writing import FORMATS, write_scenes

__all__ = ["FORMATS", "write_scenes"]

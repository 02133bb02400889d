"""Drawn scenes as files in the formats that annotated photographs come in."""

from deixis.data.scenes.export.writing import FORMATS, write_scenes

__all__ = ["FORMATS", "write_scenes"]

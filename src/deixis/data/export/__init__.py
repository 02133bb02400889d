"""Exports samples as files of other tools: COCO, YOLO, Label Studio, FiftyOne, JSON lines."""

from deixis.data.export.formats import EXPORT_FORMATS, ExportOptions
from deixis.data.export.run import ExportReport, export_samples

__all__ = ["EXPORT_FORMATS", "ExportOptions", "ExportReport", "export_samples"]

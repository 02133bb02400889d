"""Export formats by name, with their writers and picture folders."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deixis.data.export.coco import CocoWriter, FiftyOneWriter
from deixis.data.export.dota import DotaWriter
from deixis.data.export.items import Losses, Writer
from deixis.data.export.jsonl import JsonLinesWriter
from deixis.data.export.label_studio import LOCAL_FILES, LabelStudioWriter
from deixis.data.export.voc import VocWriter
from deixis.data.export.yolo import YoloWriter

LINES = "samples.jsonl"
"""The file of JSON lines in an export's folder."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Options of an export.

    ``copy_images`` copies the pictures into the export. ``rows`` is an option of YOLO, ``results``
    and ``url`` are options of Label Studio. ``check_images`` reads the header of every picture.
    """

    copy_images: bool = False
    check_images: bool = True
    rows: str = "auto"
    results: str = "annotations"
    url: str = LOCAL_FILES


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """An export format.

    ``place`` is the folder of its pictures, with a slot for the split's name if splits are separate.
    With ``brings_images`` pictures are always copied there; with ``flat`` picture names have no
    folders.
    """

    open: Callable[[Path, Losses, ExportOptions], Writer]
    summary: str
    place: str
    brings_images: bool = False
    flat: bool = False


def _label_studio(folder: Path, losses: Losses, options: ExportOptions) -> Writer:
    return LabelStudioWriter(folder, losses, results=options.results, url=options.url)


EXPORT_FORMATS: dict[str, ExportFormat] = {
    "coco": ExportFormat(
        lambda folder, losses, _: CocoWriter(folder, losses),
        "instances, keypoints and captions in COCO's form",
        "images/{split}",
    ),
    "dota": ExportFormat(
        lambda folder, losses, _: DotaWriter(folder, losses),
        "turned boxes as DOTA has them",
        "{split}/images",
        brings_images=True,
        flat=True,
    ),
    "fiftyone": ExportFormat(
        lambda folder, losses, _: FiftyOneWriter(folder, losses),
        "data and labels.json, which FiftyOne imports",
        "data",
        brings_images=True,
    ),
    "jsonl": ExportFormat(
        lambda folder, losses, _: JsonLinesWriter(folder / LINES, losses),
        "one image a line, with everything but depth",
        "images",
    ),
    "label_studio": ExportFormat(_label_studio, "tasks for Label Studio", "images"),
    "voc": ExportFormat(
        lambda folder, losses, _: VocWriter(folder, losses),
        "boxes and flags in Pascal VOC's XML",
        "JPEGImages",
        brings_images=True,
        flat=True,
    ),
    "yolo": ExportFormat(
        lambda folder, losses, options: YoloWriter(folder, losses, rows=options.rows),
        "labels as Ultralytics reads them",
        "images/{split}",
        brings_images=True,
        flat=True,
    ),
}
"""All export formats by name."""

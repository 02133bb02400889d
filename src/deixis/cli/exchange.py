"""``deixis data export|import``: annotations to and from the files of other tools."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deixis.cli.options import AsJson, BudgetShare, CheckImages, SourceSpecs

if TYPE_CHECKING:
    from deixis.data.export import ExportReport
    from deixis.errors import BudgetError


def export_command(
    form: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help="coco, dota, fiftyone, jsonl, label_studio, voc or yolo.",
            show_default=False,
        ),
    ],
    *,
    source: SourceSpecs,
    out: Annotated[Path, typer.Option(help="A new or empty folder.", show_default=False)],
    copy_images: Annotated[
        bool, typer.Option("--copy-images", help="Copy the images into the folder.")
    ] = False,
    rows: Annotated[
        str | None,
        typer.Option(help="For yolo: auto, boxes, polygons, keypoints or obb.", show_default=False),
    ] = None,
    results: Annotated[
        str | None,
        typer.Option(help="For label_studio: annotations or predictions.", show_default=False),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(help="For label_studio: prefix of the names of images.", show_default=False),
    ] = None,
    check_images: CheckImages = True,
    budget: BudgetShare = 0.01,
    as_json: AsJson = False,
) -> None:
    """Write annotations in the format of another tool.

    Records that cannot be read are listed in OUT.quarantine.jsonl, with the reason. Annotations that
    the format cannot hold are counted.
    """
    from deixis.cli.outputs import output_file, output_folder
    from deixis.cli.progress_display import shown_progress
    from deixis.data.export import EXPORT_FORMATS, ExportOptions, export_samples
    from deixis.data.sources import named_apart, open_source
    from deixis.errors import BudgetError, RecipeError

    if form not in EXPORT_FORMATS:
        raise RecipeError(f"format {form!r}: expected one of {sorted(EXPORT_FORMATS)}")
    own = {
        "rows": ("yolo", rows),
        "results": ("label_studio", results),
        "url": ("label_studio", url),
    }
    chosen = {name: value for name, (_, value) in own.items() if value is not None}
    for name in chosen:
        if own[name][0] != form:
            raise RecipeError(f"--{name} is for {own[name][0]}, not for {form}")
    options = ExportOptions(copy_images=copy_images, check_images=check_images, **chosen)
    opened = named_apart([open_source(spec) for spec in source])
    failed: BudgetError | None = None
    report: ExportReport | None = None
    quarantine = _beside(out)
    with output_file(quarantine) as problems:
        try:
            with output_folder(out) as folder, shown_progress("export", "images") as progress:
                report = export_samples(
                    opened,
                    form,
                    folder,
                    quarantine=problems.draft,
                    options=options,
                    budget=budget,
                    progress=progress,
                )
        except BudgetError as error:
            failed = error
        problems.written = True
    _end(failed, report, quarantine, as_json=as_json)
    typer.echo(f"{form}: {out}", err=True)
    if report is not None and not copy_images and not EXPORT_FORMATS[form].brings_images:
        typer.echo(f"names of images start from {report.root}", err=True)


def import_command(
    form: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help="A format that can be read, such as coco, label_studio, voc or yolo.",
            show_default=False,
        ),
    ],
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH[,option=value…]",
            help="The source to read, without its FORMAT: prefix.",
            show_default=False,
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="Output file of JSON lines.", show_default=False)],
    check_images: CheckImages = True,
    budget: BudgetShare = 0.01,
    as_json: AsJson = False,
) -> None:
    """Write the annotations of another tool as one file of JSON lines.

    Records that cannot be read are listed in OUT.quarantine.jsonl, with the reason. Images are not
    copied.
    """
    from deixis.cli.outputs import output_file
    from deixis.cli.progress_display import shown_progress
    from deixis.data.export import ExportOptions, export_samples
    from deixis.data.sources import open_source
    from deixis.errors import BudgetError

    opened = open_source(f"{form}:{path}")
    failed: BudgetError | None = None
    report: ExportReport | None = None
    quarantine = _beside(out)
    with output_file(quarantine) as problems:
        try:
            with output_file(out) as lines, shown_progress("import", "images") as progress:
                report = export_samples(
                    [opened],
                    "lines",
                    lines.draft,
                    quarantine=problems.draft,
                    options=ExportOptions(check_images=check_images),
                    budget=budget,
                    near=out.parent,
                    progress=progress,
                )
                lines.written = True
        except BudgetError as error:
            failed = error
        problems.written = True
    _end(failed, report, quarantine, as_json=as_json)
    spec = f"jsonl:{out}"
    if report is not None and report.root != Path(os.path.abspath(out.parent)):  # noqa: PTH100  # links stay as they are
        spec += f",images={report.root}"
    typer.echo(f"source: {spec}", err=True)


def _beside(out: Path) -> Path:
    name = out.name.removesuffix(".jsonl") if out.suffix == ".jsonl" else out.name
    return out.with_name(f"{name}.quarantine.jsonl")


def _end(
    failed: "BudgetError | None",
    report: "ExportReport | None",
    quarantine: Path,
    *,
    as_json: bool,
) -> None:
    """Print the counts of a report, or raise the error that the budget is exceeded."""
    from deixis.cli.outputs import print_json, print_result
    from deixis.errors import BudgetError

    if failed is not None or report is None:
        raise BudgetError(f"{failed}\nhint: {quarantine} lists them")
    counts = {
        "images": report.images,
        "written": report.written,
        "quarantined": report.quarantined,
        "written_without_some_records": report.partly,
        "quarantined_records": report.records,
    }
    if as_json:
        more = {
            "reasons": report.reasons,
            "not_carried": report.not_carried,
            "normalised": report.normalised,
        }
        print_json(counts | {name: dict(sorted(one.items())) for name, one in more.items()})
        return
    total = (
        f"{report.images} images: {report.written} written, {report.quarantined} quarantined, "
        f"and {report.records} single records"
    )
    lines = [total]
    for name, found in (
        ("quarantine", report.reasons),
        ("not carried", report.not_carried),
        ("normalised", report.normalised),
    ):
        if found:
            lines.append(
                f"{name}: " + ", ".join(f"{kind} {n}" for kind, n in sorted(found.items()))
            )
    print_result("\n".join(lines))

"""``deixis import``: published weights of other projects, as parts of a deixis model."""

from pathlib import Path
from typing import Annotated

import typer

from deixis.cli.options import AsJson


def import_weights_command(
    system: Annotated[
        str, typer.Argument(metavar="SYSTEM", help="pink, refvlm or ullava.", show_default=False)
    ],
    source: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="A folder with the published files.", show_default=False
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="A new or empty folder.", show_default=False)],
    partial: Annotated[
        bool,
        typer.Option(
            "--partial", help="Write what has a place, even where keys are missing or unknown."
        ),
    ] = False,
    activation: Annotated[
        str | None,
        typer.Option(
            help="What stands between the maps of Pink's adapters, where no config.json says it: "
            "identity or silu.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn published weights into parts of a deixis model.

    OUT gets one safetensors file for each part and report.json, which lists the fate of every key.
    Pickled files (.pth, .pt, .bin) are read by a process that accepts tensors alone: no code in
    them is run. A model built with the parts reads further settings from the report: the hidden
    state that u-LLaVA points with, and the design of Pink's adapters.
    """
    from deixis.cli.outputs import output_folder, print_json, print_result
    from deixis.models.published import import_weights, read_activation

    chosen = read_activation(activation)
    with output_folder(out) as folder:
        report = import_weights(system, source, folder, partial=partial, activation=chosen)
    if as_json:
        print_json(report.to_dict())
        return
    for part, count in report.parts.items():
        print_result(f"{part}: {count} tensors in {', '.join(report.files[part])}")
    if report.unlike_released:
        differing = ", ".join(f"{word} {why}" for word, why in report.unlike_released.items())
        typer.echo(f"not of the released size: {differing}", err=True)
    for name, value in report.settings.items():
        print_result(f"{name}: {value}")
    if not report.complete:
        typer.echo(f"not complete: {report.problems()}", err=True)
    typer.echo(f"{system}: {out}", err=True)

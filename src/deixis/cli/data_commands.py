"""``deixis data``: make data sets."""

from pathlib import Path
from typing import Annotated

import typer

from deixis.cli.bootstrap import bootstrap_command
from deixis.cli.datasets import (
    build_command,
    check_command,
    report_command,
    sources_command,
    tasks_command,
    view_command,
)
from deixis.cli.exchange import export_command, import_command
from deixis.cli.salient import salient_command

data_app = typer.Typer(help="Make data sets.", no_args_is_help=True)


data_app.command("tasks")(tasks_command)
data_app.command("sources")(sources_command)
data_app.command("build")(build_command)
data_app.command("check")(check_command)
data_app.command("report")(report_command)
data_app.command("view")(view_command)
data_app.command("bootstrap")(bootstrap_command)
data_app.command("salient")(salient_command)
data_app.command("export")(export_command)
data_app.command("import")(import_command)


@data_app.callback()
def _data() -> None:
    """Make data sets."""


@data_app.command("scenes")
def scenes_command(
    *,
    out: Annotated[Path, typer.Option(help="A new or empty folder.", show_default=False)],
    split: Annotated[str, typer.Option(help="train, val, testA, testB or test.")] = "val",
    count: Annotated[int, typer.Option(min=1, help="Number of scenes.")] = 100,
    level: Annotated[str, typer.Option(help="plain, standard or hard.")] = "standard",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the scenes.")] = 0,
    form: Annotated[
        str, typer.Option("--format", help="An annotation format, such as coco or refcoco.")
    ] = "coco",
) -> None:
    """Draw scenes and write them with their annotations in a known format."""
    from deixis.cli.outputs import output_folder
    from deixis.cli.progress_display import shown_progress

    with output_folder(out) as folder:
        from deixis.data.scenes.export import write_scenes

        with shown_progress("scenes", "scenes") as progress:

            def tell(done: int) -> None:
                progress(done, count)

            write_scenes(
                folder,
                split=split,
                count=count,
                format=form,
                level=level,
                seed=seed,
                on_scene=tell,
            )
    typer.echo(f"scenes: {out}", err=True)

"""``deixis data bootstrap``: descriptions that the same model locates at their boxes."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deixis.cli.options import (
    AsJson,
    ImageLimit,
    ModelName,
    OutputFolder,
    QuestionBatch,
    SourceSpecs,
)

if TYPE_CHECKING:
    from deixis.data.bootstrap import BootstrapResult


def bootstrap_command(
    model: ModelName,
    *,
    source: SourceSpecs,
    out: OutputFolder,
    iou: Annotated[
        float, typer.Option(min=0, max=1, help="Least IoU of the box found and the true one.")
    ] = 0.5,
    max_objects: Annotated[
        int, typer.Option(min=0, help="Largest number of instances of an image; 0 for any.")
    ] = 15,
    min_area: Annotated[
        float, typer.Option(min=0, help="Only boxes with a larger area in pixels; 0 for all.")
    ] = 2000,
    captions: Annotated[
        bool, typer.Option(help="Also caption images, plainly and grounded on true boxes.")
    ] = False,
    describe: Annotated[
        str | None,
        typer.Option(help="Question about a box; <region> is replaced by it.", show_default=False),
    ] = None,
    locate: Annotated[
        str | None,
        typer.Option(
            help="Question about a description; {x} is replaced by it.", show_default=False
        ),
    ] = None,
    caption_prompt: Annotated[
        str | None, typer.Option(help="Question for a caption.", show_default=False)
    ] = None,
    ground_prompt: Annotated[
        str | None, typer.Option(help="Question for a grounded caption.", show_default=False)
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, max=1024, help="Processes, each with the model.")
    ] = 1,
    batch_size: QuestionBatch = 32,
    limit: ImageLimit = None,
    as_json: AsJson = False,
) -> None:
    """Describe boxes with a model and keep descriptions that it locates at the same boxes.

    Kept descriptions have the box of the annotation; `deixis data build` reads them. The same
    sources, model and options give the same bytes with any number of processes. A run that was
    stopped continues when it is started again.
    """
    from deixis.cli.outputs import check_creatable, print_json, print_result
    from deixis.cli.progress_display import shown_progress
    from deixis.data.bootstrap import BootstrapPlan, Prompts, bootstrap
    from deixis.data.bootstrap.bootstrap_run import reading_specs
    from deixis.data.sources import named_apart, open_source

    check_creatable(out)
    opened = named_apart([open_source(spec) for spec in source])
    wanted = {
        "describe": describe,
        "locate": locate,
        "caption": caption_prompt,
        "ground": ground_prompt,
    }
    prompts = Prompts(**{name: text for name, text in wanted.items() if text is not None})

    from deixis.cli.asking import OpenModel, read_pixels

    opener = OpenModel(model)
    plan = BootstrapPlan(
        tuple(opened),
        opener.record(),
        prompts=prompts,
        iou=iou,
        max_objects=max_objects or None,
        min_area=min_area or None,
        captions=captions,
        batch_size=batch_size,
        limit=limit,
    )
    with shown_progress("bootstrap", "images") as progress:
        result = bootstrap(
            plan, out, open_model=opener, read=read_pixels, workers=workers, progress=progress
        )
    if as_json:
        print_json(result.manifest)
    else:
        print_result(_summary(result))
    for spec in reading_specs(out, result.manifest):
        typer.echo(f"kept: {spec}", err=True)


def _summary(result: "BootstrapResult") -> str:
    lines = []
    for name, one in result.manifest["sources"].items():
        lines.append(f"{name}: {_counted(one['image_fates'])}")
        lines.append(f"  {one['objects']} instances: {one['described']} described")
        if one["not_described"]:
            lines[-1] += f", not {_counted(one['not_described'])}"
        if one["described"]:
            lines.append(
                f"  kept {one['kept']} ({one['keep_rate']:.1%}); dropped {_counted(one['dropped'])}"
            )
            bins = ", ".join(map(str, one["iou_of_found"]["counts"]))
            lines.append(f"  IoU of what was found, from 0 to 1 in tenths: {bins}")
        if one["captions"]:
            lines.append(f"  {one['captions']} captions")
    return "\n".join(lines)


def _counted(counts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())

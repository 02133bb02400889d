"""``deixis data salient``: the main subject of pictures, described by a captioner."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deixis.cli.options import AsJson, ImageLimit, OutputFolder, SourceSpecs

if TYPE_CHECKING:
    from deixis.data.salient import Captioner


def salient_command(
    *,
    source: SourceSpecs,
    captioner: Annotated[
        str,
        typer.Option(help="deixis:MODEL, hf:FOLDER, or openai:URL,model=NAME.", show_default=False),
    ],
    out: OutputFolder,
    prompt: Annotated[
        str | None, typer.Option(help="What the captioner is asked.", show_default=False)
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures described at once.")] = 16,
    limit: ImageLimit = None,
    as_json: AsJson = False,
) -> None:
    """Cut out the main subject of each picture and describe it; its name comes from the description.

    The task `salient` of `deixis data build` makes instructions from the output. The key of an
    endpoint is read from DEIXIS_CAPTIONER_KEY.
    """
    from deixis.cli.outputs import check_creatable, print_json, print_result
    from deixis.cli.progress_display import shown_progress
    from deixis.data.bootstrap.bootstrap_run import reading_specs
    from deixis.data.salient import SalientPlan, build_salient
    from deixis.data.sources import named_apart, open_source

    check_creatable(out)
    opened = named_apart([open_source(spec) for spec in source])
    describer = _captioner(captioner, prompt)

    from deixis.cli.asking import read_pixels

    plan = SalientPlan(tuple(opened), describer.record, batch_size=batch_size, limit=limit)
    with shown_progress("salient", "images") as progress:
        result = build_salient(plan, out, describer, read=read_pixels, progress=progress)
    if as_json:
        print_json(result.manifest)
    else:
        lines = []
        for name, one in result.manifest["sources"].items():
            fates = ", ".join(f"{fate} {count}" for fate, count in one["image_fates"].items())
            lines.append(f"{name}: {fates}")
        print_result("\n".join(lines))
    for spec in reading_specs(out, result.manifest):
        typer.echo(f"kept: {spec}", err=True)


def _captioner(spec: str, prompt: str | None) -> "Captioner":
    kind, _, rest = spec.partition(":")
    if kind not in {"deixis", "hf", "openai"} or not rest:
        raise typer.BadParameter(
            f"--captioner {spec}: expected deixis:MODEL, hf:FOLDER or openai:URL,model=NAME"
        )
    from deixis.data.salient import EndpointCaptioner, FolderCaptioner, ModelCaptioner

    if kind == "hf":
        return FolderCaptioner(Path(rest), prompt=prompt or "")
    if kind == "openai":
        from deixis.data.salient.endpoint import Endpoint

        url, comma, name = rest.rpartition(",model=")
        if not comma or not name:
            raise typer.BadParameter(f"--captioner {spec}: expected openai:URL,model=NAME")
        endpoint = Endpoint(url, name)
        return EndpointCaptioner(endpoint) if not prompt else EndpointCaptioner(endpoint, prompt)
    from deixis.cli.asking import OpenModel

    opener = OpenModel(rest)
    if not prompt:
        return ModelCaptioner(opener(), opener.record())
    return ModelCaptioner(opener(), opener.record(), prompt)

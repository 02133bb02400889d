"""``deixis eval``: score a model on benchmarks."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from deixis.cli.options import AsJson, Device, ModelName, Precision, QuestionBatch


def evaluate_command(
    model: ModelName,
    benchmarks: Annotated[
        list[str],
        typer.Argument(help="Names such as scenes/rec:val scenes/res:val.", show_default=False),
    ],
    *,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Examples of each benchmark and level.")
    ] = None,
    level: Annotated[
        str | None, typer.Option(help="Only this level: plain, standard or hard.")
    ] = None,
    batch_size: QuestionBatch = 32,
    second_look: Annotated[
        bool,
        typer.Option(help="Check denials with vision features; off: the language model alone."),
    ] = True,
    fuse: Annotated[
        str | None,
        typer.Option(
            metavar="STRATEGY,...",
            help="Compare strategies that fuse boxes: agreement, decoder, mask, mean, iou_vote, score.",
        ),
    ] = None,
    detector: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A GroundingDINO of transformers, a third source of boxes."
        ),
    ] = None,
    device: Device = None,
    dtype: Precision = "auto",
    out: Annotated[Path | None, typer.Option(help="Write the report to this JSON file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score a model on benchmarks, separately for each level.

    With --fuse, a second table compares the sources of boxes with the strategies that fuse them, on
    the same answers. The scores are those without fusion.
    """
    from deixis.cli.outputs import output_file, print_json, print_result
    from deixis.cli.progress_display import shown_progress

    if detector is not None and fuse is None:
        raise typer.BadParameter("--detector is asked only where boxes are fused: give --fuse")
    with output_file(out) if out is not None else nullcontext() as file:
        from deixis.cli.model import load_quietly
        from deixis.evaluation import evaluate, resolve_benchmark
        from deixis.evaluation.fusion_comparison import check_fusible, read_strategies

        resolved = [one for name in benchmarks for one in resolve_benchmark(name, level=level)]
        strategies = () if fuse is None else read_strategies(fuse.split(","))
        if strategies:
            check_fusible(resolved)
        predictor = load_quietly(
            model, device=device, dtype=dtype, second_look=second_look, detector=detector
        )
        with shown_progress("eval", "answers") as progress:

            def tell(benchmark: str, done: int, total: int) -> None:
                progress(done, total, benchmark)

            report = evaluate(
                predictor,
                benchmarks,
                limit=limit,
                level=level,
                batch_size=batch_size,
                progress=tell,
                fuse=strategies,
            )
        data = report.to_dict()
        if file is not None:
            file.write((json.dumps(data, indent=1, allow_nan=False) + "\n").encode())
    if as_json:
        print_json(data)
    else:
        print_result(report.to_markdown())
    if out is not None:
        typer.echo(f"report: {out}", err=True)

"""``deixis eval``: score a model on benchmarks."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer


def evaluate_command(
    model: Annotated[
        str, typer.Argument(help="A shipped model, a folder or a hub id.", show_default=False)
    ],
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
    batch_size: Annotated[int, typer.Option(min=1, help="Questions asked at once.")] = 32,
    second_look: Annotated[
        bool, typer.Option(help="Check denials by what is seen; without, the bare language model.")
    ] = True,
    out: Annotated[Path | None, typer.Option(help="Write the report to this JSON file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Score a model on benchmarks, each level apart."""
    from deixis.cli.outputs import output_file, print_json, print_result
    from deixis.cli.progress import shown_progress

    with output_file(out) if out is not None else nullcontext() as file:
        from deixis.cli.model import load_quietly
        from deixis.evaluation import evaluate, resolve_benchmark

        for name in benchmarks:
            resolve_benchmark(name, level=level)
        predictor = load_quietly(model, second_look=second_look)
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

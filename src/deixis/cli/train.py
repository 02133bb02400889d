"""``deixis train``: run a recipe."""

from pathlib import Path
from typing import Annotated

import typer


def train_command(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A recipe's name, file.py:function or a recipe.json.", show_default=False
        ),
    ],
    *,
    out: Annotated[
        Path,
        typer.Option(help="Folder for checkpoints, the log and the model.", show_default=False),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Train the stages that learn from questions on a built data set.",
            show_default=False,
        ),
    ] = None,
    mixture: Annotated[
        str | None,
        typer.Option(
            help="Train these stages on tasks made from --source during training.",
            show_default=False,
        ),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(help="FORMAT:PATH[,option=value…]; repeat for more.", show_default=False),
    ] = None,
    begin: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Start from this saved model instead of the recipe's.",
            show_default=False,
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a field: stages.0.steps=20; repeat for more."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the newest checkpoint under --out.")
    ] = False,
) -> None:
    """Train a model by a recipe; the model and its provenance are written to OUT/model."""
    from deixis.cli.outputs import check_creatable
    from deixis.cli.progress_display import shown_progress
    from deixis.errors import RecipeError

    check_creatable(out)
    if (mixture is None) != (not source) or (mixture is not None and data is not None):
        raise RecipeError("expected --data, or --mixture with at least one --source")

    from deixis.cli.model import quiet_libraries
    from deixis.recipes import apply_overrides, load_kept, load_recipe
    from deixis.training import going_on_from, on_built_data, on_live_data, train, with_moved_index
    from deixis.training.release import read_turns

    quiet_libraries()
    kept = out / "recipe.json"
    # a resumed run keeps the options that it was started with, unless --set changes them
    unchanged = all(one is None for one in (begin, data, mixture))
    same = resume and unchanged and kept.is_file()
    chosen = with_moved_index(load_kept(out), out) if same else load_recipe(recipe)
    if begin is not None:
        chosen = going_on_from(chosen, begin)
    chosen = apply_overrides(chosen, overrides or ())
    if data is not None:
        chosen = on_built_data(chosen, data)
    if mixture is not None:
        chosen = on_live_data(chosen, mixture, source or (), out / "index")
    if chosen.name != load_recipe(recipe).name:
        raise RecipeError(f"{out} holds a run of {chosen.name!r}; expected {recipe!r}")
    with shown_progress(f"train {chosen.name}", "steps") as progress:

        def report(row: dict[str, float]) -> None:
            loss = f"loss {row['loss']:.4f}" if "loss" in row else "no finite step"
            detail = f"{loss}, {row['rows_per_second']:.3g} rows a second"
            if row.get("turns_left_out"):
                asked = row["turns"] + row["turns_left_out"]
                detail += f", {row['turns_left_out']:,.0f} of {asked:,.0f} turns left out"
            progress(round(row["step"]), round(row["of"]), detail)

        train(chosen, out, resume=resume, report=report)
    for stage, turns in read_turns(out / "model").items():
        if turns.left_out or turns.rows_without:
            asked = turns.kept + turns.left_out
            typer.echo(
                f"stage {stage}: {turns.left_out:,} of {asked:,} turns left out by row_tokens, "
                f"{turns.rows_without:,} rows without a turn",
                err=True,
            )
    typer.echo(f"model: {out / 'model'}", err=True)

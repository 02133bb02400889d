"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

ModelName = Annotated[
    str, typer.Argument(help="A shipped model, a folder or a hub id.", show_default=False)
]
SourceSpecs = Annotated[
    list[str],
    typer.Option(
        "--source", help="FORMAT:PATH[,option=value…]; give it several times.", show_default=False
    ),
]
OutputFolder = Annotated[
    Path, typer.Option(help="A new or empty folder, or one to finish.", show_default=False)
]
Device = Annotated[str | None, typer.Option(help="Device: cpu, cuda, cuda:1, mps.")]
Precision = Annotated[
    str,
    typer.Option(
        help="Precision: auto (bfloat16 on an accelerator, float32 on the processor), float32, "
        "bfloat16 or float16."
    ),
]
QuestionBatch = Annotated[int, typer.Option(min=1, help="Questions asked at once.")]
ImageLimit = Annotated[int | None, typer.Option(min=1, help="Only this many images.")]
CheckImages = Annotated[bool, typer.Option(help="Check the header of every image file.")]
BudgetShare = Annotated[
    float, typer.Option(min=0, max=1, help="Share of a source's images that may have problems.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

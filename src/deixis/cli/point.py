"""``deixis point``: ask about an image."""

import io
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deixis.cli.options import AsJson, Device, Precision

if TYPE_CHECKING:
    from deixis.inference import PointingAnswer

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def point_command(
    image: Annotated[
        str, typer.Argument(help="A JPEG, PNG, WebP, BMP, TIFF or AVIF file.", show_default=False)
    ],
    prompt: Annotated[
        str,
        typer.Argument(
            help="The question; each {region} is replaced by a region given below.",
            show_default=False,
        ),
    ],
    *,
    box: Annotated[
        list[str] | None, typer.Option(help="A region x1,y1,x2,y2 in pixels; repeat for more.")
    ] = None,
    point: Annotated[list[str] | None, typer.Option(help="A region x,y in pixels.")] = None,
    scribble: Annotated[
        list[str] | None, typer.Option(help="A stroke x,y,x,y,...@width in pixels.")
    ] = None,
    mask: Annotated[
        list[Path] | None,
        typer.Option(
            help="An image of the same size whose pixels that are not black are the region."
        ),
    ] = None,
    normalized: Annotated[
        bool,
        typer.Option(
            "--normalized",
            help="Numbers of --box, --point and --scribble are fractions of the sides, 0 to 1.",
        ),
    ] = False,
    video: Annotated[
        bool,
        typer.Option(
            "--video", help="The file is an MP4, WebM or GIF video; the model has to take videos."
        ),
    ] = False,
    units: Annotated[
        str | None,
        typer.Option(help="Unit types of all references, such as box, mask or box,mask."),
    ] = None,
    fuse: Annotated[
        str | None,
        typer.Option(
            metavar="STRATEGY",
            help="Combine the boxes of the box decoder, the mask decoder and a detector: "
            "agreement, decoder, mask, mean, iou_vote or score.",
        ),
    ] = None,
    detector: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A GroundingDINO of transformers, asked for the answer's phrases."
        ),
    ] = None,
    pose: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A ViTPose of transformers, for a model without keypoints."
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="A shipped model, a folder or a hub id.")
    ] = "scenes-tiny",
    device: Device = None,
    dtype: Precision = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Draw the answer into this PNG, JPEG or WebP file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask about an image; phrases of the answer point at boxes and masks.

    Coordinates are pixels of the upright image from its top left corner.
    """
    from deixis.cli.outputs import output_file, print_json, print_result
    from deixis.cli.region_arguments import place_regions, read_regions

    if out is not None and out.suffix.lower() not in _FORMATS:
        known = ", ".join(_FORMATS)
        raise typer.BadParameter(f"--out {out}: expected a name that ends in one of {known}")
    if detector is not None and fuse is None:
        raise typer.BadParameter("--detector is asked only where boxes are fused: give --fuse")
    place_regions(prompt, ())
    with output_file(out) if out is not None else nullcontext() as drawing:
        from deixis.processing.images import read_image
        from deixis.processing.video import read_video_header
        from deixis.structures import Video

        loaded = None if video else read_image(image)
        regions = read_regions(
            read_video_header(Path(image)).size if loaded is None else loaded.size,
            boxes=box or (),
            points=point or (),
            scribbles=scribble or (),
            masks=mask or (),
            normalized=normalized,
        )
        parts = place_regions(prompt, regions)

        from deixis.cli.model import load_quietly

        predictor = load_quietly(model, device=device, dtype=dtype, detector=detector, pose=pose)
        shown = Video(Path(image)) if loaded is None else loaded.array
        answer = predictor.ask(shown, parts, units=units, fuse=fuse)
        if drawing is not None:
            drawing.write(_drawn(answer, drawing.path))
    if as_json:
        print_json({"image": image, "prompt": prompt, "model": model, **answer.to_dict()})
    else:
        print_result(describe(answer))
    if out is not None:
        typer.echo(f"overlay: {out}", err=True)


def describe(answer: "PointingAnswer") -> str:
    """Return an answer as lines: its text, then each phrase with its units."""
    from deixis.geometry import Box, Keypoints, Mask

    lines = [answer.text or "(no words)"]
    for index, phrase in enumerate(answer.phrases):
        for number, reference in enumerate(phrase.references):
            fused = answer.fused(index, number)
            made_of = () if fused is None or fused.fused is None else fused.fused.sources
            words: list[str] = []
            for unit in reference.units:
                if isinstance(unit, Box):
                    corners = (unit.x1, unit.y1, unit.x2, unit.y2)
                    made = f" of {' and '.join(made_of)}" if made_of else ""
                    words.append("box " + ",".join(f"{value:.1f}" for value in corners) + made)
                elif isinstance(unit, Mask):
                    words.append(f"mask of {unit.area} pixels")
                elif isinstance(unit, Keypoints):
                    words.append(f"{unit.num_labeled} of {len(unit.names)} keypoints")
                else:
                    words.append("not decoded" if unit is None else type(unit).__name__.lower())
            if reference.score is not None:
                words.append(f"score {reference.score:.2f}")
            lines.append(f"  {phrase.text}: {', '.join(words)}")
    lines += [f"  problem: {problem.message}" for problem in answer.problems]
    return "\n".join(lines)


def _drawn(answer: "PointingAnswer", path: Path) -> bytes:
    buffer = io.BytesIO()
    options = {"quality": 92} if path.suffix.lower() != ".png" else {}
    answer.draw().save(buffer, _FORMATS[path.suffix.lower()], **options)
    return buffer.getvalue()

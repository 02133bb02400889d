"""Pages and contact sheets that show built data sets."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from deixis.data.build import BuiltDataset
from deixis.errors import DeixisError, RecipeError
from deixis.geometry import ImageSize, Mask, Scribble
from deixis.notation import NOTATIONS, join_pieces
from deixis.overlay import draw_answer
from deixis.processing.images import read_image
from deixis.processing.video import read_video
from deixis.structures import (
    Conversation,
    GroundedPhrase,
    GroundedText,
    ImageArray,
    Reference,
    Turn,
    UnitGroup,
    Video,
)

_THUMBNAIL = 512
_PAGES = Environment(loader=PackageLoader("deixis.cli"), autoescape=True, undefined=StrictUndefined)


def choose_rows(
    dataset: BuiltDataset, *, task: str | None, source: str | None, count: int, seed: int
) -> list[dict[str, Any]]:
    """Rows of a task and source, spread over the data set by a seed, in its order.

    Raises:
        RecipeError: No row has this task and source.
    """
    generator = np.random.default_rng(seed)
    kept: list[tuple[float, int, dict[str, Any]]] = []
    for number, row in enumerate(dataset.rows()):
        if (task and task not in row["tasks"]) or (source and row["source"] != source):
            continue
        kept.append((generator.random(), number, row))
        if len(kept) > 4 * count:
            kept = sorted(kept, key=lambda one: one[0])[:count]
    chosen = sorted(sorted(kept, key=lambda one: one[0])[:count], key=lambda one: one[1])
    if not chosen:
        raise RecipeError(f"{dataset.folder}: no conversation of task {task} and source {source}")
    return [row for _, _, row in chosen]


def shown_turn(turn: Turn, conversation: Conversation) -> GroundedText:
    """Return a turn as one grounded text; regions of the question become units to draw."""
    text = ""
    phrases: list[GroundedPhrase] = []
    for number, part in enumerate(turn.question):
        if isinstance(part, str):
            text += part
            continue
        unit = part
        if isinstance(part, Scribble) and conversation.size is not None:
            unit = Mask.from_scribble(part, conversation.size)
        if isinstance(unit, Scribble):
            continue
        label = f"[region {number}]" if len(turn.question) > 3 else "[region]"
        group = UnitGroup((type(unit).__name__.lower(),), (Reference((unit,)),))
        phrases.append(GroundedPhrase(label, len(text), len(text) + len(label), (group,)))
        text += label
    if turn.answer is not None:
        text += " — "
        for phrase in turn.answer.phrases:
            start, end = phrase.start + len(text), phrase.end + len(text)
            phrases.append(GroundedPhrase(phrase.text, start, end, phrase.groups))
        text += turn.answer.text
    return GroundedText(text, tuple(phrases))


def _pixels(conversation: Conversation) -> ImageArray:
    image = conversation.image
    if isinstance(image, Video):
        return _middle_frame(image, conversation)
    if isinstance(image, Path):
        return read_image(image).array
    if image is None:
        raise RecipeError(f"conversation {conversation.id} has no image")
    return image if isinstance(image, np.ndarray) else image()


def _middle_frame(video: Video, conversation: Conversation) -> ImageArray:
    """Return the middle frame, or a plain tile if MP4 and WebM cannot be read."""
    try:
        frames = read_video(video, num_frames=1).frames
    except RecipeError:
        size = conversation.size or ImageSize(_THUMBNAIL, _THUMBNAIL)
        frames = np.full((1, *size, 3), 127, np.uint8)
    middle: ImageArray = frames[0]
    return middle


def _drawn(conversation: Conversation) -> Image.Image:
    pixels = _pixels(conversation)
    pictures = [draw_answer(pixels, shown_turn(turn, conversation)) for turn in conversation.turns]
    width = max(picture.width for picture in pictures)
    sheet = Image.new("RGB", (width, sum(picture.height for picture in pictures)), "white")
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height
    return sheet


def contact_sheet(
    dataset: BuiltDataset, rows: Sequence[Mapping[str, Any]], *, columns: int = 4
) -> bytes:
    """Return conversations side by side, as a PNG."""
    pictures = []
    for row in rows:
        picture = _drawn(dataset.conversation(row))
        picture.thumbnail((_THUMBNAIL, 4 * _THUMBNAIL))
        pictures.append(picture)
    lines = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    heights = [max(picture.height for picture in line) for line in lines]
    sheet = Image.new("RGB", (columns * (_THUMBNAIL + 8), sum(heights) + 8 * len(lines)), "white")
    top = 0
    for line, height in zip(lines, heights, strict=True):
        for number, picture in enumerate(line):
            sheet.paste(picture, (number * (_THUMBNAIL + 8), top))
        top += height + 8
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class _Card:
    """A conversation on a page: its picture and its notations, or why it cannot be shown."""

    title: str
    tasks: str
    source: str
    problems: str
    error: str = ""
    jpeg: str = ""
    notations: Mapping[str, str] = field(default_factory=dict)


def _card(dataset: BuiltDataset, row: Mapping[str, Any]) -> _Card:
    title, tasks = f"{row['task']} · {row['id']}", " ".join(row["tasks"])
    try:
        conversation = dataset.conversation(row)
        picture = _drawn(conversation)
    except DeixisError as error:
        return _Card(title, tasks, row["source"], "unreadable", str(error))
    picture.thumbnail((_THUMBNAIL, 4 * _THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=85)
    problems: set[str] = set()
    notations = {}
    for name, notation in NOTATIONS.items():
        texts = []
        for turn in conversation.turns:
            if turn.answer is None or conversation.size is None:
                continue
            adapted = notation.adapt(turn.answer)
            if adapted != turn.answer:
                problems.add(f"{name}-loses-units")
            try:
                texts.append(
                    join_pieces(
                        notation.encode(adapted, conversation.size).pieces, notation.spelling
                    )
                )
            except DeixisError as error:
                problems.add(f"{name}-refuses")
                texts.append(str(error))
        notations[name] = "\n".join(texts)
    return _Card(
        title=title,
        tasks=tasks,
        source=row["source"],
        problems=" ".join(sorted(problems)) or "none",
        jpeg=base64.b64encode(buffer.getvalue()).decode(),
        notations=notations,
    )


def view_page(dataset: BuiltDataset, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return an HTML page of conversations, with filters by task, source and problem.

    Each conversation is written in every notation of `NOTATIONS`.
    """
    return _PAGES.get_template("view.html.j2").render(
        title=f"{dataset.folder.name}: {len(rows)} of {len(dataset)} conversations",
        cards=[_card(dataset, row) for row in rows],
        choices={
            "task": sorted({task for row in rows for task in row["tasks"]}),
            "source": sorted({row["source"] for row in rows}),
            "problem": ("none", *(f"{name}-loses-units" for name in NOTATIONS)),
        },
    )


def report_page(dataset: BuiltDataset, content: Mapping[str, Any], *, pictures: int = 12) -> str:
    """Return a report as an HTML page with all tables and some conversations."""
    rows = []
    if len(dataset):
        rows = choose_rows(dataset, task=None, source=None, count=pictures, seed=0)
    return _PAGES.get_template("report.html.j2").render(
        title=f"{dataset.folder.name}: contents",
        content=content,
        tables={
            name: values
            for name, values in content.items()
            if isinstance(values, Mapping) and values and name != "left_out"
        },
        cards=[_card(dataset, row) for row in rows],
    )

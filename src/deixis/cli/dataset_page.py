"""Pages and contact sheets that show built data sets."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
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
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem;
  color: #1c1c1c; background: #fdfdfb; }
table { border-collapse: collapse; } td, th { padding: .1rem .8rem .1rem 0; text-align: left; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
.bar { background: #3d6b99; height: .7rem; display: inline-block; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(22rem, 1fr)); gap: 1.2rem; }
.card { border: 1px solid #ddd; border-radius: .4rem; padding: .7rem; background: #fff; }
.card img { width: 100%; height: auto; } .card h3 { font-size: 1rem; margin: 0 0 .4rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f4f4f0; padding: .4rem;
  font-size: 12px; } .problem { color: #a02020; }
"""
_SCRIPT = """
const chosen = () => Object.fromEntries([...document.querySelectorAll('select')].map(s => [s.id, s.value]));
const apply = () => { const want = chosen(); for (const card of document.querySelectorAll('.card'))
  card.hidden = Object.entries(want).some(([k, v]) => v && !card.dataset[k].split(' ').includes(v)); };
document.querySelectorAll('select').forEach(s => s.addEventListener('change', apply));
"""


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


def _card(dataset: BuiltDataset, row: Mapping[str, Any]) -> str:
    title = html.escape(f"{row['task']} · {row['id']}")
    problems: list[str] = []
    try:
        conversation = dataset.conversation(row)
        picture = _drawn(conversation)
    except DeixisError as error:
        return (
            f'<div class="card" data-task="{html.escape(" ".join(row["tasks"]))}" '
            f'data-source="{html.escape(row["source"])}" data-problem="unreadable">'
            f'<h3>{title}</h3><p class="problem">{html.escape(str(error))}</p></div>'
        )
    picture.thumbnail((_THUMBNAIL, 4 * _THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode()
    written = []
    for name, notation in NOTATIONS.items():
        texts = []
        for turn in conversation.turns:
            if turn.answer is None or conversation.size is None:
                continue
            adapted = notation.adapt(turn.answer)
            if adapted != turn.answer:
                problems.append(f"{name}-loses-units")
            try:
                texts.append(
                    join_pieces(
                        notation.encode(adapted, conversation.size).pieces, notation.spelling
                    )
                )
            except DeixisError as error:
                problems.append(f"{name}-refuses")
                texts.append(str(error))
        written.append(f"<b>{name}</b><pre>{html.escape(chr(10).join(texts))}</pre>")
    lost = " ".join(sorted(set(problems))) or "none"
    return (
        f'<div class="card" data-task="{html.escape(" ".join(row["tasks"]))}" '
        f'data-source="{html.escape(row["source"])}" data-problem="{lost}"><h3>{title}</h3>'
        f'<img alt="" loading="lazy" src="data:image/jpeg;base64,{data}">'
        f"<details><summary>notations</summary>{''.join(written)}</details></div>"
    )


def _page(title: str, body: str) -> str:
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(title)}</h1>{body}<script>{_SCRIPT}</script></html>\n"
    )


def view_page(dataset: BuiltDataset, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return an HTML page of conversations, with filters by task, source and problem.

    Each conversation is written in every notation of `NOTATIONS`.
    """
    cards = [_card(dataset, row) for row in rows]
    problems = ("none", *(f"{name}-loses-units" for name in NOTATIONS))
    choices = {
        "task": sorted({task for row in rows for task in row["tasks"]}),
        "source": sorted({row["source"] for row in rows}),
        "problem": problems,
    }
    selects = "".join(
        f'<label>{name} <select id="{name}"><option value="">all</option>'
        + "".join(f"<option>{html.escape(value)}</option>" for value in values)
        + "</select></label> "
        for name, values in choices.items()
    )
    return _page(
        f"{dataset.folder.name}: {len(rows)} of {len(dataset)} conversations",
        f'<p>{selects}</p><div class="cards">{"".join(cards)}</div>',
    )


def report_page(dataset: BuiltDataset, content: Mapping[str, Any], *, pictures: int = 12) -> str:
    """Return a report as an HTML page with all tables and some conversations."""
    summary = (
        f"{content['conversations']} conversations, {content['turns']} turns, "
        f"{content['images']} images, {content['same_question_twice']} questions asked twice."
    )
    body = [f"<p>{summary}</p>"]
    for name, values in content.items():
        if not isinstance(values, Mapping) or not values or name == "left_out":
            continue
        total = sum(values.values())
        lines = "".join(
            f'<tr><td>{html.escape(str(key))}</td><td class="n">{n}</td>'
            f'<td><span class="bar" style="width:{100 * n / total / 4:.1f}rem"></span></td></tr>'
            for key, n in values.items()
        )
        body.append(f"<h2>{html.escape(name.replace('_', ' '))}</h2><table>{lines}</table>")
    body.append("<h2>left out</h2><table><tr><th>source<th>images<th>quarantined<th>records</tr>")
    for name, one in content["left_out"].items():
        body.append(
            f'<tr><td>{html.escape(name)}</td><td class="n">{one["images"]}</td>'
            f'<td class="n">{one["quarantined"]}</td><td class="n">{one["quarantined_records"]}</td></tr>'
        )
    body.append("</table>")
    if len(dataset):
        rows = choose_rows(dataset, task=None, source=None, count=pictures, seed=0)
        body.append(
            f'<h2>some of them</h2><div class="cards">{"".join(_card(dataset, row) for row in rows)}</div>'
        )
    return _page(f"{dataset.folder.name}: what it holds", "".join(body))

"""A folder of videos, with captions and questions in one file.

JSON lines (``.jsonl``), a video a line:

    {"video": "street/0001.mp4", "captions": ["A man crosses.", "A man in a red coat crosses."],
     "questions": [{"question": "Where does he go?", "answer": "Home."}], "id": "1", "split": "train"}

or a table (``.csv``) whose first line names its columns, of ``video``, ``caption``, ``question``,
``answer``, ``id`` and ``split``; a record is one line, with quotes where a text has a comma in it. A
row has a caption, a question with its answer, or both.

``video`` is the path relative to the folder of the videos. It is required, and so is a caption or a
question. Lines of the same video are merged. The name of the sample is ``id``, else the path. Unknown
fields are refused.

Irregularities: a duplicate line (``duplicate_annotation``); lines of one video with different ``id`` or
``split`` (``bad_record``).

Tested on files of the package.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.fields import (
    as_key,
    as_list,
    as_object,
    as_text,
    image_path,
    record,
    required,
    text_field,
)
from deixis.data.sources.reading.questions import once_each, the_file
from deixis.data.sources.reading.records import digest
from deixis.data.sources.reading.streaming import json_lines, parse_json
from deixis.data.sources.reading.video_header import video_of
from deixis.errors import AnnotationError
from deixis.structures import GroundedText, QuestionAnswer, Sample

FIELDS = frozenset({"video", "captions", "questions", "id", "split"})
COLUMNS = frozenset({"video", "caption", "question", "answer", "id", "split"})
_FILES = ("captions.jsonl", "captions.csv", "videos.jsonl", "videos.csv")
_ROW_LIMIT = 100_000
"""Most characters of a row of a table."""
_LINE = "line"


@dataclass(frozen=True, slots=True)
class VideoFolder:
    """A file of captions and questions, and the folder of its videos."""

    name: str
    path: Path
    images: Path
    split: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The file."""
        return (str(self.path),)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part per line."""
        lines = json_lines(self.path)
        columns = _columns(lines, self.path) if self.path.suffix.lower() == ".csv" else None
        for number, line in lines:
            place = f"{self.path.name}: line {number}"
            try:
                if columns is None:
                    fields = as_object(parse_json(line), "record")
                    text = line
                else:
                    fields = _row(line, columns)
                    text = json.dumps(fields)
                yield Part(
                    as_text(required(fields, "video"), "video"), _LINE, digest(text), place, text
                )
            except BadRecord as error:
                yield error.problem(place)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of a video with its captions and questions."""
        place = parts[0].place
        problems: list[RecordProblem] = []
        captions: dict[str, None] = {}
        asked: dict[tuple[str, str], None] = {}
        names: set[tuple[str, str]] = set()
        for part in once_each(parts, problems):
            try:
                fields = record(part)
                told, questions = _told(fields)
                names.add(_named(fields))
            except BadRecord as error:
                problems.append(error.problem(part.place))
                continue
            captions |= dict.fromkeys(told)
            asked |= dict.fromkeys(questions)
        if not captions and not asked:
            return Reading(None, tuple(problems))
        try:
            id_, split = _one_name(names)
            video, size = video_of(image_path(self.images, key))
        except BadRecord as error:
            return Reading(None, (*problems, error.problem(place)))
        sample = Sample(
            id=f"{self.name}/{id_ or key}",
            image=video,
            size=size,
            captions=tuple(map(GroundedText, captions)),
            questions=tuple(QuestionAnswer(*one) for one in asked),
            source=self.name,
            split=split or self.split,
            exhaustive=False,
        )
        return Reading(sample, tuple(problems))


def _named(fields: Mapping[str, Any]) -> tuple[str, str]:
    id_ = as_key(fields["id"], "id") if fields.get("id") is not None else ""
    split = as_text(fields["split"], "split") if fields.get("split") is not None else ""
    return id_, split


def _one_name(names: set[tuple[str, str]]) -> tuple[str, str]:
    if len(names) > 1:
        raise BadRecord("bad_record", "lines of one video have several ids or splits")
    return next(iter(names))


def _told(fields: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the captions and the questions with answers of a line."""
    unknown = sorted(set(fields) - FIELDS)
    if unknown:
        raise BadRecord(
            "bad_record", f"field {unknown[0][:40]!r}: expected some of {sorted(FIELDS)}"
        )
    captions = [as_text(one, "caption") for one in as_list(fields.get("captions", []), "captions")]
    questions = []
    for value in as_list(fields.get("questions", []), "questions"):
        one = as_object(value, "question")
        if set(one) != {"question", "answer"}:
            raise BadRecord(
                "bad_record", f"question: expected question and answer, got {sorted(one)}"
            )
        questions.append((text_field(one, "question"), text_field(one, "answer")))
    if not captions and not questions:
        raise BadRecord("bad_text", "neither a caption nor a question")
    return captions, questions


def _columns(lines: Iterator[tuple[int, str]], path: Path) -> list[str]:
    _, first = next(lines, (0, ""))
    try:
        columns = [name.strip() for name in _cells(first.removeprefix("\ufeff"))]
    except BadRecord as error:
        raise AnnotationError(f"{path}: line 1: {error.detail}") from None
    twice = len(set(columns)) < len(columns)
    lonely = ("question" in columns) != ("answer" in columns)
    if "video" not in columns or set(columns) - COLUMNS or twice or lonely:
        raise AnnotationError(
            f"{path}: columns {columns}: expected video and some of {sorted(COLUMNS - {'video'})}"
        )
    return columns


def _row(line: str, columns: Sequence[str]) -> dict[str, Any]:
    """Return a row of a table as the fields of a JSON line."""
    cells = _cells(line)
    if len(cells) != len(columns):
        raise BadRecord("bad_record", f"{len(cells)} columns, expected {len(columns)}")
    values = {name: cell for name, cell in zip(columns, cells, strict=True) if cell.strip()}
    fields: dict[str, Any] = {
        name: values[name] for name in ("video", "id", "split") if name in values
    }
    if "caption" in values:
        fields["captions"] = [values["caption"]]
    if ("question" in values) != ("answer" in values):
        raise BadRecord("bad_record", "a question without an answer, or an answer without one")
    if "question" in values:
        fields["questions"] = [{"question": values["question"], "answer": values["answer"]}]
    return fields


def _cells(line: str) -> list[str]:
    if len(line) > _ROW_LIMIT:
        raise BadRecord(
            "bad_text", f"a row of {len(line)} characters, expected {_ROW_LIMIT} at most"
        )
    try:
        rows = list(csv.reader([line], strict=True))
    except csv.Error as error:
        raise BadRecord("bad_record", f"not a row of a table: {error}") from None
    return rows[0] if rows else []


def open_video_folder(
    path: Path, *, name: str = "video_folder", images: Path | None = None, split: str = ""
) -> VideoFolder:
    """Open a folder with ``captions.jsonl`` or ``captions.csv`` (or ``videos``), or such a file.

    Video paths are relative to ``images``, else to ``videos`` beside the file, else to its folder.
    ``split`` applies to lines without a split.

    Raises:
        AnnotationError: The file is missing.
    """
    found = the_file(path, *_FILES)
    if found.suffix.lower() not in {".csv", ".jsonl"}:
        raise AnnotationError(f"{found}: expected a file called .jsonl or .csv")
    place = found.parent / "videos"
    return VideoFolder(name, found, images or (place if place.is_dir() else found.parent), split)

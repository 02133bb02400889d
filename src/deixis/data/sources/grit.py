"""GRIT (Kosmos-2): captions of web images whose noun chunks and expressions have boxes.

Parquet or JSON lines. Fields used: ``caption``; ``noun_chunks`` and ``ref_exps``, lists of
``[start, end, x1, y1, x2, y2, score]`` with offsets into the caption and boxes in fractions of the
image; ``key``, or a file name in ``image`` or ``file_name``. The annotated size is of the image on the
web, which downloaders scale, so the size is read from the file. The file of image ``000373938`` is
``00037/000373938.jpg``, as img2dataset writes it, or the same without folder.

A box of both a chunk and an expression is one instance; its class is the text of the chunk, else of the
expression. Chunks become phrases of the caption, and expressions become expressions. Other fields are not
used. Tested on files written by hand to the published format.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.fields import (
    as_integer,
    as_key,
    as_list,
    as_object,
    as_text,
    image_path,
    record,
    required,
)
from deixis.data.sources.reading.file_names import first_folder
from deixis.data.sources.reading.questions import once_each
from deixis.data.sources.reading.records import Record, digest, parts_of, records
from deixis.data.sources.reading.spans import Span, fraction_box, ground, located_size
from deixis.errors import AnnotationError
from deixis.geometry import Box, ImageSize
from deixis.structures import Expression, GroundedText, Instance, Sample

_COLUMNS = ("key", "image", "file_name", "caption", "noun_chunks", "ref_exps")
_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Grit:
    """Files of GRIT and the folder of their downloaded images."""

    name: str
    paths: tuple[Path, ...]
    images: Path
    split: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The files."""
        return tuple(map(str, self.paths))

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part per row."""
        for path in self.paths:
            rows = _rows(path) if path.suffix == ".parquet" else records(path)
            yield from parts_of(rows, self._part)

    def _part(self, one: Record) -> Part:
        key = _image_name(as_object(one.value, "row"))
        return Part(key, "caption", digest(one.text), one.place, one.text)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of an image with its captions and boxes."""
        try:
            path = self._path(key)
            reader = _Captions(located_size(path))
        except BadRecord as error:
            return Reading(None, (error.problem(parts[0].place),))
        for part in once_each(parts, reader.problems):
            try:
                reader.read(record(part), part.place)
            except BadRecord as error:
                reader.problems.append(error.problem(part.place))
        sample = Sample(
            id=f"{self.name}/{key}",
            image=path,
            size=reader.size,
            instances=tuple(reader.instances),
            expressions=tuple(reader.expressions),
            captions=tuple(reader.captions),
            source=self.name,
            split=self.split,
            exhaustive=False,
        )
        return Reading(sample, tuple(reader.problems), tuple(sorted(reader.notes.items())))

    def _path(self, key: str) -> Path:
        path = image_path(self.images, key)
        if "/" not in key and not path.exists():
            return self.images / key[:5] / key
        return path


def _image_name(fields: Mapping[str, Any]) -> str:
    for name in ("image", "file_name"):
        if fields.get(name) is not None:
            return as_text(fields[name], name)
    return f"{as_key(required(fields, 'key'), 'key')}.jpg"


def _rows(path: Path) -> Iterator[Record]:
    """Yield the rows of a Parquet file in batches; only the used columns are read."""
    try:
        with pq.ParquetFile(path) as file:
            columns = [name for name in _COLUMNS if name in file.schema_arrow.names]
            number = 0
            for batch in file.iter_batches(batch_size=_ROWS, columns=columns):
                for row in batch.to_pylist():
                    yield Record(f"{path.name}: row {number}", json.dumps(row), row)
                    number += 1
    except (pa.ArrowException, OSError, TypeError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AnnotationError(f"{path}: cannot read: {reason}") from error


class _Captions:
    """Reads the captions of an image."""

    def __init__(self, size: ImageSize) -> None:
        self.size = size
        self.instances: list[Instance] = []
        self.expressions: list[Expression] = []
        self.captions: list[GroundedText] = []
        self.problems: list[RecordProblem] = []
        self.notes: dict[str, int] = {}
        self.indices: dict[Box, int] = {}

    def read(self, fields: Mapping[str, Any], place: str) -> None:
        """Read a row."""
        caption = required(fields, "caption")
        as_text(caption, "caption")
        chunks = self.spans(fields, "noun_chunks", caption, place)
        self.captions.append(
            ground(
                caption,
                chunks,
                self.instances,
                notes=self.notes,
                problems=self.problems,
                place=place,
            )
        )
        meant: dict[str, list[int]] = {}
        for span in self.spans(fields, "ref_exps", caption, place):
            indices = meant.setdefault(caption[span.start : span.end].strip(), [])
            indices += [index for index in span.instances if index not in indices]
        self.expressions += [Expression(text, tuple(indices)) for text, indices in meant.items()]

    def spans(self, fields: Mapping[str, Any], name: str, caption: str, place: str) -> list[Span]:
        """Read a list of offsets with boxes."""
        made: list[Span] = []
        for number, value in enumerate(as_list(fields.get(name) or [], name)):
            try:
                made.append(self.span(as_list(value, name), caption))
            except BadRecord as error:
                self.problems.append(error.problem(f"{place}, {name}[{number}]"))
        return made

    def span(self, values: Sequence[Any], caption: str) -> Span:
        """Read offsets with a box."""
        if len(values) not in {6, 7}:
            raise BadRecord("bad_record", f"expected 7 numbers, got {len(values)}")
        start, end = as_integer(values[0], "start"), as_integer(values[1], "end")
        if not 0 <= start < end <= len(caption) or not caption[start:end].strip():
            raise BadRecord("span_damaged", f"[{start}:{end}] of {len(caption)} characters")
        box = fraction_box(list(values[2:6]), self.size, self.notes)
        if box not in self.indices:
            self.indices[box] = len(self.instances)
            self.instances.append(Instance(caption[start:end].strip(), box))
        return Span(start, end, (self.indices[box],))


def open_grit(
    path: Path, *, name: str = "grit", images: Path | None = None, split: str = ""
) -> Grit:
    """Open a Parquet or JSON-lines file, or a folder of them.

    Images are in the given folder ``images``, else in ``images`` beside the file, else beside the file.

    Raises:
        AnnotationError: The file is missing.
    """
    paths = [path]
    if path.is_dir():
        paths = sorted(path.glob("*.parquet")) or sorted(path.glob("*.jsonl*"))
    if not paths or not paths[0].is_file():
        raise AnnotationError(f"{path}: expected Parquet or JSON-lines files")
    root = paths[0].parent
    return Grit(name, tuple(paths), images or first_folder(root / "images", root), split)

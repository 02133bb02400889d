"""Conversations about images: LLaVA's CC3M and Instruct, ALLaVA, and other files in their format.

A list or JSON lines of records with ``image`` and ``conversations``, turns ``from`` a human and from a
model with a ``value`` (`deixis.data.sources.reading.turns` describes the removal of ``<image>``). Every
record is one sample, whose questions are the turns of one conversation in order, all of kind
``dialogue``. For files of captions (CC3M, ALLaVA's captions), ``captions`` makes the first answer a
caption and ignores its question.

Records without ``image`` are skipped and counted. Records have no geometry; sizes are read from the images.
Tested on files written by hand to the published format.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deixis.data.sources.base import NO_IMAGE, BadRecord, Part, PassedOver, Reading, RecordProblem
from deixis.data.sources.reading.fields import as_object, as_text, image_path, record, required
from deixis.data.sources.reading.file_names import first_folder
from deixis.data.sources.reading.image_header import header_size
from deixis.data.sources.reading.records import Record, digest, parts_of, records
from deixis.data.sources.reading.turns import exchanges
from deixis.errors import AnnotationError
from deixis.structures import DIALOGUE, GroundedText, QuestionAnswer, Sample


@dataclass(frozen=True, slots=True)
class Llava:
    """Files of conversations about the images of one folder."""

    name: str
    paths: tuple[Path, ...]
    images: Path
    captions: bool = False
    split: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The files."""
        return tuple(map(str, self.paths))

    def parts(self) -> Iterator[Part | RecordProblem | PassedOver]:
        """Yield one part per conversation, each with its own key."""
        for path in self.paths:
            found: Iterator[Part | RecordProblem | PassedOver] = parts_of(records(path), self._part)
            yield from found

    def _part(self, one: Record) -> Part | PassedOver:
        fields = as_object(one.value, "record")
        if fields.get("image") is None:
            return NO_IMAGE
        image = as_text(fields["image"], "image")
        return Part(f"{image}#{digest(one.text)}", "turns", "", one.place, one.text)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of a conversation; a duplicate is a problem."""
        place = parts[0].place
        problems = tuple(
            RecordProblem("duplicate_annotation", "a conversation comes again", part.place)
            for part in parts[1:]
        )
        try:
            fields = record(parts[0])
            path = image_path(self.images, required(fields, "image"))
            size = header_size(path)
            turns = exchanges(required(fields, "conversations"), captions=self.captions)
        except BadRecord as error:
            return Reading(None, (*problems, error.problem(place)))
        asked = [QuestionAnswer(question, said, kind=DIALOGUE) for question, said in turns]
        sample = Sample(
            id=f"{self.name}/{key}",
            image=path,
            size=size,
            captions=(GroundedText(turns[0][1]),) if self.captions else (),
            questions=() if self.captions else tuple(asked),
            source=self.name,
            split=self.split,
            exhaustive=False,
        )
        return Reading(sample, problems)


def open_llava(
    path: Path,
    *,
    name: str = "llava",
    images: Path | None = None,
    captions: bool = False,
    split: str = "",
) -> Llava:
    """Open a file of conversations, or a folder of them; with ``captions`` answers are captions.

    Images are named relative to the given folder, else from ``images`` beside the file, else from
    the file's own.

    Raises:
        AnnotationError: The file is missing.
    """
    paths = sorted({*path.glob("*.json"), *path.glob("*.jsonl")}) if path.is_dir() else [path]
    if not paths or not paths[0].is_file():
        raise AnnotationError(f"{path}: expected a file of conversations, or a folder of them")
    root = paths[0].parent
    return Llava(name, tuple(paths), images or first_folder(root / "images", root), captions, split)

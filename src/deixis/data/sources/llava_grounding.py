"""LLaVA-Grounding: conversations whose answers refer to COCO's annotations.

Two files: conversations (a list of ``id``, the number of an image, ``conversations`` and ``gd_ls``, for
every ``<seg>`` of the texts in order a list of annotation ids, or null), and COCO's instances. In a
text ``<g_s> words <g_e> <seg>`` marks words; the markers are removed, and so is the request
``(with grounding)`` at the end of a question.

Turns are questions of kind ``dialogue`` whose answers have phrases; the conversations of an image are
joined. The answer of a conversation with one turn, whose question does not end in a question mark, is
also a caption. A marker with a missing annotation, or a number of ``<seg>`` that differs from ``gd_ls``,
is a problem of its conversation.
Tested on files written by hand to the published format.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.png import image_number
from deixis.data.sources.reading.coco_records import (
    Annotated,
    coco_parts,
    image_of,
    read_categories,
)
from deixis.data.sources.reading.fields import as_list, as_object, as_text, record, required
from deixis.data.sources.reading.questions import Fields, once_each
from deixis.data.sources.reading.records import Record, digest, parts_of, records
from deixis.data.sources.reading.spans import Span, ground
from deixis.data.sources.reading.turns import exchanges
from deixis.errors import AnnotationError
from deixis.structures import DIALOGUE, GroundedText, QuestionAnswer, Sample

_ANNOTATION, _IMAGE, _TURNS = "annotation", "image", "turns"
# matches a run of blanks only from its start, for linear time
_MARKER = re.compile(r"(<g_s>)\s*+|(?:(?<!\s)\s++)?(?:(<g_e>)|(<seg>))")
_ASKED_FOR = re.compile(r"(?:(?<!\s)\s++)?\(with grounding\)\s*+\Z")


@dataclass(frozen=True, slots=True)
class LlavaGrounding:
    """A file of conversations, their instances, and the images."""

    name: str
    conversations: Path
    instances: Path
    images: Path
    categories: dict[int, str]
    split: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """Both files."""
        return str(self.conversations), str(self.instances)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield conversations, then COCO's records of their images; memory holds the image ids."""
        wanted: set[str] = set()
        for one in parts_of(records(self.conversations), self._part):
            if isinstance(one, Part):
                wanted.add(one.key)
            yield one
        yield from coco_parts(self.instances, wanted)

    def _part(self, one: Record) -> Part:
        key = image_number(as_object(one.value, "record"), "id")
        return Part(key, _TURNS, digest(one.text), one.place, one.text)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of an image with its annotations and conversations."""
        try:
            path, size = image_of([part for part in parts if part.kind == _IMAGE], self.images)
        except BadRecord as error:
            return Reading(None, (error.problem(parts[0].place),))
        annotated = Annotated(size, self.categories)
        annotated.add_parts([part for part in parts if part.kind == _ANNOTATION])
        said = _Said(annotated)
        turns = [part for part in parts if part.kind == _TURNS]
        for part in once_each(turns, annotated.problems):
            try:
                said.conversation(record(part), part.place)
            except BadRecord as error:
                annotated.problem(error, part.place)
        sample = Sample(
            id=f"{self.name}/{key}",
            image=path,
            size=size,
            instances=tuple(annotated.instances),
            captions=tuple(said.captions),
            questions=tuple(said.asked),
            source=self.name,
            split=self.split,
            exhaustive=False,
        )
        return Reading(sample, tuple(annotated.problems), tuple(sorted(annotated.notes.items())))


class _Said:
    """Reads the conversations of an image."""

    def __init__(self, annotated: Annotated) -> None:
        self.annotated = annotated
        self.asked: list[QuestionAnswer] = []
        self.captions: list[GroundedText] = []

    def conversation(self, fields: Fields, place: str) -> None:
        """Read a conversation."""
        turns = exchanges(required(fields, "conversations"))
        grounds = fields.get("gd_ls", fields.get("q_gd_ls"))
        count = sum(text.count("<seg>") for turn in turns for text in turn)
        listed = [None] * count if grounds is None else list(as_list(grounds, "gd_ls"))
        if len(listed) != count:
            raise BadRecord("bad_record", f"{count} <seg>, gd_ls has {len(listed)}")
        at = iter(listed)
        # a conversation is valid or invalid as a whole
        read = [
            (self.text(_ASKED_FOR.sub("", question), at), self.text(answer, at))
            for question, answer in turns
        ]
        for (question, _), (answer, spans) in read:
            found = ground(
                answer,
                spans,
                self.annotated.instances,
                notes=self.annotated.notes,
                problems=self.annotated.problems,
                place=place,
            )
            self.asked.append(
                QuestionAnswer(question.strip(), found.text, kind=DIALOGUE, phrases=found.phrases)
            )
            if len(read) == 1 and not question.rstrip().endswith("?"):
                self.captions.append(found)

    def text(self, marked: str, grounds: Iterator[Any]) -> tuple[str, list[Span]]:
        """Return a text without its markers, and the spans of its phrases."""
        plain, end, start = "", 0, 0
        words = (0, 0)
        spans: list[Span] = []
        for match in _MARKER.finditer(marked):
            plain += marked[end : match.start()]
            end = match.end()
            if match[1]:
                start = len(plain)
            elif match[2]:
                words = (start, len(plain))
            elif (meant := next(grounds)) is not None:
                indices = [self.annotated.index(number) for number in as_list(meant, "gd_ls")]
                spans.append(Span(*words, tuple(dict.fromkeys(indices))))
        plain += marked[end:]
        as_text(plain, "text")
        return plain, spans


def open_llava_grounding(
    path: Path,
    *,
    instances: Path | None = None,
    name: str = "llava_grounding",
    images: Path | None = None,
    split: str = "",
) -> LlavaGrounding:
    """Open a file of conversations and the COCO file of its instances.

    Without ``instances``, the only ``instances_*.json`` beside the file is used. Images are in
    ``images``, else beside the instances.

    Raises:
        AnnotationError: A file is missing, or the instances file has no valid categories.
    """
    if instances is None:
        found = sorted(path.parent.glob("instances_*.json"))
        if len(found) != 1:
            raise AnnotationError(f"{path}: name the file of instances that it means")
        instances = found[0]
    for file in (path, instances):
        if not file.is_file():
            raise AnnotationError(f"{file}: expected a file")
    categories = read_categories(instances)
    return LlavaGrounding(name, path, instances, images or instances.parent, categories, split)

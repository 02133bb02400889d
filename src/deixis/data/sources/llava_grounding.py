"""LLaVA-Grounding: conversations whose answers point at COCO's annotations.

Two files: conversations (a list of ``id``, the number of an image, ``conversations`` and ``gd_ls``, for
every ``<seg>`` of the texts in order a list of annotation ids, or null), and COCO's instances. In a
text ``<g_s> words <g_e> <seg>`` marks words; the markers are taken off, and the places of the
instances (`deixis.data.sources.slots`) follow their words: ``a man <region 0> on a bench <region 3>``.
``(with grounding)`` at the end of a question asks for that, and is taken off too.

Questions with places are of kind ``regions``, others of kind ``dialogue``. An image may have several
conversations; they follow one another. A marker whose annotation is not there, and texts that have
more or fewer ``<seg>`` than ``gd_ls``, are faults of their conversation. Tried on files written to the
published format.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deixis.data.sources.base import BadRecord, Fault, Part, Reading
from deixis.data.sources.coco_records import Annotated, coco_parts, image_of, read_categories
from deixis.data.sources.fields import as_list, as_object, record, required
from deixis.data.sources.png import image_number
from deixis.data.sources.questions import Fields, once_each
from deixis.data.sources.records import digest, records
from deixis.data.sources.slots import about_regions, check_no_places, place_of
from deixis.data.sources.turns import exchanges
from deixis.errors import AnnotationError
from deixis.structures import QuestionAnswer, Sample

_ANNOTATION, _IMAGE, _TURNS = "annotation", "image", "turns"
_MARKED = re.compile(r"<g_s>\s*|\s*<g_e>|\s*(<seg>)")
_ASKED_FOR = re.compile(r"\s*\(with grounding\)\s*\Z")


@dataclass(frozen=True, slots=True)
class LlavaGrounding:
    """A file of conversations, the instances that they mean, and the images."""

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

    def parts(self) -> Iterator[Part | Fault]:
        """Yield conversations, then COCO's records of their images; the images' ids are kept."""
        wanted: set[str] = set()
        for one in records(self.conversations):
            if isinstance(one, Fault):
                yield one
                continue
            try:
                key = image_number(as_object(one.value, "record"), "id")
                wanted.add(key)
                yield Part(key, _TURNS, digest(one.text), one.place, one.text)
            except BadRecord as error:
                yield Fault(error.code, error.detail, one.place)
        yield from coco_parts(self.instances, wanted)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Make a sample of an image, its annotations and what is said about them."""
        try:
            path, size = image_of([part for part in parts if part.kind == _IMAGE], self.images)
        except BadRecord as error:
            return Reading(None, (Fault(error.code, error.detail, parts[0].place),))
        annotated = Annotated(size, self.categories)
        annotated.add_parts([part for part in parts if part.kind == _ANNOTATION])
        asked: list[QuestionAnswer] = []
        turns = [part for part in parts if part.kind == _TURNS]
        for part in once_each(turns, annotated.faults):
            try:
                asked += _conversation(record(part), annotated)
            except BadRecord as error:
                annotated.fault(error, part.place)
        sample = Sample(
            id=f"{self.name}/{key}",
            image=path,
            size=size,
            instances=tuple(annotated.instances),
            questions=tuple(asked),
            source=self.name,
            split=self.split,
            exhaustive=False,
        )
        return Reading(sample, tuple(annotated.faults), tuple(sorted(annotated.notes.items())))


def _conversation(fields: Fields, annotated: Annotated) -> list[QuestionAnswer]:
    turns = exchanges(required(fields, "conversations"))
    grounds = fields.get("gd_ls", fields.get("q_gd_ls"))
    texts = [text for turn in turns for text in turn]
    count = sum(text.count("<seg>") for text in texts)
    listed = [None] * count if grounds is None else list(as_list(grounds, "gd_ls"))
    if len(listed) != count:
        raise BadRecord("bad_record", f"{count} <seg>, gd_ls has {len(listed)}")
    at = iter(listed)

    def placed(match: re.Match[str]) -> str:
        meant = next(at) if match[1] else None
        if meant is None:
            return ""
        indices = [annotated.index(number) for number in as_list(meant, "gd_ls")]
        return "".join(f" {place_of(index)}" for index in dict.fromkeys(indices))

    made = []
    for question, answer in turns:
        check_no_places(_MARKED.sub("", question + answer))
        asked = _MARKED.sub(placed, _ASKED_FOR.sub("", question))
        made.append(about_regions(asked, _MARKED.sub(placed, answer), kind="dialogue"))
    return made


def open_llava_grounding(
    path: Path,
    *,
    instances: Path | None = None,
    name: str = "llava_grounding",
    images: Path | None = None,
    split: str = "",
) -> LlavaGrounding:
    """Take a file of conversations, and COCO's instances that it means.

    Without ``instances``, the only ``instances_*.json`` beside the file is taken. Images lie in the
    folder that is given, else with the instances.

    Raises:
        AnnotationError: A file is not there, or the instances have no sound categories.
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

"""Visual Genome 1.2 and 1.4: objects, attributes, relationships, regions, questions and answers.

Six lists of images: ``image_data.json``, which is required, ``objects``, ``attributes``,
``relationships``, ``region_descriptions`` and ``question_answers``. Objects become instances under
their ``object_id``, with their attributes; so do objects that are only in attributes or
relationships. A region becomes a question of kind ``description``.

Fields used: ``image_id`` (or ``id``), ``url``, ``width``, ``height``; of objects ``object_id``,
``names`` or ``name``, ``merged_object_ids``, ``attributes``; ``predicate``, ``subject``, ``object``;
``phrase``; ``question``, ``answer``. Synsets are not read. The image's file is the end of its
``url``: ``VG_100K_2/1.jpg``. Boxes are ``x, y, w, h`` (``width``, ``height`` of regions) in pixels
from 0.

Irregularities: the first of several names is the class; ids that were merged into an object refer to
that object, so two files may name it differently; ``attributes`` may be missing or blank; blanks
around and within phrases; predicates in capitals; duplicate relations, and relations of an object with
itself after merging, which are left out and counted (``relation_twice``, ``relation_merged``). Images
are not annotated completely, so no sample is exhaustive. With ``exhaustive=true``, as in Pink, an image
is exhaustive unless one of its records has a problem or it has no ``objects`` record. ``--rules pink``
sets this option.

Tested on original records of one image (without an objects file), and on files written to the published
format.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.fields import (
    as_key,
    as_list,
    as_object,
    as_text,
    image_path,
    image_size,
    read_box,
    record,
    required,
    text_field,
)
from deixis.data.sources.reading.streaming import list_elements
from deixis.data.wording import REGION_SLOT
from deixis.errors import AnnotationError
from deixis.geometry import Box, ImageSize
from deixis.geometry.checks import shown
from deixis.structures import Instance, QuestionAnswer, Relation, Sample

_IMAGE = "image_data"
FILES = (
    *(_IMAGE, "objects", "attributes", "relationships", "region_descriptions"),
    "question_answers",
)
_LISTS = {"region_descriptions": "regions", "question_answers": "qas"}


@dataclass(frozen=True, slots=True)
class VisualGenome:
    """A folder of Visual Genome's files and the parent folder of ``VG_100K``."""

    name: str
    images: Path
    folder: Path
    split: str = ""
    exhaustive: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """The existing ones of the six files."""
        return tuple(str(path) for path in self._paths().values())

    def _paths(self) -> dict[str, Path]:
        paths = {name: self.folder / f"{name}.json" for name in FILES}
        return {name: path for name, path in paths.items() if path.is_file()}

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part per file and image."""
        for kind, path in self._paths().items():
            for element in list_elements(path):
                place = f"{path.name}: [{element.number}]"
                try:
                    fields = as_object(element.value, kind)
                    name = "image_id" if "image_id" in fields else "id"
                    key = as_key(required(fields, name), name)
                    yield Part(key, kind, "", place, element.text)
                except BadRecord as error:
                    yield error.problem(place)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of an image from its records in all files."""
        by_kind: dict[str, list[Part]] = {name: [] for name in FILES}
        for part in parts:
            by_kind[part.kind].append(part)
        try:
            path, size = self._image(by_kind[_IMAGE])
        except BadRecord as error:
            return Reading(None, (error.problem(parts[0].place),))
        graph = _Graph(size)
        for kind in FILES[1:]:
            for number, part in enumerate(by_kind[kind]):
                graph.read(kind, part, again=number > 0)
        sample = Sample(
            id=f"{self.name}/{key}",
            image=path,
            size=size,
            instances=tuple(
                replace(instance, attributes=tuple(words))
                for instance, words in zip(graph.instances, graph.attributes, strict=True)
            ),
            relations=tuple(graph.relations),
            questions=tuple(graph.questions),
            source=self.name,
            split=self.split,
            exhaustive=self.exhaustive and bool(by_kind["objects"]) and not graph.problems,
        )
        return Reading(sample, tuple(graph.problems), tuple(sorted(graph.notes.items())))

    def _image(self, parts: Sequence[Part]) -> tuple[Path, ImageSize]:
        if len(parts) != 1:
            code = "duplicate_image" if parts else "unknown_image"
            raise BadRecord(code, f"{len(parts)} records in {_IMAGE}.json")
        fields = record(parts[0])
        size = image_size(required(fields, "width"), required(fields, "height"))
        name = "/".join(text_field(fields, "url").split("/")[-2:])
        return image_path(self.images, name), size


class _Graph:
    """Reads the records of one image; invalid pieces are left out and listed as problems."""

    def __init__(self, size: ImageSize) -> None:
        self.size = size
        self.instances: list[Instance] = []
        self.attributes: list[dict[str, None]] = []
        self.relations: dict[Relation, None] = {}
        self.questions: list[QuestionAnswer] = []
        self.problems: list[RecordProblem] = []
        self.notes: dict[str, int] = {}
        self._at: dict[str, int] = {}
        self._lost: set[str] = set()
        self._own: set[str] = set()

    def read(self, kind: str, part: Part, *, again: bool) -> None:
        """Read the record of one file; each invalid item is a separate problem."""
        name = _LISTS.get(kind, kind)
        readers = {
            "objects": self._object,
            "attributes": self._attributes,
            "relationships": self._relation,
            "regions": self._region,
            "qas": self._question,
        }
        if again:
            detail = f"{kind}: a second record of the image"
            self.problems.append(RecordProblem("duplicate_annotation", detail, part.place))
            return
        try:
            values = as_list(required(record(part), name), name)
        except BadRecord as error:
            self.problems.append(error.problem(part.place))
            return
        for number, value in enumerate(values):
            try:
                readers[name](as_object(value, name))
            except BadRecord as error:
                place = f"{part.place}.{name}[{number}]"
                self.problems.append(error.problem(place))

    def _object(self, fields: Mapping[str, Any]) -> None:
        number = _number(fields)
        if number in self._own:
            raise BadRecord("duplicate_annotation", f"object {number}")
        self._own.add(number)
        index = self._index(fields)
        self._describe(index, fields)

    def _attributes(self, fields: Mapping[str, Any]) -> None:
        self._describe(self._index(fields), fields)

    def _describe(self, index: int, fields: Mapping[str, Any]) -> None:
        words = fields.get("attributes")
        for word in as_list([] if words is None else words, "attributes"):
            text = " ".join(as_text(word, "attribute", empty=True).split())
            if text:
                self.attributes[index][text] = None
            else:
                self._note("blank_attribute")

    def _relation(self, fields: Mapping[str, Any]) -> None:
        predicate = " ".join(text_field(fields, "predicate").lower().split())
        things = [as_object(required(fields, name), name) for name in ("subject", "object")]
        subject, target = (self._index(thing) for thing in things)
        relation = Relation(subject, predicate, target)
        if subject == target and _number(things[0]) == _number(things[1]):
            raise BadRecord("bad_record", f"relation {shown(predicate)} of an object with itself")
        if subject == target:
            self._note("relation_merged")
        elif relation in self.relations:
            self._note("relation_twice")
        else:
            self.relations[relation] = None

    def _note(self, name: str) -> None:
        self.notes[name] = self.notes.get(name, 0) + 1

    def _region(self, fields: Mapping[str, Any]) -> None:
        phrase = " ".join(text_field(fields, "phrase").split())
        region = self._box(fields, ("x", "y", "width", "height"))
        self.questions.append(
            QuestionAnswer(f"What is {REGION_SLOT}?", phrase, region=region, kind="description")
        )

    def _question(self, fields: Mapping[str, Any]) -> None:
        question, answer = text_field(fields, "question"), text_field(fields, "answer")
        self.questions.append(QuestionAnswer(question, answer))

    def _index(self, fields: Mapping[str, Any]) -> int:
        """Return the index of an object's instance, which is added if its id is new."""
        number = _number(fields)
        merged = fields.get("merged_object_ids")
        others = [as_key(one, "merged_object_ids") for one in as_list(merged or [], "merged")]
        if number in self._lost:
            raise BadRecord("unknown_annotation", f"object {number} is invalid")
        known = [self._at[one] for one in (number, *others) if one in self._at]
        if known:
            index = known[0]
        else:
            try:
                instance = Instance(_name(fields), self._box(fields, ("x", "y", "w", "h")))
            except BadRecord:
                self._lost |= {number, *others}
                raise
            index = len(self.instances)
            self.instances.append(instance)
            self.attributes.append({})
        for one in (number, *others):
            self._at.setdefault(one, index)
        return index

    def _box(self, fields: Mapping[str, Any], names: tuple[str, ...]) -> Box:
        return read_box([required(fields, name) for name in names], self.size, self.notes)


def _number(fields: Mapping[str, Any]) -> str:
    name = "object_id" if "object_id" in fields else "id"
    return as_key(required(fields, name), name)


def _name(fields: Mapping[str, Any]) -> str:
    names = [fields["name"]] if "name" in fields else required(fields, "names")
    for name in as_list(names, "names"):
        return " ".join(as_text(name, "name").split())
    raise BadRecord("bad_record", "names: expected at least one")


def open_visual_genome(
    path: Path,
    *,
    name: str = "visual_genome",
    split: str = "",
    images: Path | None = None,
    exhaustive: bool = False,
) -> VisualGenome:
    """Open a folder.

    Args:
        path: The folder of ``image_data.json`` and the other files.
        name: Prefix of the sample names.
        split: The name of the split; Visual Genome does not define splits.
        images: The folder that holds ``VG_100K`` and ``VG_100K_2``, if it is not the same.
        exhaustive: Treat the objects of an image as complete (Pink, section 3.2). This allows
            questions about counts, quadrants and all instances of a class, some with wrong answers.

    Raises:
        AnnotationError: ``image_data.json`` or all of the other files are missing.
    """
    found = [one for one in FILES if (path / f"{one}.json").is_file()]
    if found[:1] != [_IMAGE] or len(found) < 2:
        raise AnnotationError(
            f"{path}: expected image_data.json and some of {list(FILES[1:])}, found {found}"
        )
    return VisualGenome(
        name=name, images=images or path, folder=path, split=split, exhaustive=exhaustive
    )

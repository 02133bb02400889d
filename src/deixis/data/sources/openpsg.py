"""OpenPSG: relations between panoptic segments.

``psg.json`` is one object. Fields used: of each record of ``data`` ``file_name``, ``height``, ``width``,
``pan_seg_file_name``, ``segments_info`` (``id``, ``category_id``, ``iscrowd``) and ``relations``, each a
subject, an object and a predicate; ``thing_classes`` and then ``stuff_classes`` name categories from 0,
``predicate_classes`` predicates from 0; ``test_image_ids`` are the test split.

Boxes are those around the pixels of segments; ``annotations``, which repeat them, are not used. Stuff
has the attribute ``stuff``, and names as in `deixis.data.sources.panoptic`. A relation between invalid
segments is a separate problem; a duplicate relation is left out and counted in the notes as
``relation_again``. Both file names are relative to one folder. Tested on files written by hand to the
published format, with original pictures of segments.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.panoptic import (
    PanopticCategory,
    panoptic_masks,
    plain_stuff_names,
    segment_instance,
)
from deixis.data.sources.reading.coco_records import image_in
from deixis.data.sources.reading.fields import (
    as_integer,
    as_key,
    as_list,
    as_object,
    as_text,
    record,
    required,
)
from deixis.data.sources.reading.questions import Fields, number_field, the_file
from deixis.data.sources.reading.records import Record, parts_of, records
from deixis.data.sources.reading.spans import known_index
from deixis.data.sources.reading.streaming import member_value
from deixis.errors import AnnotationError
from deixis.structures import Instance, Relation, Sample


@dataclass(frozen=True, slots=True)
class OpenPsg:
    """A file of OpenPSG; image and segment pictures are named from one folder."""

    name: str
    path: Path
    images: Path
    categories: tuple[PanopticCategory, ...]
    predicates: tuple[str, ...]
    test: frozenset[str]
    split: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The file."""
        return (str(self.path),)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part per image of the split."""
        return parts_of(records(self.path, "data"), self._part)

    def _part(self, one: Record) -> Part | None:
        key = as_key(required(as_object(one.value, "record"), "image_id"), "image_id")
        if self.split not in {"", "test" if key in self.test else "train"}:
            return None
        return Part(key, "image", "", one.place, one.text)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of an image with its segments and relations."""
        place = parts[0].place
        if len(parts) > 1:
            return Reading(
                None, (RecordProblem("duplicate_image", f"{len(parts)} records", place),)
            )
        problems: list[RecordProblem] = []
        notes: dict[str, int] = {}
        try:
            fields = record(parts[0])
            path, size = image_in(fields, self.images)
            masks = panoptic_masks(self.images, required(fields, "pan_seg_file_name"), size)
            listed = as_list(required(fields, "segments_info"), "segments_info")
            related = as_list(required(fields, "relations"), "relations")
        except BadRecord as error:
            return Reading(None, (error.problem(place),))
        instances: list[Instance] = []
        indices: dict[str, int] = {}
        for number, value in enumerate(listed):
            try:
                info = as_object(value, "segment")
                instance = segment_instance(info, masks, self._category(info))
            except BadRecord as error:
                where = f"{place}, segments_info[{number}]"
                problems.append(error.problem(where))
            else:
                indices[str(number)] = len(instances)
                instances.append(instance)
        relations: dict[Relation, None] = {}
        for number, value in enumerate(related):
            try:
                relation = self._relation(value, indices)
            except BadRecord as error:
                problems.append(error.problem(f"{place}, relations[{number}]"))
            else:
                if relation in relations:
                    notes["relation_again"] = notes.get("relation_again", 0) + 1
                relations[relation] = None
        sample = Sample(
            id=f"{self.name}/{key}",
            image=path,
            size=size,
            instances=tuple(instances),
            relations=tuple(relations),
            source=self.name,
            split="test" if key in self.test else "train",
            exhaustive=False,
        )
        return Reading(sample, tuple(problems), tuple(sorted(notes.items())))

    def _category(self, fields: Fields) -> PanopticCategory | None:
        number = number_field(fields, "category_id")
        return self.categories[number] if 0 <= number < len(self.categories) else None

    def _relation(self, value: object, indices: Mapping[str, int]) -> Relation:
        numbers = [as_integer(one, "relation") for one in as_list(value, "relation")]
        if len(numbers) != 3:
            raise BadRecord("bad_record", f"relation: expected 3 numbers, got {len(numbers)}")
        subject, other, predicate = numbers
        if not 0 <= predicate < len(self.predicates):
            raise BadRecord("unknown_category", f"predicate {predicate}")
        return Relation(
            known_index(indices, str(subject)),
            self.predicates[predicate],
            known_index(indices, str(other)),
        )


def open_openpsg(
    path: Path, *, name: str = "openpsg", images: Path | None = None, split: str = ""
) -> OpenPsg:
    """Open ``psg.json``, or its folder; without ``split``, train and test.

    Images and pictures of segments are named relative to the given folder, else from ``coco`` beside
    the file's folder, else from its own.

    Raises:
        AnnotationError: The file is missing, or its classes are invalid.
    """
    file = the_file(path, "psg.json", "psg/psg.json")
    if split not in {"", "train", "test"}:
        raise AnnotationError(f"{file}: has splits train and test, not {split!r}")
    beside = file.parent.parent / "coco"
    things, stuff = _names(file, "thing_classes"), _names(file, "stuff_classes")
    plain = plain_stuff_names([*things, *stuff])
    return OpenPsg(
        name,
        file,
        images or (beside if beside.is_dir() else file.parent),
        tuple(PanopticCategory(one, at < len(things)) for at, one in enumerate(plain)),
        _names(file, "predicate_classes"),
        frozenset(_names(file, "test_image_ids")),
        split,
    )


def _names(path: Path, member: str) -> tuple[str, ...]:
    try:
        values = as_list(member_value(path, member), member)
        return tuple(
            as_key(value, member) if member.endswith("ids") else as_text(value, member)
            for value in values
        )
    except BadRecord as error:
        raise AnnotationError(f"{path}: {error.detail}") from error

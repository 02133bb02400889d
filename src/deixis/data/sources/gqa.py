"""GQA's scene graphs: objects with boxes and attributes, and relations between them.

The file is an object by image ids. Of a scene, ``width``, ``height`` and ``objects`` are read; of an
object ``name``, ``attributes``, its box ``x``, ``y``, ``w``, ``h`` in pixels of the scene's size, and
``relations`` with ``name`` and the id of the other ``object``. A relation to a missing or invalid object
is a separate problem. No sample is exhaustive. Tested on files written by hand to the published format.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.reading.fields import (
    as_key,
    as_list,
    as_object,
    image_path,
    image_size,
    read_box,
    record,
    required,
    text_field,
)
from deixis.data.sources.reading.file_names import first_folder
from deixis.data.sources.reading.questions import texts, the_file
from deixis.data.sources.reading.records import Record, named_records, parts_of
from deixis.data.sources.reading.spans import known_index
from deixis.structures import Instance, Relation, Sample


@dataclass(frozen=True, slots=True)
class GqaScenes:
    """A file of scene graphs, and the folder of the images."""

    name: str
    path: Path
    images: Path
    split: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The file."""
        return (str(self.path),)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part per scene."""
        return parts_of(named_records(self.path), self._part)

    def _part(self, one: Record) -> Part:
        return Part(as_key(one.name, "image id"), "scene", "", one.place, one.text)

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of a scene."""
        place = parts[0].place
        if len(parts) > 1:
            return Reading(None, (RecordProblem("duplicate_image", f"{len(parts)} scenes", place),))
        problems: list[RecordProblem] = []
        notes: dict[str, int] = {}
        try:
            fields = record(parts[0])
            path = image_path(self.images, f"{key}.jpg")
            size = image_size(required(fields, "width"), required(fields, "height"))
            objects = as_object(required(fields, "objects"), "objects")
        except BadRecord as error:
            return Reading(None, (error.problem(place),))
        instances: list[Instance] = []
        indices: dict[str, int] = {}
        for name, value in objects.items():
            try:
                thing = as_object(value, "object")
                corner = [required(thing, side) for side in ("x", "y", "w", "h")]
                instance = Instance(
                    category=text_field(thing, "name"),
                    box=read_box(corner, size, notes),
                    attributes=tuple(texts(thing, "attributes")) if "attributes" in thing else (),
                )
            except BadRecord as error:
                problems.append(error.problem(f"{place}, object {name[:40]}"))
            else:
                indices[name] = len(instances)
                instances.append(instance)
        sample = Sample(
            id=f"{self.name}/{key}",
            image=path,
            size=size,
            instances=tuple(instances),
            relations=tuple(_relations(objects, indices, problems, place)),
            source=self.name,
            split=self.split,
            exhaustive=False,
        )
        return Reading(sample, tuple(problems), tuple(sorted(notes.items())))


def _relations(
    objects: Mapping[str, Any],
    indices: Mapping[str, int],
    problems: list[RecordProblem],
    place: str,
) -> Iterator[Relation]:
    for name, index in indices.items():
        where = f"{place}, object {name[:40]}"
        try:
            relations = as_list(objects[name].get("relations", []), "relations")
        except BadRecord as error:
            problems.append(error.problem(where))
            continue
        for value in relations:
            try:
                fields = as_object(value, "relation")
                other = known_index(indices, as_key(required(fields, "object"), "object"))
                yield Relation(index, text_field(fields, "name"), other)
            except BadRecord as error:
                problems.append(error.problem(where))


def open_gqa_scenes(
    path: Path, *, name: str = "gqa_scenes", images: Path | None = None, split: str = "train"
) -> GqaScenes:
    """Open ``SPLIT_sceneGraphs.json``, or its folder.

    Images (``ID.jpg``) are in the given folder ``images``, else in ``images`` beside the file, else
    beside the file.

    Raises:
        AnnotationError: The file is missing.
    """
    file = the_file(path, f"{split}_sceneGraphs.json", f"sceneGraphs/{split}_sceneGraphs.json")
    images = images or first_folder(file.parent / "images", file.parent)
    return GqaScenes(name, file, images, split)

"""LVIS: COCO's format with over a thousand classes, some of which were checked in each image.

Differences from COCO's instances (`deixis.data.sources.coco`): the image's name is its ``file_name``
or, in version 1, the end of its ``coco_url`` (``train2017/000000391895.jpg``). ``neg_category_ids`` are
absent classes and become ``absent_categories``. A class with instances in an image is complete unless
it is in ``not_exhaustive_category_ids``; all other classes may be present, so no image is exhaustive.

Names lose underscores and text in brackets: ``bow_(weapon)`` is ``bow``. Classes with equal names
count as one class: it is absent only if all of them are absent, and complete only if each of them is
complete or absent.

Tested on files written by hand to the published format.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.data.sources.coco import Category, Coco
from deixis.data.sources.reading.coco_records import read_categories
from deixis.data.sources.reading.fields import as_integer, as_list, as_text, record, required
from deixis.data.sources.reading.file_names import first_folder, say_which
from deixis.errors import AnnotationError
from deixis.structures import Sample

_IMAGE = "image"
# text in brackets is short; the bound limits the time for a name of many brackets
_BRACKETS = re.compile(r"(?:(?<!\s)\s++)?\([^)]{0,200}\)")


@dataclass(frozen=True, slots=True)
class Lvis:
    """An LVIS file and the folder that holds ``train2017`` and ``val2017``."""

    name: str
    images: Path
    instances: Path
    categories: Mapping[int, Category] = field(default_factory=dict)
    split: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The file."""
        return (str(self.instances),)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield images and annotations."""
        return self._coco().parts()

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of an image with its annotations and absent classes."""
        images = [part for part in parts if part.kind == _IMAGE]
        rest = [part for part in parts if part.kind != _IMAGE]
        try:
            named = [part._replace(payload=json.dumps(_named(record(part)))) for part in images]
            absent, partial = self._checked(record(images[0])) if images else (set(), set())
        except BadRecord as error:
            return Reading(None, (error.problem(parts[0].place),))
        reading = self._coco().sample(key, [*rest, *named])
        if reading.sample is None:
            return reading
        return replace(reading, sample=self._with_checked(reading.sample, absent, partial))

    def _coco(self) -> Coco:
        return Coco(
            name=self.name,
            images=self.images,
            instances=self.instances,
            categories=self.categories,
            split=self.split,
        )

    def _checked(self, fields: Mapping[str, Any]) -> tuple[set[int], set[int]]:
        """Return the absent classes and the incomplete classes."""
        found: list[set[int]] = []
        for name in ("neg_category_ids", "not_exhaustive_category_ids"):
            values = as_list(fields.get(name, []), name)
            numbers = {as_integer(value, name) for value in values}
            unknown = sorted(numbers - self.categories.keys())
            if unknown:
                raise BadRecord("unknown_category", f"{name}: category {unknown[0]}")
            found.append(numbers)
        return found[0], found[1]

    def _with_checked(self, sample: Sample, absent: set[int], partial: set[int]) -> Sample:
        present = {instance.category for instance in sample.instances} | sample.left_out.categories
        # for each name, the number of classes that are not absent
        unsettled = Counter(
            one.name for number, one in self.categories.items() if number not in absent
        )
        names = {self.categories[number].name for number in absent} - unsettled.keys() - present
        doubtful = {self.categories[number].name for number in partial}
        doubtful |= {name for name, count in unsettled.items() if count > 1}
        left_out = replace(
            sample.left_out,
            categories=sample.left_out.categories | doubtful & present,
            others=True,
        )
        return replace(
            sample,
            absent_categories=tuple(sorted(names - left_out.broader)),
            left_out=left_out,
        )


def plain_name(name: str) -> str:
    """Return the plain name of a class.

    >>> plain_name("bow_(decorative_ribbons)")
    'bow'
    """
    return _BRACKETS.sub("", name.replace("_", " ")).strip() or name


def _named(fields: Mapping[str, Any]) -> dict[str, Any]:
    if fields.get("file_name") is not None:
        return dict(fields)
    pieces = as_text(required(fields, "coco_url"), "coco_url").split("/")
    return {**fields, "file_name": "/".join(pieces[-2:])}


def open_lvis(
    path: Path, *, name: str = "lvis", split: str = "", images: Path | None = None
) -> Lvis:
    """Open an LVIS file or a folder with one.

    Args:
        path: A folder with ``lvis_v1_SPLIT.json``, perhaps in ``annotations``; or such a file.
        name: Prefix of the sample names.
        split: The split; required if there are several.
        images: The folder that holds COCO's ``train2017`` and ``val2017``, if it is not
            ``images`` or the folder itself.

    Raises:
        AnnotationError: The files are missing, or ``split`` is needed to choose among several.
    """
    if path.is_file():
        file = path
    else:
        folder = path / "annotations" if (path / "annotations").is_dir() else path
        found = sorted(folder.glob(f"lvis_v*_{split or '*'}.json"))
        if len(found) != 1:
            names = [one.name for one in found]
            splits = [one.stem.split("_", 2)[-1] for one in found]
            hint = say_which("lvis", splits) if splits else ""
            raise AnnotationError(
                f"{folder}: expected one file such as lvis_v1_val.json, found {names}{hint}"
            )
        (file,) = found
    root = file.parent.parent if file.parent.name == "annotations" else file.parent
    return Lvis(
        name=name,
        images=images or first_folder(root / "images", root),
        instances=file,
        categories={
            number: Category(plain_name(one)) for number, one in read_categories(file).items()
        },
        split=split or file.stem.rpartition("_")[2],
    )

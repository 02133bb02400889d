"""COCO-Stuff: the regions of stuff in COCO's images, in the format of its instances files.

Differences from COCO's instances (`deixis.data.sources.coco`): every annotation has the attribute
``stuff`` and is never a crowd. Names lose COCO's own endings, as in panoptic files. Annotations of the
class ``other`` (pixels of no stuff class) are left out and counted in the notes as ``stuff_other``.

Tested on files written by hand to the published format.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from deixis.data.sources.base import Part, Reading, RecordProblem
from deixis.data.sources.coco import Category, Coco, open_coco
from deixis.data.sources.panoptic import plain_group, plain_stuff_names
from deixis.data.sources.reading.inventory import NO_TAXONOMY, Taxonomy
from deixis.errors import AnnotationError

OTHER = "other"


@dataclass(frozen=True, slots=True)
class CocoStuff:
    """A stuff file and the folder of its images."""

    name: str
    images: Path
    stuff: Path
    categories: Mapping[int, Category] = field(default_factory=dict)
    split: str = ""
    taxonomy: Taxonomy = NO_TAXONOMY

    @property
    def files(self) -> tuple[str, ...]:
        """The file."""
        return (str(self.stuff),)

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield images and annotations."""
        return self._coco().parts()

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of an image with its stuff."""
        reading = self._coco().sample(key, parts)
        if reading.sample is None:
            return reading
        found = reading.sample.instances
        kept = tuple(
            replace(one, attributes=("stuff",), crowd=False)
            for one in found
            if one.category != OTHER
        )
        left_out = len(found) - len(kept)
        notes = (("stuff_other", left_out),) if left_out else ()
        # stuff is not counted
        before = reading.sample.left_out
        # "other" is not a class, so no class is incomplete
        lost = replace(before, categories=before.categories - {OTHER})
        sample = replace(reading.sample, instances=kept, absent_categories=(), left_out=lost)
        return Reading(sample, reading.problems, (*reading.notes, *notes))

    def _coco(self) -> Coco:
        return Coco(
            name=self.name,
            images=self.images,
            instances=self.stuff,
            categories=self.categories,
            split=self.split,
            taxonomy=self.taxonomy,
        )


def open_coco_stuff(
    path: Path, *, name: str = "coco_stuff", split: str = "", images: Path | None = None
) -> CocoStuff:
    """Open ``stuff_SPLIT.json``, its folder, or the parent of its folder ``annotations``.

    Raises:
        AnnotationError: The files are missing, or ``split`` is needed to choose among several.
    """
    file = path if path.is_file() else _file(path, split)
    found = open_coco(file, name=name, split=split or file.stem.removeprefix("stuff_"))
    if images is None and not path.is_file():
        places = [path / "images" / found.split, path / found.split, path / "images", path]
        images = next(place for place in places if place.is_dir())
    names = plain_stuff_names([one.name for one in found.categories.values()])
    categories = {
        number: replace(one, name=plain)
        for (number, one), plain in zip(found.categories.items(), names, strict=True)
    }
    # a group that only its endings told from a class (wall, wall-other) is that class now
    taxonomy = Taxonomy.of((one.name, plain_group(one.group)) for one in categories.values())
    return CocoStuff(name, images or found.images, file, categories, found.split, taxonomy)


def _file(path: Path, split: str) -> Path:
    folder = path / "annotations" if (path / "annotations").is_dir() else path
    files = sorted(folder.glob(f"stuff_{split or '*'}.json"))
    if not files:
        raise AnnotationError(f"{folder}: expected stuff_{split or 'SPLIT'}.json")
    if len(files) > 1:
        splits = [one.stem.removeprefix("stuff_") for one in files]
        raise AnnotationError(
            f"{folder}: has splits {splits}; say which, as in coco_stuff:PATH,split={splits[0]}"
        )
    return files[0]

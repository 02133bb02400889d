"""COCO-Stuff: the stretches of stuff in COCO's images, in the form of its instances files.

Read as COCO's instances are (`deixis.data.sources.coco`), with these differences. Every annotation has
the attribute ``stuff``, and is no crowd whatever the file says. Names are freed of what only
COCO means by them, as those of its panoptic files are. The class ``other`` is what no class of stuff
covers, things mostly: its annotations are left out, which notes count as ``stuff_other``.

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
        """Return the sample of an image and the stuff in it."""
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
        # nobody asks how many walls there are
        before = reading.sample.left_out
        # "other" is no class, so nothing of one is missing
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
    """Take ``stuff_SPLIT.json``, or the folder that holds it or its ``annotations``.

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

"""DOTA: ``SPLIT/labelTxt/NAME.txt`` of turned boxes beside ``SPLIT/images``, and ``classes.txt``.

A row is four corners in pixels, the class and whether it is difficult. Class names have no blanks
there: they become hyphens, as in DOTA's own (``large-vehicle``).
"""

from pathlib import Path

from deixis.data.export.files import write_text
from deixis.data.export.items import Item, Losses, split_name
from deixis.data.export.outlines import corners_of
from deixis.structures import Instance, Sample

_HEADER = "imagesource:null\ngsd:null\n"


class DotaWriter:
    """A text file for each picture; one without instances has its header alone."""

    # what becomes of masks is counted by `corners_of`
    carries = frozenset({"turned boxes", "crowd flags", "attributes", "masks"})
    needs_look = False

    def __init__(self, folder: Path, losses: Losses) -> None:
        self.folder = folder
        self.losses = losses
        self.classes: set[str] = set()

    def look(self, sample: Sample) -> None:
        """Nothing is to be known before."""

    def add(self, item: Item) -> None:
        """Write the rows of a picture."""
        sample = item.sample
        rows = [self._row(one) for one in sample.instances if not one.crowd]
        self.losses.add("crowds", sum(one.crowd for one in sample.instances))
        path = self.folder / split_name(sample) / "labelTxt" / item.file_name
        write_text(path.with_suffix(".txt"), _HEADER + "".join(rows))

    def finish(self) -> None:
        """Write the names of the classes, one a line."""
        write_text(self.folder / "classes.txt", "".join(f"{one}\n" for one in sorted(self.classes)))

    def close(self) -> None:
        """Nothing is open."""

    def _row(self, instance: Instance) -> str:
        name = "-".join(instance.category.split())
        self.losses.add("hyphens of class names", int("-" in instance.category))
        self.classes.add(name)
        words = [f"{value:.12g}" for value in corners_of(instance, self.losses)]
        difficult = "difficult" in instance.attributes
        others = [one for one in instance.attributes if one != "difficult"]
        self.losses.add("attributes", len(others))
        return " ".join([*words, name, str(int(difficult))]) + "\n"

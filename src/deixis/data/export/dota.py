"""Writes DOTA: oriented boxes in ``SPLIT/labelTxt/NAME.txt`` and class names in ``classes.txt``.

Pictures are in ``SPLIT/images``. A row has four corners in pixels, the class and the difficult flag.
Blanks in class names become hyphens, as in DOTA's names (``large-vehicle``).
"""

from pathlib import Path

from deixis.data.export.files import write_text
from deixis.data.export.items import Item, Losses, split_name
from deixis.data.export.outlines import corners_of
from deixis.structures import Instance, Sample

_HEADER = "imagesource:null\ngsd:null\n"


class DotaWriter:
    """Writes a text file for each picture; without instances it has only the header."""

    # `corners_of` counts masks as losses
    carries = frozenset({"turned boxes", "crowd flags", "attributes", "masks"})
    needs_look = False

    def __init__(self, folder: Path, losses: Losses) -> None:
        self.folder = folder
        self.losses = losses
        self.classes: set[str] = set()

    def look(self, sample: Sample) -> None:
        """Do nothing."""

    def add(self, item: Item) -> None:
        """Write the rows of a picture."""
        sample = item.sample
        rows = [self._row(one) for one in sample.instances if not one.crowd]
        self.losses.add("crowds", sum(one.crowd for one in sample.instances))
        path = self.folder / split_name(sample) / "labelTxt" / item.file_name
        write_text(path.with_suffix(".txt"), _HEADER + "".join(rows))

    def finish(self) -> None:
        """Write the class names, one per line."""
        write_text(self.folder / "classes.txt", "".join(f"{one}\n" for one in sorted(self.classes)))

    def close(self) -> None:
        """Do nothing, as no file stays open."""

    def _row(self, instance: Instance) -> str:
        name = "-".join(instance.category.split())
        self.losses.add("hyphens of class names", int("-" in instance.category))
        self.classes.add(name)
        words = [f"{value:.12g}" for value in corners_of(instance, self.losses)]
        difficult = "difficult" in instance.attributes
        others = [one for one in instance.attributes if one != "difficult"]
        self.losses.add("attributes", len(others))
        return " ".join([*words, name, str(int(difficult))]) + "\n"

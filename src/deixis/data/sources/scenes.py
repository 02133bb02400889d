"""Drawn scenes as a source, with exact annotations and without files."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from deixis.data.scenes import draw_scene, scene_sample
from deixis.data.scenes.vocabulary import LEVELS, SPLITS
from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.structures import ImageArray


@dataclass(frozen=True, slots=True)
class DrawnImage:
    """A picture that is drawn on demand; ``str()`` is its permanent name."""

    seed: int
    index: int
    level: str
    split: str

    def __call__(self) -> ImageArray:
        """Draw it."""
        return draw_scene(self.seed, self.index, level=self.level, split=self.split).image

    def __str__(self) -> str:
        return f"scenes://{self.level}/{self.split}/{self.seed}/{self.index}"


DRAWN = "scenes://"
"""The prefix of the names of drawn pictures."""

_NAME = re.compile(rf"{DRAWN}({'|'.join(LEVELS)})/({'|'.join(SPLITS)})/(\d{{1,19}})/(\d{{1,19}})")


def drawn_image(name: str) -> DrawnImage:
    """Return the drawn picture of a name.

    Raises:
        BadRecord: The name is not the name of a drawn picture.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise BadRecord("bad_record", f"image {name!r}: expected {DRAWN}LEVEL/SPLIT/SEED/INDEX")
    return DrawnImage(int(found[3]), int(found[4]), found[1], found[2])


@dataclass(frozen=True, slots=True)
class Scenes:
    """The first ``count`` scenes of a seed, level and split."""

    name: str = "scenes"
    count: int = 1000
    level: str = "standard"
    split: str = "train"
    seed: int = 0

    @property
    def files(self) -> tuple[str, ...]:
        """No files."""
        return ()

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part per scene: its number."""
        for index in range(self.count):
            yield Part(f"{index:09d}", "scene", "", f"scene {index}", str(index))

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of a scene with all of its annotations."""
        index = int(parts[0].payload)
        drawn = scene_sample(draw_scene(self.seed, index, level=self.level, split=self.split))
        image = DrawnImage(self.seed, index, self.level, self.split)
        sample = replace(drawn, id=f"{self.name}/{key}", image=image, source=self.name)
        return Reading(sample)

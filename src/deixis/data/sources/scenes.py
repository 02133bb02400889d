"""Drawn scenes as a source: nothing is read, everything is exact."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from deixis.data.scenes import draw_scene, scene_sample
from deixis.data.sources.base import Fault, Part, Reading
from deixis.structures import ImageArray


@dataclass(frozen=True, slots=True)
class DrawnImage:
    """A picture that is drawn when it is needed; ``str()`` names it for ever."""

    seed: int
    index: int
    level: str
    split: str

    def __call__(self) -> ImageArray:
        """Draw it."""
        return draw_scene(self.seed, self.index, level=self.level, split=self.split).image

    def __str__(self) -> str:
        return f"scenes://{self.level}/{self.split}/{self.seed}/{self.index}"


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

    def parts(self) -> Iterator[Part | Fault]:
        """Yield one part a scene: its number."""
        for index in range(self.count):
            yield Part(f"{index:09d}", "scene", "", f"scene {index}", str(index))

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Draw a scene and say everything that is true of it."""
        index = int(parts[0].payload)
        drawn = scene_sample(draw_scene(self.seed, index, level=self.level, split=self.split))
        image = DrawnImage(self.seed, index, self.level, self.split)
        sample = replace(drawn, id=f"{self.name}/{key}", image=image, source=self.name)
        return Reading(sample)

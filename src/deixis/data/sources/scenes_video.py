"""Drawn clips as a source, with exact annotations and without files."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deixis.data.scenes import clip_sample, draw_clip
from deixis.data.scenes.clips import MIN_FRAMES
from deixis.data.scenes.vocabulary import LEVELS, SPLITS
from deixis.data.sources.base import BadRecord, Part, Reading, RecordProblem
from deixis.errors import RecipeError
from deixis.structures import FrameArray, Video

DRAWN_VIDEO = "scenes-video://"
"""The prefix of the names of drawn clips."""
MAX_FRAMES = 256
_NAME = re.compile(
    rf"{DRAWN_VIDEO}({'|'.join(LEVELS)})/({'|'.join(SPLITS)})/(\d{{1,19}})/(\d{{1,19}})/(\d{{1,3}})"
)


@dataclass(frozen=True, slots=True)
class DrawnVideo:
    """A clip that is drawn on demand; ``str()`` is its permanent name."""

    seed: int
    index: int
    level: str
    split: str
    frames: int

    def __call__(self) -> FrameArray:
        """Draw every frame."""
        clip = draw_clip(
            self.seed, self.index, level=self.level, split=self.split, frames=self.frames
        )
        return np.stack([scene.image for scene in clip.frames])

    def __str__(self) -> str:
        place = f"{self.level}/{self.split}/{self.seed}/{self.index}"
        return f"{DRAWN_VIDEO}{place}/{self.frames}"


def drawn_video(name: str) -> DrawnVideo:
    """Return the drawn clip of a name.

    Raises:
        BadRecord: The name is not the name of a drawn clip.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise BadRecord(
            "bad_record", f"video {name!r}: expected {DRAWN_VIDEO}LEVEL/SPLIT/SEED/INDEX/FRAMES"
        )
    return DrawnVideo(int(found[3]), int(found[4]), found[1], found[2], int(found[5]))


@dataclass(frozen=True, slots=True)
class ScenesVideo:
    """The first ``count`` clips of a seed, level and split."""

    name: str = "scenes_video"
    count: int = 1000
    level: str = "standard"
    split: str = "train"
    seed: int = 0
    frames: int = 8

    @property
    def files(self) -> tuple[str, ...]:
        """No files."""
        return ()

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part per clip: its number."""
        for index in range(self.count):
            yield Part(f"{index:09d}", "clip", "", f"clip {index}", str(index))

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of a clip with its questions."""
        index = int(parts[0].payload)
        video = DrawnVideo(self.seed, index, self.level, self.split, self.frames)
        clip = draw_clip(self.seed, index, level=self.level, split=self.split, frames=self.frames)
        drawn = clip_sample(clip)
        image = Video(video, num_frames=self.frames)
        return Reading(replace(drawn, id=f"{self.name}/{key}", image=image, source=self.name))


def open_scenes_video(
    path: Path,
    *,
    name: str = "scenes_video",
    count: int = 1000,
    level: str = "standard",
    seed: int = 0,
    frames: int = 8,
) -> ScenesVideo:
    """Open drawn clips; the path is the name of their split.

    Raises:
        RecipeError: The split, the level or the number of frames is invalid.
    """
    split = str(path)
    if split not in SPLITS or level not in LEVELS:
        raise RecipeError(
            f"scenes_video:{split}: level {level!r}: expected a split of {list(SPLITS)} and a "
            f"level of {list(LEVELS)}"
        )
    if not MIN_FRAMES <= frames <= MAX_FRAMES:
        raise RecipeError(
            f"scenes_video:{split}: frames {frames}: expected {MIN_FRAMES} to {MAX_FRAMES}"
        )
    return ScenesVideo(name, count, level, split, seed, frames)

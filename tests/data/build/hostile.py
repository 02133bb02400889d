"""A source with images that hang or crash the process that reads them."""

import ctypes
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deixis.data.sources.base import Part, Reading, RecordProblem
from deixis.geometry import Box, ImageSize
from deixis.structures import Instance, Sample

SIZE = ImageSize(40, 40)
ROOT = Path("/nowhere")


@dataclass(frozen=True)
class Hostile:
    """Images by number; ``harm`` names the effect of reading an image."""

    harm: dict[int, str]
    count: int = 60
    name: str = "hostile"
    files: tuple[str, ...] = ()
    images: Any = None

    def parts(self) -> Iterator[Part | RecordProblem]:
        """Yield one part an image."""
        for number in range(self.count):
            yield Part(f"{number:03d}", "image", "", f"image {number}", str(number))

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:  # noqa: ARG002
        """Make a sample, or hang or crash."""
        match self.harm.get(int(key)):
            case "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "wait":
                time.sleep(1000)
            case "spin":
                # in C, with the interpreter locked out: no Python signal handler runs
                ctypes.PyDLL(None).sleep(1000)
            case _:
                pass
        thing = Instance("cup", Box(4, 4, 20, 20))
        sample = Sample(key, ROOT / f"{key}.png", SIZE, (thing,), source=self.name)
        return Reading(sample)

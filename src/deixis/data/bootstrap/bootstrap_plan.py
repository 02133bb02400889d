"""The plan of a bootstrapping run: everything that the bytes of the output depend on."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from deixis.data.build.build_plan import BuildPlan
from deixis.data.mixture import Mixture
from deixis.data.sources.registry import OpenedSource, refuse_videos
from deixis.data.wording import REGION_SLOT
from deixis.errors import RecipeError
from deixis.storage import json_digest

VERSION = 1
"""Version of the output format."""

_SLOT = re.compile(r"\{(\w*)\}")
_NAME = re.compile(r"[\w.-]{1,100}")


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of a model, word for word.

    ``describe`` has ``<region>`` once, in place of the box. ``locate`` has ``{x}`` once, in place of
    the description, and may have ``{is}``, which becomes ``is`` or ``are``.
    """

    describe: str = f"What is {REGION_SLOT}?"
    locate: str = "Where {is} {x}?"
    caption: str = "Describe the picture briefly."
    ground: str = "Give a grounded caption of this picture."

    def __post_init__(self) -> None:
        if self.describe.count(REGION_SLOT) != 1:
            raise RecipeError(
                f"prompt {self.describe!r}: expected {REGION_SLOT} once, where the box stands"
            )
        slots = _SLOT.findall(self.locate)
        if slots.count("x") != 1 or set(slots) - {"x", "is"}:
            raise RecipeError(
                f"prompt {self.locate!r}: expected {{x}} once, where the description stands, "
                "and no slot but {is} besides"
            )
        for prompt in (self.caption, self.ground):
            if not prompt.strip():
                raise RecipeError("a prompt is empty: expected a question about a picture")


@dataclass(frozen=True, slots=True)
class BootstrapPlan:
    """A bootstrapping run. Two plans with equal `digest` give the same bytes.

    Args:
        sources: Sources of images and boxes.
        model: Record of the model: its name and anything that identifies its weights.
        prompts: Prompts of the model.
        iou: Least IoU of the predicted and the true box, inclusive.
        max_objects: Largest number of instances of an image; None for any number.
        min_area: Only boxes with a larger area in pixels are described; None for all.
        captions: Also caption images, plainly and with phrases grounded on true boxes.
        batch_size: Number of questions asked at once.
        limit: Largest number of images, in the order of sources and keys.
        block_images: Number of images that a process takes at a time.
    """

    sources: tuple[OpenedSource, ...]
    model: Mapping[str, str]
    prompts: Prompts = field(default_factory=Prompts)
    iou: float = 0.5
    max_objects: int | None = 15
    min_area: float | None = 2000.0
    captions: bool = False
    batch_size: int = 32
    limit: int | None = None
    block_images: int = 32

    def __post_init__(self) -> None:
        if not 0 <= self.iou <= 1:
            raise RecipeError(f"iou {self.iou}: expected 0 to 1")
        if self.max_objects is not None and self.max_objects < 1:
            raise RecipeError(f"max_objects {self.max_objects}: expected at least 1, or None")
        if self.min_area is not None and not 0 <= self.min_area < math.inf:
            raise RecipeError(f"min_area {self.min_area}: expected at least 0, or None")
        if self.batch_size < 1 or (self.limit is not None and self.limit < 1):
            raise RecipeError("expected a batch size and a limit of at least 1")
        if "name" not in self.model:
            raise RecipeError("the record of the model lacks its name")
        refuse_videos(self.sources, "describing instances")
        for one in self.sources:
            if not _NAME.fullmatch(one.source.name):
                raise RecipeError(
                    f"source {one.source.name!r}: expected a name of letters, digits, '_', '-', '.'"
                )

    @property
    def indexed(self) -> BuildPlan:
        """The plan of the index of the same sources; its task is not used."""
        mixture = Mixture((("reg", 1.0),))
        return BuildPlan(self.sources, mixture, shard_images=self.block_images)

    def to_dict(self) -> dict[str, Any]:
        """Return everything that the bytes depend on; annotation files by size and time of change."""
        return {
            "version": VERSION,
            "sources": self.indexed.to_dict()["sources"],
            "model": dict(sorted(self.model.items())),
            "prompts": asdict(self.prompts),
            "iou": self.iou,
            "max_objects": self.max_objects,
            "min_area": self.min_area,
            "captions": self.captions,
            "batch_size": self.batch_size,
            "limit": self.limit,
            "block_images": self.block_images,
        }

    @property
    def digest(self) -> str:
        """SHA-256 of `to_dict`."""
        return json_digest(self.to_dict())

"""The plan of a build: everything that determines the bytes of a data set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deixis.data.mixture import Mixture
from deixis.data.sources.registry import OpenedSource
from deixis.data.tasks import DEFAULT_RULES, Rules, changed_rules
from deixis.errors import RecipeError
from deixis.storage import json_digest

_AS_SAID = ("auto", "declared")
VERSION = 1
"""Version of the shard format; readers refuse other versions."""


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """The plan of a build. Two plans with the same `digest` give the same bytes.

    Args:
        sources: The sources of the samples.
        mixture: The tasks and their rates.
        seed: Seed of all choices, together with the sample's id and the task's name.
        turns: Turns per conversation; several turns are about one image and independent.
        embed: Store the bytes of images in the shards instead of their names.
        check_images: Read the header of every image and check that the image exists, and its size
            and orientation.
        shard_images: Images per shard.
        rules: Rules of the tasks; `deixis.data.build.with_wordings` adds a user's wordings.
        extra: Further values that the bytes depend on, written into the plan.
    """

    sources: tuple[OpenedSource, ...]
    mixture: Mixture
    seed: int = 0
    turns: int = 1
    embed: bool = False
    check_images: bool = True
    shard_images: int = 2000
    rules: Rules = DEFAULT_RULES
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [plan.source.name for plan in self.sources]
        if not names or len(set(names)) < len(names):
            raise RecipeError(f"sources {names}: expected at least one, and each name once")
        framed = [one.spec for one in self.sources if (one.orientation, one.sizes) != _AS_SAID]
        if framed and not self.check_images:
            raise RecipeError(
                f"source {framed[0]!r}: orientation and sizes need image headers, but "
                "check_images is off"
            )
        if not 0 <= self.seed < 2**63:
            raise RecipeError(f"seed {self.seed}: expected 0 to 2^63 - 1")
        if not 1 <= self.turns <= 64 or not 1 <= self.shard_images <= 1_000_000:
            raise RecipeError("expected 1 to 64 turns, and 1 to 1,000,000 images in a shard")
        if self.rules.wording is not DEFAULT_RULES.wording and "wordings" not in self.extra:
            raise RecipeError(
                "the rules have custom wordings, but the plan does not record them\n"
                "hint: take both from `with_wordings`"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return everything that the bytes depend on; of annotation files, size and change time."""
        return {
            "version": VERSION,
            "sources": [
                {
                    "name": plan.source.name,
                    "spec": plan.spec,
                    "orientation": plan.orientation,
                    **({} if plan.sizes == "declared" else {"sizes": plan.sizes}),
                    "files": [_stamp(Path(name)) for name in plan.source.files],
                }
                for plan in self.sources
            ],
            "mixture": str(self.mixture),
            "seed": self.seed,
            "turns": self.turns,
            "images": "embedded" if self.embed else "by reference",
            "check_images": self.check_images,
            "shard_images": self.shard_images,
            **changed_rules(self.rules),
            **self.extra,
        }

    @property
    def digest(self) -> str:
        """SHA-256 of `to_dict`."""
        return json_digest(self.to_dict())

    @property
    def sources_digest(self) -> str:
        """SHA-256 of everything that an index depends on: sources, their files and block size."""
        fields = self.to_dict()
        return json_digest({name: fields[name] for name in ("version", "sources", "shard_images")})


def _stamp(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {"name": path.name, "bytes": status.st_size, "changed": status.st_mtime_ns}

"""A data set that makes conversations from annotations on request, without writing them.

Epoch *e* has the same conversations as a build with the seed ``seed + e``, so every epoch asks other
questions in other words. The disk holds only the index of the sources.

The order of images mixes well and still reads the index efficiently: blocks are shuffled, a few
consecutive blocks make a window, and the images of a window are shuffled. A visit of an image gives
one of its conversations. The state of a run is one integer, the number of visits.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from deixis.data.build.block import BlockContent, Quarantined, make_parts
from deixis.data.build.build_plan import BuildPlan
from deixis.data.build.conversation_rows import to_conversation
from deixis.data.build.dice import Dice
from deixis.data.build.index import Index, make_index, read_block
from deixis.data.sources.base import Part
from deixis.errors import AnnotationError, BudgetError
from deixis.storage import clear_drafts, waited_folder
from deixis.structures import Conversation

BLOCK_IMAGES = 256
WINDOW_BLOCKS = 8
BUDGET_FROM = 500
"""Number of visits from which the budget is checked."""
_LONGEST_WALK = 10_000

_Image = tuple[int, str, list[Part]]


class LiveDataset:
    """An endless sequence of a plan's conversations, by the number of the visit.

    The same plan gives the same sequence. Each process holds the annotations of one window in
    memory.

    Args:
        plan: The plan of the conversations; its shard size is not used.
        folder: The folder of the index, which is made if missing. Several processes may open it at
            once: one makes the index, the others wait.
        budget: The share of visited images that may have problems.

    Raises:
        AnnotationError: A file is damaged beyond its records, or the sources have no images.
        StorageError: The folder cannot be written.
    """

    def __init__(self, plan: BuildPlan, folder: Path, *, budget: float = 0.01) -> None:
        self.plan = replace(plan, shard_images=BLOCK_IMAGES)
        self.folder = folder
        self.budget = budget
        self.index = _index_of(self.plan, folder)
        self._sizes = _block_sizes(self.index)
        self.images = int(self._sizes.sum())
        if not self.images:
            raise AnnotationError("the sources have no images")
        self._blocks: OrderedDict[int, list[_Image]] = OrderedDict()
        self._window: tuple[tuple[int, int], list[tuple[int, int]]] | None = None
        self._epoch: tuple[int, Int[np.ndarray, " blocks"], Int[np.ndarray, " bounds"]] | None = (
            None
        )
        self._seen = self._at_problem = 0
        self._problem: Quarantined | None = None

    @cached_property
    def roots(self) -> Mapping[str, Path]:
        """Image folders by source name."""
        return {one.source.name: one.root for one in self.plan.sources}

    def visit(self, number: int) -> Conversation:
        """Return the conversation of a visit; visits count from 0.

        An image without conversations is skipped: the visit goes to the next image in the order.

        Raises:
            BudgetError: More images have problems than the budget allows.
            AnnotationError: No image gives any conversation.
        """
        # from the middle of an epoch, the end of the next one has seen every image
        for step in range(min(2 * self.images, _LONGEST_WALK)):
            epoch, place = divmod(number + step, self.images)
            rows = self.rows(epoch, *self._at(epoch, place))
            if rows:
                # the order chooses the image, and the image's id the conversation, independently
                dice = Dice(self.plan.seed + epoch).throw(rows[0]["id"], "visit", 0)
                row = rows[int(dice.integers(len(rows)))]
                return to_conversation(row, root=self.roots.get(row["source"]))
        raise AnnotationError(
            f"no conversation in {min(self.images, _LONGEST_WALK)} images: no task of the mixture "
            f"{self.plan.mixture} applies to them"
        )

    def rows(self, epoch: int, block: int, image: int) -> list[dict[str, Any]]:
        """Return all conversations of an image in an epoch, as rows of a shard."""
        content = BlockContent()
        plan = replace(self.plan, seed=self.plan.seed + epoch)
        make_parts(plan, [self._block(block)[image]], content)
        self._seen += 1
        if content.quarantine:
            self._at_problem += 1
            self._problem = content.quarantine[-1]
        last = self._problem
        over = self._at_problem > self.budget * self._seen and self._seen >= BUDGET_FROM
        if over and last is not None:
            raise BudgetError(
                f"{self._at_problem} of {self._seen} images have problems, more than the budget of "
                f"{self.budget:.3%}; the last: {last.place}: {last.code}: {last.detail}\n"
                "hint: `deixis data check` lists them"
            )
        return content.rows

    def _at(self, epoch: int, place: int) -> tuple[int, int]:
        """Return the block, and the image in the block, at a position of an epoch."""
        if self._epoch is None or self._epoch[0] != epoch:
            order = _generator(self.plan.seed, epoch, 0).permutation(len(self._sizes))
            self._epoch = epoch, order, np.concatenate(([0], self._sizes[order].cumsum()))
        _, order, starts = self._epoch
        window = (int(np.searchsorted(starts, place, side="right")) - 1) // WINDOW_BLOCKS
        first = window * WINDOW_BLOCKS
        if self._window is None or self._window[0] != (epoch, window):
            blocks = [int(block) for block in order[first : first + WINDOW_BLOCKS]]
            images = [(block, image) for block in blocks for image in range(self._sizes[block])]
            _generator(self.plan.seed, epoch, 1 + window).shuffle(images)
            self._window = (epoch, window), images
        return self._window[1][place - int(starts[first])]

    def _block(self, number: int) -> list[_Image]:
        if number not in self._blocks:
            while len(self._blocks) >= WINDOW_BLOCKS:
                self._blocks.popitem(last=False)
            self._blocks[number] = list(read_block(self.index.block(number)))
        return self._blocks[number]

    def __reduce__(self) -> tuple[type["LiveDataset"], tuple[BuildPlan, Path], dict[str, Any]]:
        return LiveDataset, (self.plan, self.folder), {"budget": self.budget}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.budget = state["budget"]


def _generator(seed: int, epoch: int, window: int) -> np.random.Generator:
    return np.random.default_rng([seed, epoch, window, 0x6C697665])


def _index_of(plan: BuildPlan, folder: Path) -> Index:
    """Return the index of a plan's sources; the first process makes it.

    The index depends on the sources only, so runs with other tasks and seeds share it.
    """
    own = folder / plan.sources_digest[:16]
    with waited_folder(folder):
        clear_drafts(folder)
        return make_index(plan, own)


def _block_sizes(index: Index) -> Int[np.ndarray, " blocks"]:
    """Return the number of images of each block; all blocks but the last are full."""
    total = sum(count.images for count in index.counts.values())
    sizes = np.full(index.blocks, BLOCK_IMAGES, np.int64)
    if index.blocks:
        sizes[-1] = total - BLOCK_IMAGES * (index.blocks - 1)
    return sizes

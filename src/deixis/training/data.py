"""Rows for training, drawn as they are needed; the place in the stream is one integer."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from deixis.data.build import BuildPlan, BuiltDataset, LiveDataset
from deixis.data.mixture import parse_mixture
from deixis.data.order import ShuffledOrder
from deixis.data.scenes import draw_scene, scene_sample
from deixis.data.sources import named_apart, open_source
from deixis.data.tasks import TASKS, parse_rules, sample_turns
from deixis.errors import AnnotationError
from deixis.processing.batch import Batch, Row, collate
from deixis.processing.processor import Processor
from deixis.structures import Conversation
from deixis.training.recipe import BuiltData, Data, LiveData, SceneData

LENGTH_MULTIPLE = 64


def scene_row(processor: Processor, data: SceneData, index: int) -> Row:
    """Row ``index`` of an endless stream: a pure function of its arguments."""
    rng = np.random.default_rng([data.seed, index, 0x7261696E])
    names, weights = zip(*data.levels, strict=True)
    level = str(rng.choice(names, p=np.array(weights) / sum(weights)))
    scene = draw_scene(data.seed, index, level=level, split="train", long_side=data.long_side)
    sample = scene_sample(scene)
    turns = sample_turns(sample, rng, count=data.turns, tasks=dict(data.tasks) or None)
    conversation = Conversation(sample.id, sample.image, sample.size, turns, independent=True)
    return processor.row(conversation, max_tokens=data.row_tokens, instances=sample.instances)


@runtime_checkable
class RowStream(Protocol):
    """An endless stream of rows; a row is a pure function of its place."""

    def row(self, index: int) -> Row:
        """The row at a place."""


@dataclass(frozen=True, slots=True)
class SceneRows:
    """Rows that are drawn."""

    processor: Processor
    data: SceneData

    def row(self, index: int) -> Row:
        """Draw a scene and ask about it."""
        return scene_row(self.processor, self.data, index)


class BuiltRows:
    """Rows of a built data set, shuffled anew in every epoch."""

    def __init__(self, processor: Processor, data: BuiltData) -> None:
        self.processor = processor
        self.data = data
        self.dataset = BuiltDataset(Path(data.folder))
        if data.root is not None:
            self.dataset.roots = dict.fromkeys(self.dataset.roots, Path(data.root))
        if not len(self.dataset):
            raise AnnotationError(f"{data.folder}: the data set has no conversations")
        self.order = ShuffledOrder(len(self.dataset), data.seed)

    def row(self, index: int) -> Row:
        """Read a conversation and encode it."""
        conversation = self.dataset[self.order.at(index)]
        limit = self.data.row_tokens if conversation.independent else None
        return self.processor.row(conversation, max_tokens=limit)


class LiveRows:
    """Rows made of annotations as they are needed, each epoch in another order."""

    def __init__(self, processor: Processor, data: LiveData) -> None:
        self.processor = processor
        self.data = data
        plan = BuildPlan(
            tuple(named_apart([open_source(spec, rules=data.rules) for spec in data.sources])),
            parse_mixture(data.mixture, known=TASKS),
            seed=data.seed,
            turns=data.turns,
            check_images=data.check_images,
            rules=parse_rules(data.rules, data.changed_rules),
        )
        self.dataset = LiveDataset(plan, Path(data.index), budget=data.budget)

    def row(self, index: int) -> Row:
        """Make a conversation and encode it."""
        conversation = self.dataset.visit(index)
        limit = self.data.row_tokens if conversation.independent else None
        return self.processor.row(conversation, max_tokens=limit)


def row_stream(processor: Processor, data: Data) -> RowStream:
    """The stream of what a stage trains on.

    Raises:
        AnnotationError: A built data set is not there, or is not finished; or a source is damaged.
        RecipeError: A source, task or rule is unknown.
    """
    if isinstance(data, BuiltData):
        return BuiltRows(processor, data)
    if isinstance(data, LiveData):
        return LiveRows(processor, data)
    return SceneRows(processor, data)


class RowBatches(IterableDataset[list[Batch]]):
    """Batches from global step ``start`` on, for one rank of ``world``, each in ``pieces``.

    Global batches do not depend on the number of ranks or workers: row *i* of step *s* is row
    ``s * batch_size + i`` of the stream, dealt to ranks in turn.
    """

    def __init__(
        self,
        processor: Processor,
        data: Data,
        *,
        batch_size: int,
        start: int,
        stop: int,
        rank: int = 0,
        world: int = 1,
        pieces: int = 1,
    ) -> None:
        super().__init__()
        self.pieces = pieces
        self.processor = processor
        self.stream = row_stream(processor, data)
        self.batch_size = batch_size
        self.steps = range(start, stop)
        self.rank = rank
        self.world = world

    def batch(self, step: int) -> list[Batch]:
        """The batch of a step, in pieces; fewer where the rank has fewer rows."""
        first = step * self.batch_size
        rows = [
            self.stream.row(index)
            for index in range(first + self.rank, first + self.batch_size, self.world)
        ]
        size = -(-len(rows) // self.pieces)
        pad = self.processor.tokenizer.pad_id
        return [
            collate(rows[start : start + size], pad_id=pad, multiple=LENGTH_MULTIPLE)
            for start in range(0, len(rows), size)
        ]

    def __iter__(self) -> Iterator[list[Batch]]:
        worker = get_worker_info()
        skip, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for step in self.steps[skip::stride]:
            yield self.batch(step)


def _leave_signals_to_the_loop(_worker: int) -> None:
    """Let a worker outlive Ctrl-C and SIGTERM to its group: the loop still has a step to save."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def batch_loader(batches: RowBatches, *, workers: int) -> DataLoader[list[Batch]]:
    """Load batches in order; workers take steps in turn, so their number changes nothing."""
    return DataLoader(
        batches,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator(),
        worker_init_fn=_leave_signals_to_the_loop,
    )

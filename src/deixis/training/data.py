"""Rows for training, drawn as they are needed; the place in the stream is one integer."""

import signal
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from deixis.data.scenes import draw_scene, scene_sample
from deixis.data.tasks import sample_turns
from deixis.processing.batch import Batch, Row, collate
from deixis.processing.processor import Processor
from deixis.structures import Conversation
from deixis.training.recipe import SceneData

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


class SceneBatches(IterableDataset[Batch]):
    """Batches from global step ``start`` on, for one rank of ``world``.

    Global batches do not depend on the number of ranks or workers: row *i* of step *s* is row
    ``s * batch_size + i`` of the stream, dealt to ranks in turn.
    """

    def __init__(
        self,
        processor: Processor,
        data: SceneData,
        *,
        batch_size: int,
        start: int,
        stop: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__()
        self.processor = processor
        self.data = data
        self.batch_size = batch_size
        self.steps = range(start, stop)
        self.rank = rank
        self.world = world

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        first = step * self.batch_size
        rows = [
            scene_row(self.processor, self.data, index)
            for index in range(first + self.rank, first + self.batch_size, self.world)
        ]
        return collate(rows, pad_id=self.processor.tokenizer.pad_id, multiple=LENGTH_MULTIPLE)

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        skip, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for step in self.steps[skip::stride]:
            yield self.batch(step)


def _leave_signals_to_the_loop(_worker: int) -> None:
    """Let a worker outlive Ctrl-C and SIGTERM to its group: the loop still has a step to save."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def batch_loader(batches: SceneBatches, *, workers: int) -> DataLoader[Batch]:
    """Load batches in order; workers take steps in turn, so their number changes nothing."""
    return DataLoader(
        batches,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator(),
        worker_init_fn=_leave_signals_to_the_loop,
    )

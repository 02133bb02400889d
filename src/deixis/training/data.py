"""Rows for training, made on demand; one integer is the position in the stream."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from pathlib import Path
from traceback import extract_tb
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from deixis.batch import Batch
from deixis.data.build import BuildPlan, BuiltDataset, LiveDataset
from deixis.data.build.dataset import read_manifest
from deixis.data.mixture import parse_mixture
from deixis.data.order import ShuffledOrder
from deixis.data.scenes import draw_scene, scene_sample
from deixis.data.sources import named_apart, open_source
from deixis.data.tasks import DEFAULT_WEIGHTS, TASKS, parse_rules, sample_turns
from deixis.errors import (
    AnnotationError,
    CheckpointError,
    DeixisError,
    GeometryError,
    ImageError,
    NotationError,
    PromptError,
    WorkerError,
)
from deixis.processing.batch import Row, collate
from deixis.processing.processor import Processor
from deixis.storage import sha256_of
from deixis.structures import IGNORE_INDEX, Conversation
from deixis.training.recipe import BuiltData, Data, LiveData, SceneData

LENGTH_MULTIPLE = 64

QUARANTINED = (AnnotationError, GeometryError, ImageError, NotationError, PromptError)
"""Errors of a single damaged sample; any other error ends the run."""

MOST_REPLACEMENTS = 32
"""Samples tried in place of a damaged one; if all are damaged, the data set is unusable."""


def scene_row(processor: Processor, data: SceneData, index: int) -> Row:
    """Return row ``index`` of an endless stream: a pure function of the arguments."""
    rng = np.random.default_rng([data.seed, index, 0x7261696E])
    names, weights = zip(*data.levels, strict=True)
    level = str(rng.choice(names, p=np.array(weights) / sum(weights)))
    scene = draw_scene(data.seed, index, level=level, split="train", long_side=data.long_side)
    sample = scene_sample(scene)
    turns = sample_turns(sample, rng, count=data.turns, tasks=dict(data.tasks) or None)
    conversation = Conversation(sample.id, sample.image, sample.size, turns, independent=True)
    return processor.row(conversation, row_tokens=data.row_tokens, instances=sample.instances)


@runtime_checkable
class RowStream(Protocol):
    """An endless stream of rows; a row is a pure function of its index."""

    @property
    def epoch(self) -> int:
        """Length of an epoch: the number of consecutive rows with each sample once."""

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest of a built data set; empty for other data."""

    def name(self, index: int) -> str:
        """Return the name of the sample at an index."""

    def row(self, index: int) -> Row:
        """Return the row at an index."""


@dataclass(frozen=True, slots=True)
class SceneRows:
    """Rows about drawn scenes."""

    processor: Processor
    data: SceneData
    epoch: int = 2**31
    digest: str = ""

    def name(self, index: int) -> str:
        """Return the scene's number."""
        return f"scene {index}"

    def row(self, index: int) -> Row:
        """Draw a scene and encode questions about it."""
        return scene_row(self.processor, self.data, index)


class BuiltRows:
    """Rows of a built data set, shuffled differently in every epoch."""

    def __init__(self, processor: Processor, data: BuiltData) -> None:
        self.processor = processor
        self.data = data
        self.dataset = BuiltDataset(Path(data.folder))
        if data.root is not None:
            self.dataset.roots = dict.fromkeys(self.dataset.roots, Path(data.root))
        if not len(self.dataset):
            raise AnnotationError(f"{data.folder}: the data set has no conversations")
        self.order = ShuffledOrder(len(self.dataset), data.seed)
        self.epoch = len(self.dataset)
        self.digest = sha256_of(Path(data.folder) / "manifest.json")

    def name(self, index: int) -> str:
        """Return the row and folder of the data set."""
        return f"row {self.order.at(index)} of {self.data.folder}"

    def row(self, index: int) -> Row:
        """Read a conversation and encode it.

        Raises:
            CheckpointError: A shard cannot be read.
            AnnotationError: No turn of the row has an answer.
            PromptError: No turn fits into ``row_tokens``.
        """
        try:
            conversation = self.dataset[self.order.at(index)]
        except (OSError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(f"{self.name(index)}: cannot read its shard: {reason}") from error
        return answered_row(self.processor, conversation, self.data.row_tokens)


class LiveRows:
    """Rows made from annotations on demand, in a different order in every epoch."""

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
        self.epoch = self.dataset.images
        self.digest = ""

    def name(self, index: int) -> str:
        """Return the number of the visit."""
        return f"visit {index} of {', '.join(self.data.sources)}"

    def row(self, index: int) -> Row:
        """Make a conversation and encode it.

        Raises:
            AnnotationError: No turn of the row has an answer.
            PromptError: No turn fits into ``row_tokens``.
        """
        conversation = self.dataset.visit(index)
        return answered_row(self.processor, conversation, self.data.row_tokens)


def answered_row(processor: Processor, conversation: Conversation, row_tokens: int | None) -> Row:
    """Encode a conversation for training; ``row_tokens`` limits independent turns only.

    Raises:
        AnnotationError: No turn of the row has an answer.
        PromptError: No turn fits into ``row_tokens``.
    """
    limit = row_tokens if conversation.independent else None
    row = processor.row(conversation, row_tokens=limit)
    if not (row.labels != IGNORE_INDEX).any():
        raise AnnotationError(
            f"conversation {conversation.id}: expected a turn with an answer to learn, got "
            f"{len(conversation.turns)} turns without one (row_tokens {limit})"
        )
    return row


def row_stream(processor: Processor, data: Data) -> RowStream:
    """Open the stream of rows of a stage's data.

    Raises:
        AnnotationError: A built data set is missing, unfinished or empty, or a source is damaged.
        RecipeError: A source, task or rule is unknown.
    """
    if isinstance(data, BuiltData):
        return BuiltRows(processor, data)
    if isinstance(data, LiveData):
        return LiveRows(processor, data)
    return SceneRows(processor, data)


def units_of(data: Data) -> frozenset[str] | None:
    """Return the unit types that answers of the data can have; None if its tasks are unknown."""
    names = _tasks_of(data)
    if names is None or not names <= TASKS.keys():
        return None
    return frozenset(unit for name in names for unit in TASKS[name].gives)


def _tasks_of(data: Data) -> set[str] | None:
    match data:
        case SceneData():
            drawn = dict(data.tasks) or (DEFAULT_WEIGHTS if data.turns else {})
            return set(drawn)
        case LiveData():
            rates = parse_mixture(data.mixture, known=TASKS).rates
            return {name for entry, _ in rates for name in entry.split("|")}
        case BuiltData():
            try:
                return set(read_manifest(Path(data.folder))["tasks"])
            except DeixisError:
                # opening the data in its stage raises the error with its reason
                return None


@dataclass(frozen=True, slots=True)
class TurnCounts:
    """Counts of turns in some rows.

    Args:
        kept: Turns in the rows.
        left_out: Turns that would have exceeded ``row_tokens``.
        rows_without: Rows without turns where turns were requested: no task applied to the image.
    """

    kept: int = 0
    left_out: int = 0
    rows_without: int = 0

    def __add__(self, other: "TurnCounts") -> "TurnCounts":
        return TurnCounts(
            self.kept + other.kept,
            self.left_out + other.left_out,
            self.rows_without + other.rows_without,
        )


@dataclass(frozen=True, slots=True)
class DamagedRow:
    """A row with a damaged sample: its index in the stream, the sample and the reason."""

    row: int
    sample: str
    reason: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """The batch of one rank for one step, or the error that ends the run.

    Errors are passed as values: an exception that leaves a worker process would lose its class.

    Args:
        pieces: The rows of the rank, split into pieces.
        turns: Counts of their turns.
        problems: Rows with damaged samples, which were replaced.
        error: The error that ends the run, or None.
    """

    pieces: tuple[Batch, ...] = ()
    turns: TurnCounts = TurnCounts()
    problems: tuple[DamagedRow, ...] = ()
    error: DeixisError | None = None

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.pieces)


class RowBatches(IterableDataset[Loaded]):
    """Batches of one rank of ``world`` from global step ``start`` on, each split into ``pieces``.

    Global batches do not depend on the number of ranks or workers: row *i* of step *s* is row ``s *
    batch_size + i`` of the stream. Rows are dealt to ranks in turn.

    A damaged sample is replaced by another one of the same epoch, which depends on the row's index
    alone. A resumed run therefore makes the same batches as an uninterrupted one.
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
        self.data = data
        self.stream = row_stream(processor, data)
        self.batch_size = batch_size
        self.steps = range(start, stop)
        self.rank = rank
        self.world = world

    def load(self, step: int) -> Loaded:
        """Return the batch of a step in pieces, with its damaged rows.

        Raises:
            CheckpointError: A shard cannot be read, or all samples tried for a row are damaged.
            PromptError: No sample tried for a row has a usable turn, such as where no turn fits.
        """
        first = step * self.batch_size
        problems: list[DamagedRow] = []
        rows = [
            self._row(index, problems)
            for index in range(first + self.rank, first + self.batch_size, self.world)
        ]
        size = -(-len(rows) // self.pieces)
        pad = self.processor.tokenizer.pad_id
        pieces = tuple(
            collate(rows[start : start + size], pad_id=pad, multiple=LENGTH_MULTIPLE)
            for start in range(0, len(rows), size)
        )
        kept = [row.num_turns for row in rows]
        turns = TurnCounts(
            sum(kept),
            sum(row.left_out for row in rows),
            kept.count(0) if self.asks else 0,
        )
        return Loaded(pieces, turns, tuple(problems))

    @property
    def asks(self) -> bool:
        """Whether rows should have turns; drawn scenes may be used without questions."""
        return not isinstance(self.data, SceneData) or self.data.turns > 0

    def _row(self, index: int, problems: list[DamagedRow]) -> Row:
        """Return the row at an index, or a row of its epoch that replaces a damaged one."""
        epoch, own = divmod(index, self.stream.epoch)
        dice = np.random.default_rng([index, 0x7265706C])
        tried: list[DamagedRow] = []
        kind: type[DeixisError] = CheckpointError
        place = own
        for _ in range(1 + MOST_REPLACEMENTS):
            number = epoch * self.stream.epoch + place
            try:
                row = self.stream.row(number)
            except QUARANTINED as error:
                reason = str(error).splitlines()[0]
                # a limit that excludes every sample is a choice of the recipe, not damage
                kind = PromptError if isinstance(error, PromptError) else CheckpointError
                tried.append(DamagedRow(index, self.stream.name(number), reason))
                place = int(dice.integers(self.stream.epoch))
            else:
                problems += tried[:1]
                return row
        raise kind(
            f"{tried[0].sample}: {tried[0].reason}; {MOST_REPLACEMENTS} other samples that were "
            "tried in its place failed too"
        )

    def __iter__(self) -> Iterator[Loaded]:
        worker = get_worker_info()
        skip, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for step in self.steps[skip::stride]:
            try:
                loaded = self.load(step)
            except DeixisError as error:
                yield Loaded(error=error)
                return
            except Exception as error:  # noqa: BLE001 - the loop reports it in words
                yield Loaded(error=_unexpected(step, error))
                return
            yield loaded


def _unexpected(step: int, error: Exception) -> WorkerError:
    """Return an unexpected exception as a one-line error with its place in the code."""
    where = extract_tb(error.__traceback__)[-1]
    words = " ".join(str(error).split())[:200]
    return WorkerError(
        f"batch of step {step}: {type(error).__name__}: {words} "
        f"({Path(where.filename).name}, line {where.lineno})\n"
        "hint: this is a bug in deixis, please report it; --resume continues from the last "
        "checkpoint"
    )


def _leave_signals_to_the_loop(_worker: int) -> None:
    """Ignore Ctrl-C and SIGTERM in a worker: the loop still needs it to save the step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def loaded_batches(batches: RowBatches, *, workers: int) -> Iterator[Iterator[Loaded]]:
    """Load batches in order within the block, and end all workers when it ends.

    Workers take steps in turn, so their number does not change the batches.

    Raises:
        DeixisError: Loading a batch failed; raised when the batch is due.
        WorkerError: A worker was killed, or failed with an unexpected exception. It can be raised
            anywhere in the block.
    """
    if not workers:
        yield _sound(iter(batches))
        return
    loader = DataLoader(
        batches,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4,
        generator=torch.Generator(),
        worker_init_fn=_leave_signals_to_the_loop,
    )
    others = set(active_children())
    iterator: Any = iter(loader)
    processes = [child for child in active_children() if child not in others]
    try:
        yield _sound(iterator)
    except RuntimeError as error:
        # torch reports the death of a worker by a RuntimeError at any point of the block
        ended = [process.exitcode for process in processes if process.exitcode]
        if not ended or "DataLoader worker" not in str(error):
            raise
        raise WorkerError(_how_ended(ended[0])) from error
    finally:
        _end_workers(iterator, processes)


def _sound(loaded: Iterator[Loaded]) -> Iterator[Loaded]:
    for one in loaded:
        if one.error is not None:
            raise one.error
        yield one


def _how_ended(code: int) -> str:
    hint = "\nhint: --resume continues from the last checkpoint"
    if code > 0:
        return f"a process that loads data ended with exit code {code}{hint}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    likely = {
        "SIGKILL": ", usually because memory ran out",
        "SIGBUS": ", usually because shared memory (/dev/shm) ran out",
    }.get(name, "")
    return (
        f"a process that loads data was killed by {name}{likely}{hint}; fewer workers or a smaller "
        "batch need less memory: --set workers=1"
    )


def _end_workers(iterator: Any, processes: list[BaseProcess]) -> None:
    """Kill remaining workers: they ignore SIGTERM, and the interpreter would wait for them."""
    iterator._shutdown_workers()  # noqa: SLF001 - otherwise torch ends them only on deletion
    for process in processes:
        if process.is_alive():
            process.kill()
        process.join()

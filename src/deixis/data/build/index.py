"""Sorts the parts of all sources by image and cuts them into blocks of images.

DuckDB sorts and spills to the disk, so memory does not grow with the files. A block is a Parquet
file that a worker can process alone.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from deixis.data.build.build_plan import BuildPlan
from deixis.data.sources.base import Part, PassedOver, RecordProblem
from deixis.errors import CheckpointError, StorageError
from deixis.storage import discard, make_folder, storing, write_file

MEMORY = "512MB"
"""Memory limit of sorting; DuckDB spills the rest to the disk."""
_BATCH = 20_000
_PARTS = pa.schema(
    [
        *(("source", pa.int16()), ("key", pa.string()), ("kind", pa.string())),
        *(("order", pa.string()), ("place", pa.string()), ("payload", pa.string())),
    ]
)


@dataclass(frozen=True, slots=True)
class SourceCount:
    """Counts of images, parts and problems in a source's files."""

    images: int = 0
    parts: int = 0
    problems: int = 0
    passed_over: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Index:
    """A finished index: number of blocks, counts by source, and problems that have no image."""

    folder: Path
    blocks: int
    counts: dict[str, SourceCount]
    problems: tuple[tuple[str, RecordProblem], ...]

    def block(self, number: int) -> Path:
        """Return the path of a block."""
        return _block_path(self.folder, number)


def _block_path(folder: Path, number: int) -> Path:
    return folder / f"block-{number:06d}.parquet"


def make_index(
    plan: BuildPlan, folder: Path, *, on_parts: Callable[[int], None] | None = None
) -> Index:
    """Read all sources and write blocks, or return the index if the folder already has one.

    An unfinished index is removed: it may have filled the disk and cannot be continued.

    Raises:
        AnnotationError: A file is damaged beyond its records.
        StorageError: The folder cannot be written, or the disk is full.
    """
    marker = folder / "index.json"
    if marker.exists() and (known := _load(marker)) is not None:
        return known
    discard(folder)
    make_folder(folder)
    try:
        index = _made(plan, folder, on_parts)
        write_file(marker, _dump(index))
    except BaseException:
        discard(folder)
        raise
    return index


def _made(plan: BuildPlan, folder: Path, on_parts: Callable[[int], None] | None) -> Index:
    counts: dict[str, SourceCount] = {}
    problems: list[tuple[str, RecordProblem]] = []
    try:
        with duckdb.connect(str(folder / "sort.duckdb")) as database:
            database.execute(f"SET memory_limit='{MEMORY}'")
            spill = str(folder / "spill").replace("'", "''")
            database.execute(f"SET temp_directory='{spill}'")
            database.execute("SET preserve_insertion_order=false")
            database.execute(
                "CREATE TABLE parts (source SMALLINT, key VARCHAR, kind VARCHAR, "
                '"order" VARCHAR, place VARCHAR, payload VARCHAR)'
            )
            for number, one in enumerate(plan.sources):
                read = _Reading(number, one.source.name, database, on_parts)
                for part in one.source.parts():
                    read.take(part)
                read.flush()
                problems += read.problems
                counts[one.source.name] = SourceCount(
                    0, read.count, len(read.problems), dict(sorted(read.passed_over.items()))
                )
            blocks, images = _write_blocks(database, plan, folder)
    except duckdb.Error as error:
        # DuckDB reads only its own files here, so every error is one of the disk
        raise StorageError(f"{folder}: sorting failed: {str(error).splitlines()[0]}") from error
    for name, count in images.items():
        counts[name] = replace(counts[name], images=count)
    (folder / "sort.duckdb").unlink(missing_ok=True)
    shutil.rmtree(folder / "spill", ignore_errors=True)
    return Index(
        folder, blocks, counts, tuple(sorted(problems, key=lambda one: (one[0], one[1].place)))
    )


class _Reading:
    """Inserts the parts of one source into the table, in batches."""

    def __init__(
        self,
        number: int,
        name: str,
        database: duckdb.DuckDBPyConnection,
        on_parts: Callable[[int], None] | None,
    ) -> None:
        self.number = number
        self.name = name
        self.database = database
        self.on_parts = on_parts
        self.batch: list[Part] = []
        self.problems: list[tuple[str, RecordProblem]] = []
        self.passed_over: Counter[str] = Counter()
        self.count = 0

    def take(self, part: Part | RecordProblem | PassedOver) -> None:
        if isinstance(part, PassedOver):
            self.passed_over[part.rule] += 1
            return
        if isinstance(part, RecordProblem):
            self.problems.append((self.name, part))
            return
        if not part.payload.isascii() or not part.key.isascii():
            try:
                f"{part.key}{part.order}{part.payload}".encode()
            except UnicodeEncodeError:
                problem = RecordProblem("bad_encoding", "the record is not UTF-8", part.place)
                self.problems.append((self.name, problem))
                return
        self.batch.append(part)
        if len(self.batch) == _BATCH:
            self.flush()

    def flush(self) -> None:
        if not self.batch:
            return
        columns = list(zip(*self.batch, strict=True))
        numbers = [self.number] * len(self.batch)
        rows = pa.table([pa.array(numbers, pa.int16()), *map(pa.array, columns)], schema=_PARTS)
        self.database.register("rows", rows)
        self.database.execute("INSERT INTO parts SELECT * FROM rows")
        self.database.unregister("rows")
        self.count += len(self.batch)
        self.batch = []
        if self.on_parts is not None:
            self.on_parts(self.count)


def _write_blocks(
    database: duckdb.DuckDBPyConnection, plan: BuildPlan, folder: Path
) -> tuple[int, dict[str, int]]:
    """Cut the sorted parts between images; all blocks but the last have the same size."""
    names = [one.source.name for one in plan.sources]
    images = dict.fromkeys(names, 0)
    blocks = 0
    pending: list[pa.Table] = []
    seen = 0
    last: tuple[int, str] | None = None
    for batch in _sorted_parts(database):
        sources = batch.column("source").to_pylist()
        keys = batch.column("key").to_pylist()
        start = 0
        for row, this in enumerate(zip(sources, keys, strict=True)):
            if this == last:
                continue
            last = this
            if seen == plan.shard_images:
                pending.append(batch.slice(start, row - start))
                blocks = _write_block(folder, blocks, pending)
                pending, seen, start = [], 0, row
            seen += 1
            images[names[this[0]]] += 1
        pending.append(batch.slice(start))
    if seen:
        blocks = _write_block(folder, blocks, pending)
    return blocks, images


def _sorted_parts(database: duckdb.DuckDBPyConnection) -> Iterator[pa.Table]:
    query = 'SELECT * FROM parts ORDER BY source, key, kind, "order", place, payload'
    for batch in database.sql(query).to_arrow_reader(_BATCH):
        yield pa.Table.from_batches([batch])


def _write_block(folder: Path, number: int, tables: list[pa.Table]) -> int:
    path = _block_path(folder, number)
    with storing(path):
        pq.write_table(
            pa.concat_tables(tables),
            path,
            compression="zstd",
            compression_level=1,
            write_page_checksum=True,
        )
    return number + 1


def read_block(path: Path) -> Iterator[tuple[int, str, list[Part]]]:
    """Yield the images of a block: source number, key, and sorted parts.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read(use_threads=False).cast(_PARTS)
        columns = [
            table.column(name).to_pylist() for name in ("key", "kind", "order", "place", "payload")
        ]
        sources = table.column("source").to_pylist()
    except (OSError, pa.ArrowException, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path}: cannot read: {reason[:300]}\nhint: delete {path.parent} to make it again"
        ) from error
    parts = list(map(Part, *columns))
    start = 0
    for row in range(1, len(parts) + 1):
        ends = row == len(parts) or parts[row].key != parts[start].key
        if ends or sources[row] != sources[start]:
            yield sources[start], parts[start].key, parts[start:row]
            start = row


def _dump(index: Index) -> bytes:
    content = {
        "blocks": index.blocks,
        "counts": {name: asdict(count) for name, count in index.counts.items()},
        "faults": [[name, asdict(problem)] for name, problem in index.problems],
    }
    return json.dumps(content).encode()


def _load(marker: Path) -> Index | None:
    """Read a finished index; None if its file is damaged, so that the index is made again."""
    try:
        content = json.loads(marker.read_bytes())
        return Index(
            marker.parent,
            int(content["blocks"]),
            {name: SourceCount(**count) for name, count in content["counts"].items()},
            tuple((name, RecordProblem(**problem)) for name, problem in content["faults"]),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None

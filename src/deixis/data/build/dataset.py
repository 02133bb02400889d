"""A built data set, opened again: checked, counted, and read row by row."""

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deixis.data.build.durable import sha256_of
from deixis.data.build.plan import VERSION
from deixis.data.build.stored import to_conversation
from deixis.errors import AnnotationError, CheckpointError
from deixis.structures import Conversation

_FILES_KEPT, _GROUPS_KEPT = 64, 8
_BYTES_KEPT = 64 * 2**20
"""Of row groups with embedded images; one group is kept however large it is."""


class BuiltDataset:
    """The conversations of a data set, by number.

    Rows are read a row group at a time and a few groups are kept, so reading in order is fast and
    memory does not grow; groups are small, so that a row anywhere is cheap. Open files do not
    travel to other processes: each opens its own.

    Args:
        folder: What `deixis.data.build.build` wrote.
        roots: Where the images of a source are, for sources whose images have moved.

    Raises:
        AnnotationError: The folder holds no finished data set, or one of a later version.
    """

    def __init__(self, folder: Path, *, roots: Mapping[str, Path] | None = None) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        self.roots = {
            name: Path(one["root"]) for name, one in self.manifest["sources"].items()
        } | dict(roots or {})
        self.ends = list(accumulate(shard["rows"] for shard in self.manifest["shards"]))
        self._files: dict[int, pq.ParquetFile] = {}
        self._groups: dict[tuple[int, int], pa.Table] = {}

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, index: int) -> Conversation:
        row = self.row(index)
        return to_conversation(row, root=self.roots.get(row["source"]))

    def row(self, index: int) -> dict[str, Any]:
        """A row as it is stored."""
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        shard = bisect_right(self.ends, index)
        offset = index - (self.ends[shard - 1] if shard else 0)
        file = self._file(shard)
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if offset < count:
                row: dict[str, Any] = self._group(shard, group).slice(offset, 1).to_pylist()[0]
                return row
            offset -= count
        raise AnnotationError(f"{self.folder}: shard {shard} has fewer rows than the manifest says")

    def _file(self, shard: int) -> pq.ParquetFile:
        if shard not in self._files:
            if len(self._files) >= _FILES_KEPT:
                self._files.pop(next(iter(self._files))).close()
            self._files[shard] = open_shard(self.folder, self.manifest["shards"][shard])
        return self._files[shard]

    def _group(self, shard: int, group: int) -> pa.Table:
        if (shard, group) not in self._groups:
            rows = self._file(shard).read_row_group(group, use_threads=False)
            while self._groups and (
                len(self._groups) >= _GROUPS_KEPT
                or sum(one.nbytes for one in self._groups.values()) + rows.nbytes > _BYTES_KEPT
            ):
                self._groups.pop(next(iter(self._groups)))
            self._groups[shard, group] = rows
        return self._groups[shard, group]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every row as it is stored, in order."""
        for shard in self.manifest["shards"]:
            with open_shard(self.folder, shard) as file:
                for batch in file.iter_batches(batch_size=1000):
                    yield from batch.to_pylist()

    def __reduce__(self) -> tuple[type["BuiltDataset"], tuple[Path], dict[str, Any]]:
        return BuiltDataset, (self.folder,), {"roots": self.roots}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.roots = state["roots"]


def open_shard(folder: Path, shard: Mapping[str, Any]) -> pq.ParquetFile:
    """Open a shard that a manifest names.

    Raises:
        CheckpointError: It is not there, or no Parquet file.
    """
    path = folder / str(shard["name"])
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise CheckpointError(f"{path}: cannot read: {str(error).splitlines()[0]}") from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a finished data set.

    Raises:
        AnnotationError: There is none, it is damaged, or of a later version.
    """
    path = folder / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["plan"]["version"]
    except FileNotFoundError:
        unfinished = (folder / "plan.json").exists()
        raise AnnotationError(
            f"{folder}: {'the build is not finished' if unfinished else 'no data set'}, "
            "expected a manifest.json"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AnnotationError(f"{path}: damaged: {error}") from error
    if version != VERSION:
        raise AnnotationError(f"{path}: version {version}, expected {VERSION}")
    return manifest


def verify(folder: Path) -> dict[str, Any]:
    """Check that a data set is what its manifest says: every hash, count and row.

    Returns what was checked.

    Raises:
        AnnotationError: There is no finished data set, or a row does not hold a conversation.
        CheckpointError: A file is missing or has changed.
    """
    dataset = BuiltDataset(folder)
    manifest = dataset.manifest
    for shard in manifest["shards"]:
        _check_hash(folder / shard["name"], shard["sha256"])
    _check_hash(folder / "quarantine.parquet", manifest["quarantine"]["sha256"])
    known = {str(shard["name"]) for shard in manifest["shards"]}
    extra = [path.name for path in (folder / "data").iterdir() if f"data/{path.name}" not in known]
    if extra:
        raise CheckpointError(f"{folder}: data/{extra[0]} is not in the manifest")
    count, turns = 0, 0
    previous = ""
    for row in dataset.rows():
        conversation = to_conversation(row, root=dataset.roots.get(row["source"]))
        if row["id"] == previous:
            raise AnnotationError(f"{folder}: row {row['id']} comes twice")
        previous = row["id"]
        count += 1
        turns += len(conversation.turns)
    if count != manifest["conversations"]:
        raise CheckpointError(
            f"{folder}: {count} rows, the manifest says {manifest['conversations']}"
        )
    for name, source in manifest["sources"].items():
        out = source["used"] + source["used_without_some_records"] + source["quarantined"]
        if out + sum(source["filtered"].values()) != source["images"]:
            raise CheckpointError(f"{folder}: source {name}: images do not add up")
    return {"shards": len(manifest["shards"]), "conversations": count, "turns": turns}


def _check_hash(path: Path, expected: str) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path}: missing, the manifest names it")
    if sha256_of(path) != expected:
        raise CheckpointError(f"{path}: has changed since it was built (SHA-256 differs)")

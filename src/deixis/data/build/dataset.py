"""Opens a built data set, verifies it and reads its rows."""

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deixis.data.build.build_plan import VERSION
from deixis.data.build.conversation_rows import to_conversation
from deixis.errors import AnnotationError, CheckpointError, GeometryError
from deixis.geometry.checks import shown
from deixis.storage import json_digest, sha256_of
from deixis.structures import Conversation

_SHARD_FIELDS: Mapping[str, type] = {"name": str, "rows": int, "bytes": int, "sha256": str}
_SOURCE_FIELDS: Mapping[str, type] = {
    "root": str,
    **dict.fromkeys(("images", "used", "used_without_some_records", "quarantined"), int),
    "quarantined_records": int,
    "filtered": dict,
    "normalised": dict,
}
_FIELDS: Mapping[str, type] = {
    "digest": str,
    "plan": dict,
    "conversations": int,
    "tasks": dict,
    "sources": dict,
    "shards": list,
    "quarantine": dict,
}
_QUARANTINE_FIELDS: Mapping[str, type] = {"rows": int, "sha256": str, "reasons": dict}
_KINDS: Mapping[type, str] = {
    int: "a count",
    str: "a text",
    dict: "a JSON object",
    list: "a list",
}
_FILLED = ("id", "source", "split", "task", "tasks", "height", "width", "independent", "turns")
"""Columns that are never null."""
_DAMAGE = (OSError, pa.ArrowException, ValueError)
"""Errors of reading a damaged Parquet file; UnicodeDecodeError is a ValueError."""

_FILES_KEPT, _GROUPS_KEPT = 64, 8
_BYTES_KEPT = 64 * 2**20
"""Most bytes of cached row groups; one group is kept however large it is."""


class BuiltDataset:
    """The conversations of a built data set, by index.

    Rows are read one row group at a time and a few groups are cached: reading in order is fast and
    memory stays bounded. Groups are small, so random access is cheap. A pickled data set opens its
    files again in the other process.

    Args:
        folder: The folder of a built data set.
        roots: New image folders by source name, for sources whose images have moved.

    Raises:
        AnnotationError: The folder holds no finished data set, or one of another version.
        CheckpointError: The manifest is damaged. Reading a row raises it too, if a shard does not
            match the manifest or the row is damaged.
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
        return self.conversation(self.row(index))

    def conversation(self, row: Mapping[str, Any]) -> Conversation:
        """Convert a stored row to a conversation.

        Raises:
            CheckpointError: The row is damaged.
        """
        try:
            return to_conversation(row, root=self.roots.get(row["source"]))
        except (AnnotationError, GeometryError) as error:
            raise CheckpointError(f"{self.folder}: row {shown(row['id'])}: {error}") from error

    def row(self, index: int) -> dict[str, Any]:
        """Return a row as stored."""
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        shard = bisect_right(self.ends, index)
        offset = index - (self.ends[shard - 1] if shard else 0)
        file = self._file(shard)
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if offset < count:
                name = str(self.manifest["shards"][shard]["name"])
                try:
                    row: dict[str, Any] = self._group(shard, group).slice(offset, 1).to_pylist()[0]
                except _DAMAGE as error:
                    raise _damaged(self.folder / name, error) from error
                return row
            offset -= count
        raise CheckpointError(f"{self.folder}: shard {shard} has fewer rows than its footer says")

    def _file(self, shard: int) -> pq.ParquetFile:
        if shard not in self._files:
            if len(self._files) >= _FILES_KEPT:
                self._files.pop(next(iter(self._files))).close()
            self._files[shard] = open_shard(self.folder, self.manifest["shards"][shard])
        return self._files[shard]

    def _group(self, shard: int, group: int) -> pa.Table:
        if (shard, group) not in self._groups:
            rows = self._file(shard).read_row_group(group, use_threads=False)
            _check_rows(rows, self.folder / str(self.manifest["shards"][shard]["name"]))
            while self._groups and (
                len(self._groups) >= _GROUPS_KEPT
                or sum(one.nbytes for one in self._groups.values()) + rows.nbytes > _BYTES_KEPT
            ):
                self._groups.pop(next(iter(self._groups)))
            self._groups[shard, group] = rows
        return self._groups[shard, group]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield all rows as stored, in order.

        Raises:
            CheckpointError: A shard is missing or damaged.
        """
        for shard in self.manifest["shards"]:
            path = self.folder / str(shard["name"])
            with open_shard(self.folder, shard) as file:
                for group in range(file.num_row_groups):
                    yield from _group_rows(file, group, path)

    def __reduce__(self) -> tuple[type["BuiltDataset"], tuple[Path], dict[str, Any]]:
        return BuiltDataset, (self.folder,), {"roots": self.roots}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.roots = state["roots"]


def open_shard(folder: Path, shard: Mapping[str, Any]) -> pq.ParquetFile:
    """Open a shard that a manifest lists.

    Raises:
        CheckpointError: The shard is missing, is not a Parquet file, or its rows or columns do not
            match the manifest.
    """
    path = folder / str(shard["name"])
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        names = set(file.schema_arrow.names)
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    missing = [name for name in (*_FILLED, "image") if name not in names]
    if missing:
        raise CheckpointError(f"{path}: damaged: no column {missing[0]!r}")
    if file.metadata.num_rows != shard["rows"]:
        raise CheckpointError(
            f"{path}: {file.metadata.num_rows} rows, the manifest says {shard['rows']}"
        )
    return file


def _group_rows(file: pq.ParquetFile, group: int, path: Path) -> list[dict[str, Any]]:
    try:
        table = file.read_row_group(group, use_threads=False)
        _check_rows(table, path)
        rows: list[dict[str, Any]] = table.to_pylist()
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    return rows


def _check_rows(table: pa.Table, path: Path) -> None:
    """Check that required columns have no nulls and sizes are positive.

    Raises:
        CheckpointError: A row is damaged.
    """
    empty = [name for name in _FILLED if table.column(name).null_count]
    if empty or pc.list_flatten(table.column("tasks")).null_count:
        raise CheckpointError(f"{path}: damaged: a row without {(*empty, 'tasks')[0]!r}")
    for name in ("height", "width"):
        least = pc.min(table.column(name)).as_py()
        if least is not None and least < 1:
            raise CheckpointError(f"{path}: damaged: a row of {name} {least}")


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return CheckpointError(f"{path}: cannot read: {reason[:300]}")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a finished data set.

    Raises:
        AnnotationError: The manifest is missing or has another version.
        CheckpointError: The manifest is damaged.
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
    except KeyError as error:
        raise CheckpointError(f"{path}: damaged: no {error.args[0]!r}") from error
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged: {error}") from error
    if version != VERSION:
        raise AnnotationError(f"{path}: version {shown(version)}, expected {VERSION}")
    try:
        _check_manifest(manifest)
    except _WrongManifest as error:
        raise CheckpointError(f"{path}: damaged: {error}") from error
    return manifest


class _WrongManifest(Exception):  # noqa: N818
    """A field of a manifest is missing or has the wrong type."""


def _check_manifest(manifest: Mapping[str, Any]) -> None:
    """Check the presence and type of every field that is read from a manifest."""
    _check_fields(manifest, _FIELDS, "")
    for number, shard in enumerate(manifest["shards"]):
        place = f"shards[{number}]"
        _check_fields(shard, _SHARD_FIELDS, place)
        folder, _, name = shard["name"].partition("/")
        if folder != "data" or not name or "/" in name or name in {".", ".."} or "\0" in name:
            raise _WrongManifest(f"{place}.name: expected data/NAME, got {shown(shard['name'])}")
    for name, source in manifest["sources"].items():
        _check_fields(source, _SOURCE_FIELDS, f"sources.{shown(name)}")
        _check_counts(source["filtered"], f"sources.{shown(name)}.filtered")
        _check_counts(source["normalised"], f"sources.{shown(name)}.normalised")
        if "no_task_applies" not in source["filtered"]:
            raise _WrongManifest(f"sources.{shown(name)}.filtered: no 'no_task_applies'")
    _check_fields(manifest["quarantine"], _QUARANTINE_FIELDS, "quarantine")
    _check_counts(manifest["quarantine"]["reasons"], "quarantine.reasons")
    _check_counts(manifest["tasks"], "tasks")


def _check_fields(value: object, fields: Mapping[str, type], place: str) -> None:
    where = f"{place}: " if place else ""
    if not isinstance(value, dict):
        raise _WrongManifest(f"{where}expected a JSON object, got {shown(value)}")
    for name, kind in fields.items():
        if name not in value:
            raise _WrongManifest(f"{where}no {name!r}")
        _check_kind(value[name], kind, f"{where}{name}")


def _check_counts(values: Mapping[str, Any], place: str) -> None:
    for name, value in values.items():
        _check_kind(value, int, f"{place}.{shown(name)}")


def _check_kind(value: object, kind: type, place: str) -> None:
    # bool is a subclass of int, but not a valid count
    sound = isinstance(value, kind) and not isinstance(value, bool)
    if not sound or (isinstance(value, int) and value < 0):
        raise _WrongManifest(f"{place}: expected {_KINDS[kind]}, got {shown(value)}")


def verify(folder: Path) -> dict[str, Any]:
    """Check every hash, count and row of a data set against its manifest.

    Returns the numbers of checked ``shards``, ``conversations`` and ``turns``.

    Raises:
        AnnotationError: The folder holds no finished data set.
        CheckpointError: A file is missing or has changed, a row does not hold a conversation or
            names a picture outside its folder, or counts do not add up.
    """
    dataset = BuiltDataset(folder)
    manifest = dataset.manifest
    _check_plan(folder, manifest)
    for shard in manifest["shards"]:
        _check_hash(folder / shard["name"], shard["sha256"])
    _check_hash(folder / "quarantine.parquet", manifest["quarantine"]["sha256"])
    known = {str(shard["name"]) for shard in manifest["shards"]}
    if len(known) < len(manifest["shards"]):
        raise CheckpointError(f"{folder}: the manifest names a shard twice")
    extra = sorted(
        path.name for path in _files_in(folder / "data") if f"data/{path.name}" not in known
    )
    if extra:
        raise CheckpointError(f"{folder}: data/{extra[0]} is not in the manifest")
    count, turns = 0, 0
    previous = ""
    for row in dataset.rows():
        conversation = dataset.conversation(row)
        if row["id"] == previous:
            raise CheckpointError(f"{folder}: row {row['id']} appears twice")
        if row["source"] not in manifest["sources"]:
            raise CheckpointError(
                f"{folder}: row {row['id']}: source {row['source']!r} is not in the manifest"
            )
        previous = row["id"]
        count += 1
        turns += len(conversation.turns)
    if count != manifest["conversations"]:
        raise CheckpointError(
            f"{folder}: {count} rows, the manifest says {manifest['conversations']}"
        )
    if sum(manifest["tasks"].values()) != count:
        raise CheckpointError(f"{folder}: conversations of tasks do not add up to {count}")
    quarantined = manifest["quarantine"]
    if sum(quarantined["reasons"].values()) != quarantined["rows"]:
        raise CheckpointError(f"{folder}: reasons of the quarantine do not add up")
    for name, source in manifest["sources"].items():
        out = source["used"] + source["used_without_some_records"] + source["quarantined"]
        if out + sum(source["filtered"].values()) != source["images"]:
            raise CheckpointError(f"{folder}: source {name}: images do not add up")
    return {"shards": len(manifest["shards"]), "conversations": count, "turns": turns}


def _check_plan(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Check the plan in a manifest against its digest and against the folder's plan."""
    if json_digest(manifest["plan"]) != manifest["digest"]:
        raise CheckpointError(f"{folder}: the plan in the manifest does not match its digest")
    if not (folder / "plan.json").exists():
        return
    try:
        plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder / 'plan.json'}: damaged: {error}") from error
    if plan != {"digest": manifest["digest"], **manifest["plan"]}:
        raise CheckpointError(f"{folder}: plan.json and the manifest are of different builds")


def _files_in(folder: Path) -> Sequence[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot read: {error.strerror}") from error


def _check_hash(path: Path, expected: str) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path}: missing, the manifest names it")
    try:
        found = sha256_of(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read: {error.strerror}") from error
    if found != expected:
        raise CheckpointError(f"{path}: has changed since it was built (SHA-256 differs)")

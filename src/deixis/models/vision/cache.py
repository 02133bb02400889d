"""A disk cache of features of frozen encoders, with keys made from all inputs of the computation.

The cache is a folder of shards, safetensors files with the features of many images. Shards are
written atomically, and the header of each lists its entries: there is no separate index that could
become inconsistent. Any number of processes may read and write the same folder.
"""

import hashlib
import json
import logging
import os
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from deixis.errors import ModelError, StorageError
from deixis.storage import clear_drafts, make_folder, storing, waited_folder, write_file

FORMAT = "deixis-features-1"
LOG = logging.getLogger(__name__)

TOUCH_SECONDS = 60.0
"""Seconds between updates of a shard's last use, to limit writes."""


@dataclass(slots=True)
class CacheCounts:
    """Cache statistics of one process, in entries; ``evicted`` and ``damaged`` in shards."""

    hits: int = 0
    misses: int = 0
    stored: int = 0
    evicted: int = 0
    damaged: int = 0


class FeatureCache:
    """Named tensors by key on disk, limited to ``max_bytes``.

    Entries are collected in memory until they fill a shard, or until `flush`; a ``with`` block
    flushes at its end. If the folder would exceed its limit, the least recently read shards are
    removed. A damaged shard is removed, counted and logged, and its entries are computed again.

    Args:
        folder: Folder of the shards, used for nothing else; created if missing.
        max_bytes: Limit on the bytes of all shards together.
        shard_bytes: Bytes of tensors after which a shard is written; by default 64 MiB, and at most
            an eighth of the cache.

    Raises:
        ModelError: ``shard_bytes`` is not between 0 and ``max_bytes``.
        StorageError: The folder cannot be created.
    """

    def __init__(
        self, folder: Path, *, max_bytes: int = 20 * 2**30, shard_bytes: int | None = None
    ) -> None:
        if shard_bytes is None:
            shard_bytes = max(1, min(64 * 2**20, max_bytes // 8))
        if not 0 < shard_bytes <= max_bytes:
            raise ModelError(
                f"feature cache: expected 0 < shard_bytes <= max_bytes, got {shard_bytes} and "
                f"{max_bytes}"
            )
        self.folder = folder
        self.max_bytes = max_bytes
        self.shard_bytes = shard_bytes
        self.counts = CacheCounts()
        self._shards = folder / "shards"
        make_folder(self._shards)
        self._lock = threading.RLock()
        self._waiting: dict[str, dict[str, Tensor]] = {}
        self._waiting_bytes = 0
        self._places: dict[str, str] = {}
        self._known: set[str] = set()
        self._touched: dict[str, float] = {}
        self._seen_at = -1

    def __enter__(self) -> "FeatureCache":
        """Return the cache; the end of the block flushes it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write entries that are still in memory."""
        self.flush()

    def get(self, key: str) -> dict[str, Tensor] | None:
        """Return the tensors stored under a key, bit for bit, or None."""
        with self._lock:
            found = self._waiting.get(key)
            if found is None:
                found = self._read(key)
            if found is None:
                self.counts.misses += 1
                return None
            self.counts.hits += 1
            return dict(found)

    def put(self, key: str, parts: Mapping[str, Tensor]) -> None:
        """Store tensors under a key; an existing entry is kept.

        Raises:
            StorageError: They are larger than the limit of the cache, or cannot be written.
        """
        with self._lock:
            if key in self._waiting or key in self._places:
                return
            kept = {name: part.detach().cpu().contiguous().clone() for name, part in parts.items()}
            size = sum(part.numel() * part.element_size() for part in kept.values())
            if size > self.max_bytes:
                raise StorageError(
                    f"{self.folder}: one entry takes {size} bytes, the cache may hold "
                    f"{self.max_bytes}"
                )
            if self._waiting and self._waiting_bytes + size > self.shard_bytes:
                self.flush()
            self._waiting[key] = kept
            self._waiting_bytes += size
            self.counts.stored += 1
            if self._waiting_bytes >= self.shard_bytes:
                self.flush()

    def flush(self) -> None:
        """Write entries that are still in memory as a shard.

        Raises:
            StorageError: The shard cannot be written; existing shards are unchanged.
        """
        with self._lock:
            if not self._waiting:
                return
            keys = sorted(self._waiting)
            name = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:40] + ".safetensors"
            data = _shard(self._waiting)
            with waited_folder(self.folder), storing(self.folder):
                clear_drafts(self._shards)
                target = self._shards / name
                if not target.exists():
                    self._make_room(len(data))
                    write_file(target, data)
            self._known.add(name)
            self._places |= dict.fromkeys(keys, name)
            self._waiting.clear()
            self._waiting_bytes = 0

    @property
    def size(self) -> int:
        """Total bytes of the shards on disk."""
        return sum(size for _, _, size in self._sizes())

    def _read(self, key: str) -> dict[str, Tensor] | None:
        if key not in self._places:
            self._refresh()
        name = self._places.get(key)
        if name is None:
            return None
        try:
            found = _entry(self._shards / name, key)
        except FileNotFoundError:
            # another process evicted the shard
            self._forget(name)
            return None
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            self._drop(name, error)
            return None
        now = time.time()
        if now - self._touched.get(name, 0.0) > TOUCH_SECONDS:
            self._touched[name] = now
            with suppress(OSError):
                os.utime(self._shards / name)
        return found

    def _refresh(self) -> None:
        """Read the entries of shards that other processes added or removed."""
        changed = self._shards.stat().st_mtime_ns
        if changed == self._seen_at:
            return
        self._seen_at = changed
        present = {path.name for path in self._shards.glob("*.safetensors")}
        for name in self._known - present:
            self._forget(name)
        for name in sorted(present - self._known):
            try:
                keys = _keys(self._shards / name)
            except FileNotFoundError:
                continue
            except (OSError, SafetensorError, ValueError, KeyError) as error:
                self._drop(name, error)
                continue
            self._known.add(name)
            self._places |= dict.fromkeys(keys, name)

    def _forget(self, name: str) -> None:
        self._known.discard(name)
        self._touched.pop(name, None)
        self._places = {key: place for key, place in self._places.items() if place != name}

    def _drop(self, name: str, error: Exception) -> None:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        LOG.warning("feature cache: shard %s is damaged and removed: %s", name, reason)
        self.counts.damaged += 1
        self._forget(name)
        with suppress(OSError):
            (self._shards / name).unlink(missing_ok=True)

    def _sizes(self) -> list[tuple[int, str, int]]:
        found = []
        for path in self._shards.glob("*.safetensors"):
            with suppress(FileNotFoundError):
                stat = path.stat()
                found.append((stat.st_mtime_ns, path.name, stat.st_size))
        return sorted(found)

    def _make_room(self, needed: int) -> None:
        if needed > self.max_bytes:
            raise StorageError(
                f"{self.folder}: a shard takes {needed} bytes, the cache may hold {self.max_bytes}"
            )
        sizes = self._sizes()
        total = sum(size for _, _, size in sizes)
        for _, name, size in sizes:
            if total + needed <= self.max_bytes:
                return
            (self._shards / name).unlink(missing_ok=True)
            self._forget(name)
            self.counts.evicted += 1
            total -= size


def tensor_bytes(tensor: Tensor) -> bytes:
    """Return the bytes of a tensor's values in row-major order, for any dtype."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()


def _shard(entries: Mapping[str, Mapping[str, Tensor]]) -> bytes:
    tensors = {
        f"{key}/{name}": part
        for key, parts in sorted(entries.items())
        for name, part in sorted(parts.items())
    }
    sums = {name: zlib.crc32(tensor_bytes(part)) for name, part in tensors.items()}
    # one field only: safetensors writes several in arbitrary order
    return save(tensors, metadata={FORMAT: json.dumps(sums)})


def _keys(path: Path) -> set[str]:
    with _opened(path) as file:
        _sums(file.metadata())
        return {name.partition("/")[0] for name in file.keys()}  # noqa: SIM118  # no mapping


def _entry(path: Path, key: str) -> dict[str, Tensor]:
    with _opened(path) as file:
        sums = _sums(file.metadata())
        parts: dict[str, Tensor] = {}
        for name, crc32 in sums.items():
            if name.startswith(f"{key}/"):
                part = file.get_tensor(name)
                if zlib.crc32(tensor_bytes(part)) != crc32:
                    raise ValueError(f"{name} has changed since it was written")
                parts[name.removeprefix(f"{key}/")] = part
    if not parts:
        raise KeyError(key)
    return parts


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise FileNotFoundError(path)
    with safe_open(path, framework="pt") as file:
        yield file


def _sums(metadata: Mapping[str, str] | None) -> dict[str, int]:
    if metadata is None or FORMAT not in metadata:
        raise ValueError(f"not a shard of format {FORMAT}")
    return {str(name): int(crc32) for name, crc32 in json.loads(metadata[FORMAT]).items()}

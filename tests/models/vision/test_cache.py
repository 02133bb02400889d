import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ending import ended, in_child

from deixis.errors import ModelError, StorageError
from deixis.models.vision.cache import FeatureCache

KEYS = [f"{number:064x}" for number in range(100)]


def parts(number: int, *, size: int = 256) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(number)
    return {
        "tokens": torch.randn(size, generator=generator),
        "half": torch.randn(2, 3, generator=generator).bfloat16(),
    }


def same(one: dict[str, torch.Tensor] | None, other: dict[str, torch.Tensor]) -> bool:
    return (
        one is not None
        and one.keys() == other.keys()
        and all(torch.equal(one[k], other[k]) and one[k].dtype == other[k].dtype for k in one)
    )


def shards(folder: Path) -> list[Path]:
    return sorted((folder / "shards").iterdir())


def test_entries_are_returned_bit_for_bit_from_memory_and_disk(tmp_path: Path) -> None:
    special = {"odd": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45])}
    with FeatureCache(tmp_path) as cache:
        cache.put(KEYS[0], parts(0))
        cache.put(KEYS[1], special)
        assert same(cache.get(KEYS[0]), parts(0))
        assert not shards(tmp_path)
    fresh = FeatureCache(tmp_path)
    assert same(fresh.get(KEYS[0]), parts(0))
    found = fresh.get(KEYS[1])
    assert found is not None
    assert torch.equal(found["odd"].view(torch.int32), special["odd"].view(torch.int32))
    assert fresh.get(KEYS[2]) is None
    assert (fresh.counts.hits, fresh.counts.misses) == (2, 1)


def test_shards_are_written_when_they_are_full(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, shard_bytes=4 * 1040)
    for number in range(10):
        cache.put(KEYS[number], parts(number))
    assert len(shards(tmp_path)) == 2
    cache.flush()
    cache.flush()
    assert len(shards(tmp_path)) == 3
    fresh = FeatureCache(tmp_path)
    assert all(same(fresh.get(KEYS[n]), parts(n)) for n in range(10))
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_key_is_stored_once_and_the_same_keys_make_the_same_file(tmp_path: Path) -> None:
    for folder in (tmp_path / "a", tmp_path / "b"):
        with FeatureCache(folder) as cache:
            for number in (2, 0, 1) if folder.name == "a" else (1, 2, 0):
                cache.put(KEYS[number], parts(number))
            cache.put(KEYS[0], parts(7))
            assert cache.counts.stored == 3
    (one,), (other,) = shards(tmp_path / "a"), shards(tmp_path / "b")
    assert one.name == other.name
    assert one.read_bytes() == other.read_bytes()


def test_entries_of_other_processes_are_found(tmp_path: Path) -> None:
    reader = FeatureCache(tmp_path)
    assert reader.get(KEYS[0]) is None
    with FeatureCache(tmp_path) as writer:
        writer.put(KEYS[0], parts(0))
    assert same(reader.get(KEYS[0]), parts(0))


def test_the_cache_stays_within_its_limit_and_evicts_the_least_recently_read(
    tmp_path: Path,
) -> None:
    bound = 12_000
    cache = FeatureCache(tmp_path, max_bytes=bound, shard_bytes=1100)
    for number in range(4):
        cache.put(KEYS[number], parts(number))
        cache.flush()
    for age, number in enumerate((1, 2, 3, 0)):
        name = cache._places[KEYS[number]]
        os.utime(tmp_path / "shards" / name, (age + 1, age + 1))
    assert same(FeatureCache(tmp_path, max_bytes=bound).get(KEYS[1]), parts(1))
    for number in range(4, 12):
        cache.put(KEYS[number], parts(number))
        cache.flush()
        assert sum(path.stat().st_size for path in shards(tmp_path)) == cache.size <= bound
    assert cache.counts.evicted > 0
    assert cache.get(KEYS[2]) is None
    assert same(cache.get(KEYS[11]), parts(11))
    kept = [n for n in range(12) if cache.get(KEYS[n]) is not None]
    assert len(kept) == 12 - cache.counts.evicted
    assert kept[-3:] == [9, 10, 11]


def test_reading_a_shard_delays_its_eviction(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, max_bytes=4_200, shard_bytes=1100)
    for number in range(2):
        cache.put(KEYS[number], parts(number))
        cache.flush()
    for number in range(2):
        os.utime(tmp_path / "shards" / cache._places[KEYS[number]], (number + 1, number + 1))
    assert cache.get(KEYS[0]) is not None
    cache.put(KEYS[2], parts(2))
    cache.flush()
    assert cache.get(KEYS[0]) is not None
    assert cache.get(KEYS[1]) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:0],
        lambda data: data[:40],
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: b"\xff" * len(data),
        lambda data: data[:-100] + bytes([data[-100] ^ 1]) + data[-99:],
        lambda data: data.replace(b"deixis-features-1", b"deixis-features-9"),
    ],
)
def test_a_damaged_shard_is_removed_and_counted(
    damage: Callable[[bytes], bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with FeatureCache(tmp_path) as cache:
        for number in range(3):
            cache.put(KEYS[number], parts(number))
    (shard,) = shards(tmp_path)
    shard.write_bytes(damage(shard.read_bytes()))
    fresh = FeatureCache(tmp_path)
    with caplog.at_level(logging.WARNING):
        found = [fresh.get(KEYS[number]) for number in range(3)]
    assert all(one is None or same(one, parts(n)) for n, one in enumerate(found))
    assert None in found
    assert fresh.counts.damaged == 1
    assert "damaged and removed" in caplog.text
    assert not shards(tmp_path)
    fresh.put(KEYS[0], parts(0))
    fresh.flush()
    assert same(FeatureCache(tmp_path).get(KEYS[0]), parts(0))


def test_a_shard_evicted_by_another_process_is_a_miss(tmp_path: Path) -> None:
    with FeatureCache(tmp_path) as cache:
        cache.put(KEYS[0], parts(0))
    for shard in shards(tmp_path):
        shard.unlink()
    assert cache.get(KEYS[0]) is None
    assert cache.counts.damaged == 0


def test_concurrent_writers_lose_nothing_and_keep_the_limit(tmp_path: Path) -> None:
    bound = 40_000

    def work(offset: int) -> None:
        cache = FeatureCache(tmp_path, max_bytes=bound, shard_bytes=2300)
        for number in range(20):
            wanted = (offset + number) % 20
            found = cache.get(KEYS[wanted])
            assert found is None or same(found, parts(wanted))
            if found is None:
                cache.put(KEYS[wanted], parts(wanted))
        cache.flush()
        assert cache.counts.damaged == 0

    children = [in_child(lambda at=at: work(at)) for at in (0, 5, 10, 15)]  # type: ignore[misc]  # bound at once
    assert [ended(child) for child in children] == [0, 0, 0, 0]
    fresh = FeatureCache(tmp_path, max_bytes=bound)
    assert fresh.size <= bound
    for number in range(20):
        found = fresh.get(KEYS[number])
        assert found is None or same(found, parts(number))
    assert fresh.counts.hits > 0
    assert fresh.counts.damaged == 0


def test_a_killed_writer_leaves_whole_shards_and_no_lock(tmp_path: Path) -> None:
    def work() -> None:
        cache = FeatureCache(tmp_path, shard_bytes=1100)
        for number in range(100):
            cache.put(KEYS[number], parts(number))

    for _ in range(3):
        child = in_child(work)
        while not list(tmp_path.glob("shards/*")):
            time.sleep(0.001)
        os.kill(child, signal.SIGKILL)
        assert ended(child) == -signal.SIGKILL
    (tmp_path / "shards" / ".x.safetensors.0123abcd.tmp").write_bytes(b"half of a shard")
    cache = FeatureCache(tmp_path, shard_bytes=1100)
    held = [n for n in range(100) if cache.get(KEYS[n]) is not None]
    assert all(same(cache.get(KEYS[n]), parts(n)) for n in held)
    assert cache.counts.damaged == 0
    cache.put("f" * 64, parts(5))
    cache.flush()
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_failed_write_is_a_storage_error_and_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FeatureCache(tmp_path)
    cache.put(KEYS[0], parts(0))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            StorageError, match="safetensors: cannot write: no space left on device"
        ):
            cache.flush()
    assert not shards(tmp_path)
    assert not list(tmp_path.rglob("*.tmp"))
    assert same(cache.get(KEYS[0]), parts(0))
    cache.flush()
    assert same(FeatureCache(tmp_path).get(KEYS[0]), parts(0))


def test_impossible_limits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected 0 < shard_bytes <= max_bytes, got 10 and 5"):
        FeatureCache(tmp_path, max_bytes=5, shard_bytes=10)
    small = FeatureCache(tmp_path, max_bytes=5000, shard_bytes=5000)
    with pytest.raises(StorageError, match="one entry takes 8012 bytes, the cache may hold 5000"):
        small.put(KEYS[0], parts(0, size=2000))
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file/shards: cannot write: not a directory"):
        FeatureCache(tmp_path / "file")


def test_a_shard_larger_than_the_cache_is_refused(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, max_bytes=5600, shard_bytes=5600)
    for number in range(5):
        cache.put(KEYS[number], parts(number))
    with pytest.raises(StorageError, match=r"a shard takes .* bytes, the cache may hold 5600"):
        cache.flush()

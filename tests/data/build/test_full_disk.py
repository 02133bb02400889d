"""A disk that fills up during a build gives one storage error and leaves no partial files."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from annotated import bytes_of, line, plan_of, write_lines
from ending import short_files

from deixis.cli.app import main
from deixis.data.build import build
from deixis.data.build.index import make_index, read_block
from deixis.errors import CheckpointError, StorageError


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("disk") / "lines.jsonl"
    return write_lines(path, [line(number) for number in range(12)])


@pytest.mark.parametrize("limit", [0, 1000, 8000])
@pytest.mark.parametrize("known", [False, True])
def test_a_full_disk_during_indexing_leaves_the_folder_unchanged(
    lines: Path, tmp_path: Path, limit: int, *, known: bool
) -> None:
    out = tmp_path / "out"
    if known:
        out.mkdir()
    with short_files(limit), pytest.raises(StorageError, match=r"file too large|File too large"):
        build(plan_of(f"jsonl:{lines}"), out)
    assert list(tmp_path.rglob("*")) == ([out] if known else [])


def test_the_command_exits_with_4(
    lines: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    job = ["data", "build", "caption", "--source", f"jsonl:{lines}", "--out", str(out)]
    with short_files(8000):
        code = main([*job, "--no-check-images", "--workers", "1"])
    assert code == 4
    assert "sorting failed" in capfd.readouterr().err.splitlines()[-1]


def test_finished_shards_are_kept(lines: Path, tmp_path: Path) -> None:
    plan = plan_of(f"jsonl:{lines}", tasks="caption", shard_images=6)
    build(plan, tmp_path / "whole")
    out = tmp_path / "out"
    largest = max(path.stat().st_size for path in (tmp_path / "whole" / "data").iterdir())
    make_index(plan, tmp_path / "elsewhere")
    out.mkdir()
    (out / ".build").mkdir()
    (tmp_path / "elsewhere").rename(out / ".build" / "index")
    with short_files(largest - 1), pytest.raises(StorageError, match=r"train-.*file too large"):
        build(plan, out)
    assert (out / "plan.json").exists()
    assert not list(out.rglob("*.tmp"))
    build(plan, out)
    assert bytes_of(out) == bytes_of(tmp_path / "whole")


def test_a_folder_may_have_a_quote_in_its_name(lines: Path, tmp_path: Path) -> None:
    assert build(plan_of(f"jsonl:{lines}", tasks="caption"), tmp_path / "it's'").manifest


@pytest.mark.parametrize("text", ["", "[]", '{"blocks": {}, "counts": 1}'])
def test_a_damaged_index_is_made_again(lines: Path, tmp_path: Path, text: str) -> None:
    plan = plan_of(f"jsonl:{lines}")
    first = make_index(plan, tmp_path / "index")
    (tmp_path / "index" / "index.json").write_text(text)
    assert make_index(plan, tmp_path / "index") == first
    assert len(list(read_block(first.block(0)))) == 12


@pytest.mark.parametrize("name", ["place", "payload"])
def test_a_block_with_a_flipped_bit_is_named(lines: Path, tmp_path: Path, name: str) -> None:
    path = make_index(plan_of(f"jsonl:{lines}"), tmp_path / "index").block(0)
    data = bytearray(path.read_bytes())
    with pq.ParquetFile(path) as file:
        group = file.metadata.row_group(0)
        column = group.column(file.schema_arrow.names.index(name))
        # the values of a page come last, after its headers
        first = column.dictionary_page_offset or column.data_page_offset
    data[first + column.total_compressed_size - 4] ^= 4
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"block-000000.parquet: cannot read: .*\nhint: "):
        list(read_block(path))

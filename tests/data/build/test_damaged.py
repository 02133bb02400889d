"""Every reader of a damaged data set raises one typed error."""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from annotated import line, plan_of, write_lines
from PIL import Image

from deixis.cli.app import main
from deixis.cli.dataset_page import choose_rows, contact_sheet, view_page
from deixis.data.build import BuiltDataset, build, verify
from deixis.data.dataset_report import report
from deixis.errors import AnnotationError, CheckpointError, DeixisError
from deixis.storage import sha256_of

SHARD = "data/train-00000-of-00002.parquet"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged")
    lines = write_lines(folder / "lines.jsonl", [line(number) for number in range(10)])
    for number in range(10):
        Image.new("RGB", (200, 100)).save(folder / f"{number:06d}.png")
    build(plan_of(f"jsonl:{lines}", tasks="detection,caption", shard_images=5), folder / "set")
    return folder / "set"


@pytest.fixture
def damaged(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "set"))


def change_manifest(folder: Path, change: Callable[[Any], object]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def change_rows(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the first row of the first shard, and the digest in the manifest."""
    path = folder / SHARD
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows[0])
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)

    def note(manifest: Any) -> None:
        manifest["shards"][0]["sha256"] = sha256_of(path)

    change_manifest(folder, note)


def readers(folder: Path) -> list[Callable[[], object]]:
    def rows() -> list[dict[str, Any]]:
        return choose_rows(BuiltDataset(folder), task=None, source=None, count=50, seed=0)

    return [
        lambda: verify(folder),
        lambda: report(BuiltDataset(folder)),
        lambda: view_page(BuiltDataset(folder), rows()[:1]),
        lambda: contact_sheet(BuiltDataset(folder), rows()[:1]),
        lambda: [BuiltDataset(folder)[number] for number in range(3)],
    ]


def test_every_reader_reads_an_undamaged_data_set(whole: Path) -> None:
    for read in readers(whole):
        assert read()


MANIFESTS: dict[str, tuple[Callable[[Any], object], str]] = {
    "no shards": (lambda one: one.pop("shards"), "no 'shards'"),
    "no sources": (lambda one: one.pop("sources"), "no 'sources'"),
    "no plan": (lambda one: one.pop("plan"), "no 'plan'"),
    "no quarantine": (lambda one: one.pop("quarantine"), "no 'quarantine'"),
    "no conversations": (lambda one: one.pop("conversations"), "no 'conversations'"),
    "no rows": (lambda one: one["shards"][0].pop("rows"), r"shards\[0\]: no 'rows'"),
    "no root": (lambda one: one["sources"]["jsonl"].pop("root"), "jsonl.*no 'root'"),
    "no filter": (lambda one: one["sources"]["jsonl"]["filtered"].clear(), "no_task_applies"),
    "a shard that is a text": (
        lambda one: one["shards"].append("x"),
        r"shards\[2\]: expected a JSON object",
    ),
    "a negative count": (
        lambda one: one["shards"][0].update(rows=-1),
        r"shards\[0\]: rows: expected a count, got -1",
    ),
    "a count that is true": (lambda one: one.update(conversations=True), "expected a count"),
    "shards that are an object": (lambda one: one.update(shards={}), "shards: expected a list"),
    "a shard elsewhere": (
        lambda one: one["shards"][0].update(name="data/../../x.parquet"),
        "expected data/NAME",
    ),
    "an absolute shard": (lambda one: one["shards"][0].update(name="/etc/passwd"), "data/NAME"),
    "reasons that are texts": (
        lambda one: one["quarantine"].update(reasons={"x": "y"}),
        "quarantine.reasons.'x': expected a count",
    ),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_reader_refuses_an_incomplete_manifest(damaged: Path, name: str) -> None:
    change, reason = MANIFESTS[name]
    change_manifest(damaged, change)
    for read in readers(damaged):
        with pytest.raises(CheckpointError, match=rf"manifest.json: damaged: .*{reason}"):
            read()


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"plan": 1}', "[" * 100_000, "\ud800"])
def test_an_invalid_manifest_is_refused(damaged: Path, text: str) -> None:
    (damaged / "manifest.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CheckpointError, match=r"manifest.json: damaged: "):
        BuiltDataset(damaged)


def test_a_later_version_is_named(damaged: Path) -> None:
    change_manifest(damaged, lambda one: one["plan"].update(version="2"))
    with pytest.raises(AnnotationError, match="version '2', expected 1"):
        BuiltDataset(damaged)


COUNTS: dict[str, tuple[Callable[[Any], object], str]] = {
    "conversations": (lambda one: one.update(conversations=3), "rows, the manifest says 3"),
    "tasks": (lambda one: one["tasks"].update(caption=0), "tasks do not add up"),
    "images": (lambda one: one["sources"]["jsonl"].update(images=7), "images do not add up"),
    "quarantine": (lambda one: one["quarantine"].update(rows=7), "quarantine do not add up"),
    "plan": (lambda one: one["plan"].update(seed=9), "does not match its digest"),
    "twice": (lambda one: one["shards"].append(one["shards"][0]), "names a shard twice"),
    "sources": (
        lambda one: one["sources"].clear(),
        "'jsonl' is not in the manifest|no root|folder",
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_verify_finds_wrong_counts(damaged: Path, name: str) -> None:
    change, reason = COUNTS[name]
    change_manifest(damaged, change)
    with pytest.raises(CheckpointError, match=reason):
        verify(damaged)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"digest": 1}'])
def test_verify_finds_a_damaged_plan(damaged: Path, text: str) -> None:
    (damaged / "plan.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"plan\.json.*: damaged|of different builds"):
        verify(damaged)


@pytest.mark.parametrize("by", [-1, 1])
def test_every_reader_finds_a_wrong_number_of_rows(damaged: Path, by: int) -> None:
    def shift(manifest: Any) -> None:
        manifest["shards"][0]["rows"] += by

    change_manifest(damaged, shift)
    for read in readers(damaged):
        with pytest.raises(CheckpointError, match=r"\d+ rows, the manifest says \d+"):
            read()


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("what", ["flip", "cut"])
def test_readers_find_a_flipped_bit_and_a_truncated_file(
    damaged: Path, share: float, what: str
) -> None:
    path = damaged / SHARD
    data = bytearray(path.read_bytes())
    at = int(share * len(data))
    if what == "flip":
        data[at] ^= 16
    else:
        del data[at:]
    path.write_bytes(data)
    check, *others = readers(damaged)
    with pytest.raises(CheckpointError, match="has changed since"):
        check()
    for read in others:
        with suppress(CheckpointError):
            read()
    if what == "cut":
        with pytest.raises(CheckpointError, match="cannot read"):
            report(BuiltDataset(damaged))


def test_checksums_find_every_flipped_bit_of_a_page(damaged: Path) -> None:
    path = damaged / SHARD
    data = path.read_bytes()
    column = pq.ParquetFile(path).metadata.row_group(0).column(12)
    start = column.dictionary_page_offset or column.data_page_offset
    # pages begin and end with Thrift headers, which have no checksum
    for at in range(start + 60, start + column.total_compressed_size - 60, 97):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(CheckpointError, match="cannot read"):
            list(BuiltDataset(damaged).rows())


@pytest.mark.parametrize("name", [SHARD, "quarantine.parquet"])
def test_a_missing_file_is_named(damaged: Path, name: str) -> None:
    (damaged / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: missing, the manifest names it"):
        verify(damaged)


def test_a_folder_without_shards_is_named(damaged: Path) -> None:
    shutil.rmtree(damaged / "data")
    for read in readers(damaged):
        with pytest.raises(CheckpointError, match=r"missing|cannot read"):
            read()


ROWS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "turns of another kind": (lambda row: row.update(turns='{"a": 1}'), "turns"),
    "turns cut off": (lambda row: row.update(turns=row["turns"][:-9]), "turns"),
    "turns of numbers": (lambda row: row.update(turns="[1, 2]"), "turns"),
    "a question of numbers": (
        lambda row: row.update(turns='[{"task": "caption", "question": [7]}]'),
        "turns",
    ),
    "an answer of a number": (
        lambda row: row.update(turns='[{"task": "c", "question": ["a"], "answer": {"text": 7}}]'),
        "turns",
    ),
    "a task that is a list": (
        lambda row: row.update(turns='[{"task": [], "question": ["a"]}]'),
        "turns",
    ),
    "a box of three": (
        lambda row: row.update(turns='[{"task": "c", "question": [{"box": [1, 2, 3]}]}]'),
        "turns",
    ),
    "an unknown region": (
        lambda row: row.update(turns='[{"task": "c", "question": [{}]}]'),
        "turns",
    ),
    "no turns": (lambda row: row.update(turns=None), "a row without 'turns'"),
    "no task": (lambda row: row.update(task=None), "a row without 'task'"),
    "null among the tasks": (lambda row: row.update(tasks=[None]), "a row without 'tasks'"),
    "a negative height": (lambda row: row.update(height=-5), "a row of height -5"),
    "no width": (lambda row: row.update(width=0), "a row of width 0"),
    "an endless width": (lambda row: row.update(width=2**31 - 1), "width"),
    "a name that leads out": (
        lambda row: row["image"].update(path="../../x.png"),
        "'../../x.png' is not a name inside",
    ),
    "an absolute name": (lambda row: row["image"].update(path="/etc/x"), "not a name inside"),
    "no image": (lambda row: row.update(image={"bytes": None, "path": None}), "neither an image"),
    "no image at all": (lambda row: row.update(image=None), "neither an image"),
    "an unknown source": (lambda row: row.update(source="other"), "folder|not in the manifest"),
}


@pytest.mark.parametrize("name", ROWS)
def test_verify_finds_a_damaged_row_and_readers_raise_typed_errors(
    damaged: Path, name: str
) -> None:
    change, reason = ROWS[name]
    change_rows(damaged, change)
    check, *others = readers(damaged)
    with pytest.raises(CheckpointError, match=reason):
        check()
    for read in others:
        with suppress(DeixisError):
            read()
    with pytest.raises(CheckpointError, match=reason):
        assert BuiltDataset(damaged)[0].turns


def test_a_link_that_leaves_the_image_folder_is_not_read(damaged: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "out.png").write_bytes(b"secret")
    root.mkdir()
    (root / "sub").symlink_to(tmp_path / "elsewhere")
    change_rows(damaged, lambda row: row["image"].update(path="sub/deep/out.png"))
    with pytest.raises(CheckpointError, match=r"out\.png: a link that leads out"):
        assert BuiltDataset(damaged, roots={"jsonl": root})[0].turns


@pytest.mark.parametrize("command", ["check", "report", "view"])
def test_commands_exit_with_7_and_a_one_line_error(
    damaged: Path, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_manifest(damaged, lambda one: one["shards"][0].pop("sha256"))
    more = ["--out", str(tmp_path / "page.html")] if command == "view" else []
    assert main(["data", command, str(damaged), *more]) == 7
    ended = capsys.readouterr()
    assert len(ended.err.splitlines()) == 1
    assert "shards[0]: no 'sha256'" in ended.err


def test_a_build_with_a_damaged_manifest_is_not_finished(
    tmp_path: Path,
) -> None:
    lines = write_lines(tmp_path / "lines.jsonl", [line(number) for number in range(3)])
    build(plan_of(f"jsonl:{lines}", tasks="caption"), tmp_path / "out")
    (tmp_path / "out" / "manifest.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"manifest.json: damaged"):
        build(plan_of(f"jsonl:{lines}", tasks="caption"), tmp_path / "out")

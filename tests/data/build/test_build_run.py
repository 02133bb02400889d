import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from annotated import bytes_of, line, plan_of, write_lines

from deixis.data.build import Budget, BuiltDataset, build, verify
from deixis.errors import (
    AnnotationError,
    BudgetError,
    CheckpointError,
    LockedError,
    RecipeError,
    StorageError,
)


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "lines.jsonl", [line(number) for number in range(160)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """Return annotations and the bytes of their uninterrupted build."""
    folder = tmp_path_factory.mktemp("whole")
    path = write_lines(folder / "lines.jsonl", [line(number) for number in range(160)])
    build(plan_of(f"jsonl:{path}"), folder / "out")
    return path, bytes_of(folder / "out")


def test_every_image_and_record_is_counted(lines: Path, tmp_path: Path) -> None:
    result = build(plan_of(f"jsonl:{lines}"), tmp_path / "out")
    source = result.manifest["sources"]["jsonl"]
    assert source["images"] == 160 == source["used"]
    assert source["quarantined"] == 0
    assert len(result.manifest["shards"]) == 8
    assert verify(tmp_path / "out")["conversations"] == result.manifest["conversations"] > 640
    assert sum(result.manifest["tasks"].values()) == result.manifest["conversations"]
    assert not (tmp_path / "out" / ".build").exists()


def test_stored_conversations_read_back_unchanged(lines: Path, tmp_path: Path) -> None:
    build(plan_of(f"jsonl:{lines}", tasks="detection,segmentation,reg,caption"), tmp_path / "out")
    dataset = BuiltDataset(tmp_path / "out", roots={"jsonl": tmp_path})
    kinds = set()
    for index in range(0, len(dataset), 7):
        conversation = dataset[index]
        assert conversation.id == dataset.row(index)["id"]
        assert conversation.image == tmp_path / dataset.row(index)["image"]["path"]
        for turn in conversation.turns:
            kinds.add(turn.task)
            assert turn.answer is not None
            for phrase in turn.answer.phrases:
                for mask in phrase.masks:
                    assert mask.size == conversation.size
                    assert not mask.is_empty
    assert kinds == {"detection", "segmentation", "reg", "caption"}
    captions = [row for row in dataset.rows() if row["task"] == "caption"]
    assert "literal <REF> and “quotes”" in captions[0]["turns"]


def test_the_number_of_workers_does_not_change_the_bytes(lines: Path, tmp_path: Path) -> None:
    for workers in (1, 3):
        build(plan_of(f"jsonl:{lines}"), tmp_path / str(workers), workers=workers)
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / "3")


def test_the_order_of_the_file_does_not_change_the_bytes(lines: Path, tmp_path: Path) -> None:
    build(plan_of(f"jsonl:{lines}"), tmp_path / "out")
    written = lines.read_text().splitlines()
    np.random.default_rng(1).shuffle(written)
    (tmp_path / "other").mkdir()
    shuffled = write_lines(tmp_path / "other" / "lines.jsonl", written)
    build(plan_of(f"jsonl:{shuffled}"), tmp_path / "shuffled")
    first, second = bytes_of(tmp_path / "out"), bytes_of(tmp_path / "shuffled")
    assert {name: data for name, data in first.items() if name.startswith("data/")} == {
        name: data for name, data in second.items() if name.startswith("data/")
    }


def test_another_seed_gives_other_questions(lines: Path, tmp_path: Path) -> None:
    build(plan_of(f"jsonl:{lines}", seed=1), tmp_path / "one")
    build(plan_of(f"jsonl:{lines}", seed=2), tmp_path / "two")
    rows = [
        [row["turns"] for row in BuiltDataset(tmp_path / name).rows()] for name in ("one", "two")
    ]
    assert rows[0] != rows[1]


def test_other_tasks_do_not_change_the_choices_of_a_task(lines: Path, tmp_path: Path) -> None:
    build(plan_of(f"jsonl:{lines}", tasks="detection"), tmp_path / "alone")
    build(plan_of(f"jsonl:{lines}", tasks="rec,caption,detection,count"), tmp_path / "beside")

    def detections(name: str) -> list[str]:
        rows = BuiltDataset(tmp_path / name).rows()
        return [row["turns"] for row in rows if row["task"] == "detection"]

    assert detections("alone") == detections("beside")


def test_bad_lines_do_not_change_the_rows_of_good_lines(tmp_path: Path) -> None:
    good = [line(number) for number in range(240)]
    build(plan_of(f"jsonl:{write_lines(tmp_path / 'clean.jsonl', good)}"), tmp_path / "clean")
    bad: list[dict[str, object] | str] = [
        '{"id": "x-1", "image": "a.png", "width": 200',
        line(9001, objects=[{"category": "cat", "box": [1, 2, "3", 4]}]),
        line(9002, image="../../etc/passwd"),
        line(9003, width=-5),
        line(9004, objects=[{"category": "cat", "box": [10, 10, 10, 20]}]),
        line(9005, captions=[3]),
        line(9006, surprise=1),
        '{"id": "x-7", "image": "b.png", "width": NaN, "height": 3}',
        line(9008, expressions=[{"text": "it", "objects": [77]}]),
        "[]",
    ]
    mixed: list[dict[str, object] | str] = [*good]
    for place, one in enumerate(bad):
        mixed.insert(place * 23, one)
    result = build(
        plan_of(f"jsonl:{write_lines(tmp_path / 'mixed.jsonl', mixed)}"),
        tmp_path / "mixed",
        budget=Budget(share=0.06),
    )
    sound = {str(one["id"]) for one in good}

    def rows(name: str) -> list[dict[str, object]]:
        return [
            {key: value for key, value in row.items() if key != "source"}
            for row in BuiltDataset(tmp_path / name).rows()
            if str(row["id"]).split("/")[1] in sound
        ]

    assert rows("mixed") == rows("clean")
    table = pq.read_table(tmp_path / "mixed" / "quarantine.parquet").to_pylist()
    assert len({row["key"] or row["place"] for row in table}) == len(bad)
    assert {row["code"] for row in table} == {
        *("bad_json", "bad_number", "path_escape", "box_degenerate", "bad_record"),
        "unknown_annotation",
    }
    assert all("line" in row["place"] for row in table)
    source = result.manifest["sources"]["jsonl"]
    assert source["images"] + 2 == 250  # two lines name no image
    assert source["quarantined"] == 4
    assert source["used_without_some_records"] == 4


@pytest.mark.slow
def test_hostile_lines_do_not_change_thousands_of_good_ones(tmp_path: Path) -> None:
    script = Path(__file__).parent / "many_lines.py"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(  # noqa: S603
        [sys.executable, script, tmp_path, "8000"],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    found = json.loads(ended.stdout)
    assert found["same"]
    assert found["rows"] > 11_000
    assert found["found"] == found["expected"]
    source = found["source"]
    fates = ("used", "used_without_some_records", "quarantined", "filtered")
    assert source["images"] == sum(source[fate] for fate in fates)
    assert source["records"] == 8_000 + sum(found["expected"].values()) + 2 * 3


def test_problems_without_an_image_count_against_the_whole_source(tmp_path: Path) -> None:
    # 1% of all images, but more than 1% of the first shard
    lines: list[dict[str, object] | str] = [line(number) for number in range(500)]
    path = write_lines(tmp_path / "lines.jsonl", [*["[]"] * 5, *lines])
    build(plan_of(f"jsonl:{path}"), tmp_path / "out")
    path = write_lines(tmp_path / "more.jsonl", [*["[]"] * 6, *lines])
    with pytest.raises(BudgetError, match="6 of 506 images have problems"):
        build(plan_of(f"jsonl:{path}"), tmp_path / "more")


def test_an_image_with_a_problem_is_not_exhaustive(tmp_path: Path) -> None:
    broken = line(4, objects=[*line(4)["objects"], {"category": 5, "box": [5, 5, 5, 5]}])
    path = write_lines(tmp_path / "lines.jsonl", [broken])
    build(plan_of(f"jsonl:{path}", tasks="count,detection,rec"), tmp_path / "out")
    assert [row["task"] for row in BuiltDataset(tmp_path / "out").rows()] == ["rec"]


def test_a_problem_of_a_known_class_affects_only_that_class(tmp_path: Path) -> None:
    broken = line(4, objects=[*line(4)["objects"], {"category": "cat", "box": [5, 5, 5, 5]}])
    path = write_lines(tmp_path / "lines.jsonl", [broken])
    build(plan_of(f"jsonl:{path}", tasks="count*20,detection_all"), tmp_path / "out")
    dataset = BuiltDataset(tmp_path / "out")
    turns = [turn for number in range(len(dataset)) for turn in dataset[number].turns]
    answers = {turn.answer.text for turn in turns if turn.answer is not None}
    assert answers == {f"There is one {name}." for name in ("dog", "cup", "chair", "tree")}


def test_a_source_over_its_budget_stops_the_build(tmp_path: Path) -> None:
    lines = [line(number) for number in range(300)]
    for number in range(0, 300, 20):
        lines[number]["width"] = "wide"
    path = write_lines(tmp_path / "lines.jsonl", lines)
    plan = plan_of(f"jsonl:{path}")
    with pytest.raises(BudgetError) as error:
        build(plan, tmp_path / "out")
    assert "bad_number" in str(error.value)
    assert str(error.value).count("lines.jsonl: line") == 5
    assert not (tmp_path / "out" / "manifest.json").exists()
    with pytest.raises(AnnotationError, match="not finished"):
        BuiltDataset(tmp_path / "out")
    # finished shards are kept, and a larger budget finishes the build
    result = build(plan, tmp_path / "out", budget=Budget(share=0.1))
    assert result.manifest["sources"]["jsonl"]["quarantined"] == 15


_CHILD = """
import os, sys
sys.path[:0] = [{tests!r}]
from pathlib import Path
from annotated import plan_of
from deixis.data.build import build
left = {after}
replace = Path.replace
def counted(self, target):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), 9)
    return replace(self, target)
Path.replace = counted
build(plan_of("jsonl:{lines}"), Path({out!r}))
"""


@pytest.mark.parametrize("after", [0, 1, 2, 5, 8, 13, 18, 19])
def test_a_build_that_is_killed_ends_with_the_same_bytes(
    tmp_path: Path, whole: tuple[Path, dict[str, bytes]], after: int
) -> None:
    lines, expected = whole
    script = _CHILD.format(
        tests=str(Path(__file__).parents[2]), after=after, lines=lines, out=str(tmp_path / "out")
    )
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, check=False, capture_output=True)  # noqa: S603
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()[-400:]
    build(plan_of(f"jsonl:{lines}"), tmp_path / "out")
    assert bytes_of(tmp_path / "out") == expected


def test_a_build_killed_at_any_time_ends_with_the_same_bytes(tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "lines.jsonl", [line(number) for number in range(1000)])
    build(plan_of(f"jsonl:{lines}"), tmp_path / "whole")
    script = (
        f"import sys; sys.path[:0] = [{str(Path(__file__).parents[2])!r}]\n"
        "from pathlib import Path\n"
        "from annotated import plan_of\n"
        "from deixis.data.build import build\n"
        "if __name__ == '__main__':\n"
        f"    build(plan_of('jsonl:{lines}'), Path({str(tmp_path / 'out')!r}), workers=2)\n"
    )
    child = tmp_path / "child.py"
    child.write_text(script)
    dice = np.random.default_rng(3)
    for _ in range(3):
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, str(child)], start_new_session=True
        )
        time.sleep(1.0 + 2.0 * dice.random())
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            break
        process.wait()
    build(plan_of(f"jsonl:{lines}"), tmp_path / "out", workers=2)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


def test_a_damaged_shard_is_made_again(lines: Path, tmp_path: Path) -> None:
    lines_text = lines.read_text().splitlines()
    lines_text[150] = lines_text[150].replace('"width": 200', '"width": "wide"')
    lines_text[155] = lines_text[155].replace('"width": 200', '"width": "wide"')
    write_lines(lines, lines_text)
    plan = plan_of(f"jsonl:{lines}")
    with pytest.raises(BudgetError):
        build(plan, tmp_path / "out", budget=Budget(share=0.0))
    shard = next((tmp_path / "out" / "data").glob("train-00002*"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    build(plan, tmp_path / "out", budget=Budget(share=0.1))
    verify(tmp_path / "out")


def test_a_finished_build_is_not_changed(lines: Path, tmp_path: Path) -> None:
    build(plan_of(f"jsonl:{lines}"), tmp_path / "out")
    before = bytes_of(tmp_path / "out")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.parquet")}
    build(plan_of(f"jsonl:{lines}"), tmp_path / "out")
    assert bytes_of(tmp_path / "out") == before
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_a_folder_belongs_to_one_plan(lines: Path, tmp_path: Path) -> None:
    build(plan_of(f"jsonl:{lines}"), tmp_path / "out")
    with pytest.raises(RecipeError, match="another build"):
        build(plan_of(f"jsonl:{lines}", seed=9), tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(StorageError, match="not empty"):
        build(plan_of(f"jsonl:{lines}"), tmp_path / "full")
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"


_HOLDER = """
import sys, time
from pathlib import Path
from deixis.data.build.build_run import locked
with locked(Path({out!r})):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_locked_during_a_build(lines: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _HOLDER.format(out=str(tmp_path / "out"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:  # noqa: S603
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(LockedError, match=f"process {other.pid}"):
            build(plan_of(f"jsonl:{lines}"), tmp_path / "out")
        other.kill()
    # a dead process holds no lock
    build(plan_of(f"jsonl:{lines}"), tmp_path / "out")


def test_a_full_disk_leaves_no_partial_files(
    tmp_path: Path, whole: tuple[Path, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, expected = whole
    plan = plan_of(f"jsonl:{lines}")
    real = os.fsync
    for position in (0, 1, 4, 9, 23):
        out = tmp_path / str(position)
        left = [position]

        def full(descriptor: int, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device")
            real(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(StorageError, match="no space left"):
                build(plan, out)
        assert not list(out.rglob("*.tmp"))
        for shard in (out / "data").glob("*.parquet"):
            pq.read_table(shard)
        build(plan, out)
        assert bytes_of(out) == expected


def test_verify_finds_every_change(lines: Path, tmp_path: Path) -> None:
    build(plan_of(f"jsonl:{lines}"), tmp_path / "out")
    shard = next((tmp_path / "out" / "data").glob("train-00003*"))
    data = shard.read_bytes()
    shard.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="has changed"):
        verify(tmp_path / "out")
    shard.unlink()
    with pytest.raises(CheckpointError, match="missing"):
        verify(tmp_path / "out")
    shard.write_bytes(data)
    (tmp_path / "out" / "data" / "extra.parquet").write_bytes(data)
    with pytest.raises(CheckpointError, match="not in the manifest"):
        verify(tmp_path / "out")


def test_several_turns_of_an_image_share_a_conversation(lines: Path, tmp_path: Path) -> None:
    build(plan_of(f"jsonl:{lines}", turns=3), tmp_path / "out")
    dataset = BuiltDataset(tmp_path / "out")
    counts = {len(conversation.turns) for conversation in map(dataset.__getitem__, range(60))}
    assert max(counts) == 3
    several = [row for row in dataset.rows() if row["task"] == "several"]
    assert several
    assert all(row["independent"] for row in several)


def test_sources_with_one_name_get_different_names(lines: Path, tmp_path: Path) -> None:
    other = write_lines(tmp_path / "other.jsonl", [line(number) for number in range(30)])
    result = build(plan_of(f"jsonl:{lines}", f"jsonl:{other}"), tmp_path / "out")
    assert list(result.manifest["sources"]) == ["jsonl", "jsonl-2"]
    ids = [row["id"] for row in BuiltDataset(tmp_path / "out").rows()]
    assert len(set(ids)) == len(ids)


def test_the_plan_records_the_mixture(lines: Path, tmp_path: Path) -> None:
    build(plan_of(f"jsonl:{lines}", tasks="rec*0.25,caption*2"), tmp_path / "out")
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert plan["mixture"] == "rec*0.25,caption*2"
    tasks = json.loads((tmp_path / "out" / "manifest.json").read_text())["tasks"]
    assert 20 < tasks["rec"] < 60
    assert tasks["caption"] > 280  # the same question twice is asked once


def test_a_build_stops_before_it_fills_a_small_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = write_lines(tmp_path / "lines.jsonl", [line(number) for number in range(200)])
    plan = plan_of(f"jsonl:{lines}")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(StorageError, match=r"remaining 7 shards need .* but 0 MiB are free\nhint"):
        build(plan, tmp_path / "out")
    monkeypatch.undo()
    build(plan, tmp_path / "out")
    build(plan, tmp_path / "whole")
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")

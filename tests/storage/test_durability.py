"""The durability rule of `deixis.storage` for every kind of write: kills, full disks and fsync."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from ending import ended, full_disk, in_child, killed_at_byte, killed_at_step, short_files

from deixis.errors import StorageError
from deixis.storage import (
    append_lines,
    clear_drafts,
    discard,
    keep_lines,
    make_folder,
    read_lines,
    rename,
    sync,
    whole_file,
    whole_folder,
    write_file,
    write_json,
)

OLD, NEW = "old " * 100, "new " * 100


@dataclass(frozen=True)
class Write:
    """A kind of write: the initial folder, the write, and the content that a reader sees."""

    before: Callable[[Path], object]
    do: Callable[[Path], object]
    see: Callable[[Path], object]


def _old_text(folder: Path) -> None:
    (folder / "a").write_text(OLD)


def _text(folder: Path) -> str:
    return (folder / "a").read_text()


def _in_pieces(folder: Path) -> None:
    with whole_file(folder / "a") as file:
        for start in range(0, len(NEW), 50):
            file.write(NEW[start : start + 50].encode())
            file.flush()


def _old_tree(folder: Path) -> None:
    (folder / "a" / "inner").mkdir(parents=True)
    (folder / "a" / "inner" / "x").write_text(OLD)
    (folder / "a" / "y").write_text(OLD)


def _new_tree(folder: Path) -> None:
    with whole_folder(folder / "a", replace=True) as draft:
        (draft / "inner").mkdir()
        (draft / "inner" / "x").write_text(NEW)
        (draft / "z").write_text(NEW)


def _first_tree(folder: Path) -> None:
    with whole_folder(folder / "a") as draft:
        (draft / "y").write_text(NEW)


def _tree(folder: Path) -> object:
    top = folder / "a"
    if not top.exists():
        return None
    return sorted((str(p.relative_to(top)), p.read_text()) for p in top.rglob("*") if p.is_file())


def _old_lines(folder: Path) -> None:
    (folder / "a").write_text("1\n2\n")


def _lines(folder: Path) -> object:
    return read_lines(folder / "a")


WRITES = {
    "bytes": Write(_old_text, lambda f: write_file(f / "a", NEW.encode()), _text),
    "text, not forced to the disk": Write(
        _old_text, lambda f: write_file(f / "a", NEW, synced=False), _text
    ),
    "json": Write(_old_text, lambda f: write_json(f / "a", [NEW]), _text),
    "pieces": Write(_old_text, _in_pieces, _text),
    "folder": Write(lambda _: None, _first_tree, _tree),
    "folder in the place of another": Write(_old_tree, _new_tree, _tree),
    "line": Write(_old_lines, lambda f: append_lines(f / "a", ["x" * 300]), _lines),
    "lines of a new journal": Write(
        lambda _: None, lambda f: append_lines(f / "a", ["x" * 300]), _lines
    ),
    "fewer lines": Write(_old_lines, lambda f: keep_lines(f / "a", 1), _lines),
    "nothing": Write(_old_tree, lambda f: discard(f / "a"), _tree),
    "another name": Write(
        lambda f: (f / "b").write_text(NEW),
        lambda f: rename(f / "b", f / "a") if (f / "b").exists() else None,
        lambda f: [path.name for path in f.iterdir()],
    ),
}


NOT_GROWING = {"fewer lines", "another name", "nothing"}
"""Writes that do not grow a file."""


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("name", WRITES)
def test_a_kill_before_any_step_leaves_the_old_or_the_new_content(
    tmp_path: Path, name: str
) -> None:
    write = WRITES[name]
    seen: list[object] = []
    old: object = None
    killed = True
    while killed:
        folder = tmp_path / str(len(seen))
        folder.mkdir()
        write.before(folder)
        old = write.see(folder)
        killed = killed_at_step(len(seen), lambda folder=folder: write.do(folder))  # type: ignore[misc]  # bound at once
        clear_drafts(folder)
        seen.append(write.see(folder))
        assert _names(folder) <= {"a", "b"}
        if seen[-1] == old:
            write.do(folder)
            assert write.see(folder) != old
    between = [None] if name == "folder in the place of another" else []
    assert all(one in [seen[0], seen[-1], *between] for one in seen)
    assert seen[0] == old != seen[-1]
    # every write has several steps
    assert len(seen) > 2


@pytest.mark.parametrize("limit", [0, 1, 49, 50, 51, 299, 305, 399])
@pytest.mark.parametrize("name", WRITES)
def test_a_kill_within_a_write_leaves_the_old_content(
    tmp_path: Path, name: str, limit: int
) -> None:
    write = WRITES[name]
    write.before(tmp_path)
    old = write.see(tmp_path)
    if killed_at_byte(limit, lambda: write.do(tmp_path)):
        clear_drafts(tmp_path)
        assert write.see(tmp_path) == old
        assert _names(tmp_path) <= {"a", "b"}
    else:
        assert write.see(tmp_path) != old
    write.do(tmp_path)
    assert write.see(tmp_path) != old


@pytest.mark.parametrize("limit", [0, 1, 50, 299])
@pytest.mark.parametrize("name", [name for name in WRITES if name not in NOT_GROWING])
def test_a_disk_that_is_full_within_a_write_leaves_the_old_content(
    tmp_path: Path, name: str, limit: int
) -> None:
    write = WRITES[name]
    write.before(tmp_path)
    old, names = write.see(tmp_path), _names(tmp_path)
    with short_files(limit), pytest.raises(StorageError, match="a: cannot write: file too large"):
        write.do(tmp_path)
    assert write.see(tmp_path) == old
    assert _names(tmp_path) - names <= ({"a"} if name == "lines of a new journal" else set())


@pytest.mark.parametrize("name", WRITES)
def test_a_disk_that_is_full_when_it_has_to_keep_the_content_leaves_the_old_or_the_new(
    tmp_path: Path, name: str
) -> None:
    write = WRITES[name]
    calls = 0
    while _refused(write, tmp_path / str(calls), calls, name):
        calls += 1
    assert (calls == 0) == (name in {"text, not forced to the disk", "nothing"})


def _refused(write: Write, folder: Path, calls: int, name: str) -> bool:
    """Write to a disk that is full after some calls; return whether the write failed."""
    folder.mkdir()
    write.before(folder)
    old = write.see(folder)
    refused = ""
    with full_disk(calls):
        try:
            write.do(folder)
        except StorageError as error:
            refused = str(error)
    assert not refused or refused.endswith("cannot write: no space left on device")
    assert _names(folder) <= {"a", "b"}
    if calls == 0 and refused and name not in NOT_GROWING:
        assert write.see(folder) == old
    return bool(refused)


def _order(folder: Path, work: Callable[[], object]) -> list[list[str]]:
    """Return the fsync and rename calls in order; each draft is called ``draft``."""
    events: list[list[str]] = []

    def called(path: object) -> str:
        name = Path(str(path)).name
        return "draft" if name.endswith(".tmp") else name

    def child() -> None:
        fsync = os.fsync

        def noted(descriptor: int) -> None:
            events.append(["sync", called(Path(f"/proc/self/fd/{descriptor}").readlink())])
            fsync(descriptor)

        def hook(event: str, details: tuple[object, ...]) -> None:
            if event == "os.rename":
                events.append(["rename", called(details[0]), called(details[1])])

        pytest.MonkeyPatch().setattr(os, "fsync", noted)
        sys.addaudithook(hook)
        work()
        (folder / "events").write_text(json.dumps(events))

    assert ended(in_child(child)) == 0
    found: list[list[str]] = json.loads((folder / "events").read_text())
    return found


def test_content_is_on_the_disk_before_its_name_and_the_name_before_the_call_returns(
    tmp_path: Path,
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    draft, named = ["sync", "draft"], ["rename", "draft", "a"]
    cases: list[tuple[Callable[[], object], list[list[str]]]] = [
        (lambda: write_file(place / "a", NEW), [draft, named, ["sync", "place"]]),
        (lambda: write_file(place / "a", NEW, synced=False), [named]),
        (lambda: append_lines(place / "log", ["1"]), [["sync", "log"], ["sync", "place"]]),
        (lambda: append_lines(place / "log", ["2", "3"]), [["sync", "log"]]),
        (lambda: append_lines(place / "log", ["4"], synced=False), []),
        (lambda: keep_lines(place / "log", 1), [["sync", "log"]]),
        (lambda: make_folder(place / "b" / "c"), [["sync", "place"], ["sync", "b"]]),
    ]
    for work, expected in cases:
        assert _order(tmp_path, work) == expected
    (place / "a").unlink()
    _old_tree(place)
    events = _order(tmp_path, lambda: _new_tree(place))
    assert sorted(events[:3]) == [["sync", "inner"], ["sync", "x"], ["sync", "z"]]
    assert events.index(["sync", "x"]) < events.index(["sync", "inner"])
    aside, removed = ["rename", "a", "draft"], ["rename", "draft", "draft"]
    assert events[3:] == [draft, aside, named, ["sync", "place"], removed]


def test_a_writer_killed_at_any_time_leaves_whole_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_file(path, OLD * 1000)

    def work() -> None:
        while True:
            write_file(path, NEW * 1000)
            write_file(path, OLD * 1000)

    for _ in range(5):
        child = in_child(work)
        stamp = path.stat().st_mtime_ns
        while path.stat().st_mtime_ns == stamp:
            pass
        os.kill(child, 9)
        assert ended(child) == -9
        assert path.read_text() in {OLD * 1000, NEW * 1000}
    clear_drafts(tmp_path)
    assert _names(tmp_path) == {"a"}


def test_lines_reported_as_written_survive_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "log"
    told, telling = os.pipe()

    def work() -> None:
        for number in range(10**6):
            append_lines(path, [json.dumps({"number": number})])
            os.write(telling, b".")

    child = in_child(work)
    for _ in range(50):
        os.read(told, 1)
    os.kill(child, 9)
    ended(child)
    os.close(telling)
    count = 50 + len(os.read(told, 1 << 16))
    os.close(told)
    numbers = [json.loads(line)["number"] for line in read_lines(path)]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= count


def test_a_folder_that_the_file_system_cannot_force_to_the_disk_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: int) -> None:
        raise OSError(22, "Invalid argument")

    (tmp_path / "a").touch()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refused)
        sync(tmp_path)
        with pytest.raises(OSError, match="Invalid argument"):
            sync(tmp_path / "a")

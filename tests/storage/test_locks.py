"""Locks between real processes, which are killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ending import ended, in_child

from deixis.errors import LockedError, StorageError
from deixis.storage import locked_folder, waited_folder

_HOLDER = r"""
import os, sys, time
from pathlib import Path
from deixis.storage import locked_folder
with locked_folder(Path(sys.argv[1]), "painting there"):
    if sys.argv[2] == "with a worker" and os.fork() == 0:
        os.write(1, f"{os.getpid()}\n".encode())
        time.sleep(60)
        os._exit(0)
    os.write(1, b"held\n")
    time.sleep(60)
"""


@pytest.mark.parametrize("how", ["alone", "with a worker"])
def test_a_lock_keeps_others_out_and_ends_with_its_process(tmp_path: Path, how: str) -> None:
    command = [sys.executable, "-c", _HOLDER, str(tmp_path), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:  # noqa: S603
        assert holder.stdout is not None
        said = [holder.stdout.readline().strip() for _ in range(1 + (how == "with a worker"))]
        try:
            refused = f"{tmp_path}: process {holder.pid} is painting there"
            with (
                pytest.raises(LockedError, match=refused),
                locked_folder(tmp_path, "painting there"),
            ):
                pytest.fail("the lock is held")
        finally:
            holder.send_signal(signal.SIGKILL)
        holder.wait()
        # the killed process left its file; a worker that survives it holds no lock
        assert (tmp_path / ".lock").read_text() == f"process {holder.pid}"
        with locked_folder(tmp_path, "painting there"):
            assert (tmp_path / ".lock").read_text() == f"process {os.getpid()}"
        for line in set(said) - {b"held"}:
            os.kill(int(line), signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []


def test_a_process_cannot_lock_a_folder_twice(tmp_path: Path) -> None:
    with locked_folder(tmp_path, "reading", name=".a"):
        with pytest.raises(LockedError), locked_folder(tmp_path, "reading", name=".a"):
            pytest.fail("the lock is held")
        with locked_folder(tmp_path, "reading", name=".b"):
            pass
        with pytest.raises(LockedError), locked_folder(tmp_path, "reading", name=".a"):
            pytest.fail("the lock is held")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_whose_file_says_nothing_is_held_by_another_process(tmp_path: Path) -> None:
    with locked_folder(tmp_path, "reading"):
        (tmp_path / ".lock").write_text("")
        with (
            pytest.raises(LockedError, match="another process is reading"),
            locked_folder(tmp_path, "reading"),
        ):
            pytest.fail("the lock is held")


def test_a_lock_whose_file_was_removed_leaves_the_next_one_alone(tmp_path: Path) -> None:
    with locked_folder(tmp_path, "reading"):
        (tmp_path / ".lock").unlink()
        (tmp_path / ".lock").write_text("of another")
    assert (tmp_path / ".lock").read_text() == "of another"


def test_a_folder_is_made_or_refused(tmp_path: Path) -> None:
    with locked_folder(tmp_path / "a" / "b", "reading"):
        assert (tmp_path / "a" / "b" / ".lock").exists()
    (tmp_path / "file").touch()
    with (
        pytest.raises(StorageError, match="file/x: cannot write"),
        locked_folder(tmp_path / "file" / "x", "reading"),
    ):
        pass
    (tmp_path / "a" / ".lock").mkdir()
    for lock in (locked_folder(tmp_path / "a", "reading"), waited_folder(tmp_path / "a")):
        with pytest.raises(StorageError, match="a: cannot write: is a directory"), lock:
            pass


def test_many_processes_never_hold_the_lock_at_the_same_time(tmp_path: Path) -> None:
    inside = tmp_path / "inside"

    def work() -> None:
        done = 0
        while done < 20:
            try:
                with locked_folder(tmp_path / "kept", "counting"):
                    inside.touch(exist_ok=False)
                    inside.unlink()
                done += 1
            except LockedError:
                time.sleep(0.0005)

    children = [in_child(work) for _ in range(4)]
    assert [ended(child) for child in children] == [0, 0, 0, 0]


def test_waiting_processes_and_threads_take_turns(tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.write_text("0")

    def work() -> None:
        for _ in range(50):
            with waited_folder(tmp_path):
                count.write_text(str(int(count.read_text()) + 1))

    children = [in_child(work) for _ in range(3)]
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [ended(child) for child in children] == [0, 0, 0]
    assert count.read_text() == "250"
    assert (tmp_path / ".lock").exists()

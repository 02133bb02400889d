"""Outputs appear whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from deixis.cli.outputs import check_creatable, output_file, output_folder
from deixis.errors import StorageError


def test_a_file_appears_when_the_work_is_done(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with output_file(path) as output:
        output.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert path.stat().st_mode & 0o600 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def _fail_in_file(path: Path, error: type[BaseException]) -> None:
    with output_file(path) as output:
        output.write(b"half")
        raise error


def _fail_in_folder(path: Path, error: type[BaseException]) -> None:
    with output_folder(path) as folder:
        (folder / "half").touch()
        raise error


def _write_to_a_disk_that_refuses(path: Path) -> None:
    with output_file(path) as output:
        output.draft.unlink()
        output.draft.mkdir()
        output.write(b"x")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_failed_work_leaves_no_files(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(error):
        _fail_in_file(path, error)
    with pytest.raises(error):
        _fail_in_folder(tmp_path / "folder", error)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_without_content_does_not_appear(tmp_path: Path) -> None:
    with output_file(tmp_path / "a.txt"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_followed(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("target")
    with output_file(link) as output:
        output.write(b"x")
    assert link.is_symlink()
    assert (tmp_path / "target").read_bytes() == b"x"


def test_a_folder_appears_when_the_work_is_done(tmp_path: Path) -> None:
    path = tmp_path / "new"
    with output_folder(path) as folder:
        (folder / "a").touch()
        assert not path.exists()
    assert [entry.name for entry in path.iterdir()] == ["a"]
    (path / "a").unlink()
    with output_folder(path) as folder:
        (folder / "b").touch()
    assert [entry.name for entry in path.iterdir()] == ["b"]


@pytest.mark.parametrize(
    ("make", "name", "words"),
    [
        (Path.mkdir, "x", "is a folder, expected a file name"),
        (os.mkfifo, "x", "is not a regular file, expected a file name"),
        (Path.touch, "x/a.png", "is not a folder"),
        (Path.touch, "y/a.png", "does not exist"),
        (Path.touch, "a" * 300, "cannot write: file name too long"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_at_once(
    tmp_path: Path, make: Callable[[Path], object], name: str, words: str
) -> None:
    make(tmp_path / "x")
    with pytest.raises(StorageError, match=words), output_file(tmp_path / name):
        pytest.fail("the work must not begin")


def test_a_folder_that_cannot_be_created_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    refused = {"file": "is a file", "full": "is not empty", "no/folder": "does not exist"}
    for name, words in refused.items():
        with pytest.raises(StorageError, match=words), output_folder(tmp_path / name):
            pytest.fail("the work must not begin")


def test_a_folder_for_a_run_is_checked_but_not_created(tmp_path: Path) -> None:
    check_creatable(tmp_path / "deep" / "run")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="is a file, expected a folder"):
        check_creatable(tmp_path / "file")
    with pytest.raises(StorageError, match="is not a folder"):
        check_creatable(tmp_path / "file" / "run")


def test_a_failed_write_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(StorageError, match="cannot write: is a directory"):
        _write_to_a_disk_that_refuses(path)
    assert not path.exists()

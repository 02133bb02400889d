import resource
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from deixis.errors import StorageError
from deixis.evaluation.storage import Journal, claim_folder, locked_folder, write_whole


def test_a_whole_file_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    write_whole(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with (
        pytest.raises(StorageError, match="file/run: cannot write"),
        locked_folder(file / "run"),
    ):
        pass


def test_a_damaged_mark_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(b"\xff")
    with pytest.raises(StorageError, match=r"run\.json: cannot read"):
        claim_folder(tmp_path, {})


def test_a_journal_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "predictions.partial.jsonl").mkdir()
    with pytest.raises(StorageError, match=r"predictions\.partial\.jsonl: cannot write"):
        Journal(tmp_path)


@contextmanager
def short_files() -> Iterator[None]:
    """No file can grow over ten bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_rows_that_do_not_fit_on_the_disk_are_not_lost_silently(tmp_path: Path) -> None:
    with (
        closing(Journal(tmp_path)) as journal,
        pytest.raises(StorageError, match=r"predictions\.partial\.jsonl: cannot write"),
        short_files(),
    ):
        journal.append([{"id": "a" * 100}])


def test_a_journal_that_cannot_get_its_name_is_named(tmp_path: Path) -> None:
    with closing(Journal(tmp_path)) as journal:
        journal.append([{"id": "a"}])
        (tmp_path / "predictions.jsonl").mkdir()
        with pytest.raises(StorageError, match=r"predictions\.jsonl: cannot write"):
            journal.finish()

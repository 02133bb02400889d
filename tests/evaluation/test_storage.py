from pathlib import Path

import pytest
from ending import short_files

from deixis.errors import StorageError
from deixis.evaluation.storage import Journal, claim_folder


def test_a_damaged_mark_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(b"\xff")
    with pytest.raises(StorageError, match=r"run\.json: cannot read"):
        claim_folder(tmp_path, {})


def test_a_journal_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "predictions.partial.jsonl").mkdir()
    with pytest.raises(StorageError, match=r"predictions\.partial\.jsonl: cannot write"):
        Journal(tmp_path)


def test_rows_that_do_not_fit_on_the_disk_are_an_error(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with (
        pytest.raises(StorageError, match=r"predictions\.partial\.jsonl: cannot write"),
        short_files(10),
    ):
        journal.append([{"id": "a" * 100}])


def test_a_journal_that_cannot_be_renamed_is_named(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([{"id": "a"}])
    (tmp_path / "predictions.jsonl").mkdir()
    with pytest.raises(StorageError, match=r"predictions\.jsonl: cannot write"):
        journal.finish()

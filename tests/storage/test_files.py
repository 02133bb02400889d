from pathlib import Path

import pytest

from deixis.errors import StorageError
from deixis.storage import (
    append_lines,
    clear_drafts,
    discard,
    draft_of,
    is_sealed,
    json_digest,
    keep_lines,
    make_folder,
    publish,
    read_lines,
    rename,
    seal,
    sha256_of,
    sha256_of_files,
    storing,
    whole_file,
    whole_folder,
    write_file,
    write_json,
)


class Unlucky(Exception):  # noqa: N818
    """An error of a library that writes files."""


def test_errors_name_the_path_and_the_reason() -> None:
    with (
        pytest.raises(StorageError, match=r"^out/a: cannot write: no space left on device$"),
        storing(Path("out/a")),
    ):
        raise OSError(28, "No space left on device")
    with (
        pytest.raises(StorageError, match=r"^model x: cannot write: disk on fire$"),
        storing("model x", Unlucky),
    ):
        raise Unlucky("Disk\n on  fire")
    with pytest.raises(Unlucky), storing("model x"):
        raise Unlucky


def test_a_file_replaces_the_old_one_and_is_as_readable_as_any(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    (tmp_path / "plain").touch()
    write_file(path, "né\n")
    assert path.read_bytes() == "né\n".encode()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    write_file(path, b"")
    assert path.read_bytes() == b""
    write_json(path, {"a": ["é", 1]})
    assert path.read_text() == '{\n "a": [\n  "é",\n  1\n ]\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a", "plain"]


def _fail_in_file(path: Path, error: type[BaseException]) -> None:
    with whole_file(path) as file:
        file.write(b"half")
        raise error


def _fail_in_folder(path: Path, error: type[BaseException]) -> None:
    with whole_folder(path, replace=True) as draft:
        (draft / "half").touch()
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_of_a_write_that_fails(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").touch()
    with pytest.raises(error):
        _fail_in_file(tmp_path / "a", error)
    with pytest.raises(error):
        _fail_in_folder(tmp_path / "b", error)
    found = sorted(str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*"))
    assert found == ["a", "b", "b/x"]
    assert (tmp_path / "a").read_text() == "old"


def test_names_that_are_taken_or_missing_are_storage_errors(tmp_path: Path) -> None:
    (tmp_path / "full" / "x").mkdir(parents=True)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="full: cannot write"):
        write_file(tmp_path / "full", "")
    with pytest.raises(StorageError, match="absent/a: cannot write: no such file"):
        write_file(tmp_path / "absent" / "a", "")
    with pytest.raises(StorageError, match="full: cannot write"), whole_folder(tmp_path / "full"):
        pass
    with pytest.raises(StorageError, match="file/a: cannot write"):
        make_folder(tmp_path / "file" / "a")
    with pytest.raises(StorageError, match="file: cannot write: file exists"):
        make_folder(tmp_path / "file")
    with pytest.raises(StorageError, match="full: cannot write"):
        rename(tmp_path / "file", tmp_path / "full")
    with pytest.raises(StorageError, match="full: cannot write: is a directory"):
        append_lines(tmp_path / "full", ["1"])
    with pytest.raises(StorageError, match="full: cannot read: is a directory"):
        read_lines(tmp_path / "full")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "full"]


def test_only_empty_folders_are_replaced_by_default(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a"
    for name in ("x", "y"):
        with whole_folder(path, replace=name == "y") as draft:
            assert not (path / name).exists()
            (draft / name).touch()
        assert [one.name for one in path.iterdir()] == [name]
    (path / "y").unlink()
    with whole_folder(path) as draft:
        (draft / "z").symlink_to("nowhere")
    assert (path / "z").is_symlink()


def test_a_folder_that_cannot_get_its_name_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.mkdir()
    (path / "old").touch()
    with (
        pytest.raises(StorageError, match="a: cannot write: no such file"),
        whole_folder(path, replace=True) as draft,
    ):
        draft.rmdir()
    assert [one.name for one in path.iterdir()] == ["old"]
    with pytest.raises(FileNotFoundError):
        publish(tmp_path / "absent", path)


def test_drafts_of_files_and_folders_are_removed(tmp_path: Path) -> None:
    long = draft_of(tmp_path / ("é" * 120))
    long.touch()
    draft_of(tmp_path / "a.parquet").mkdir()
    (tmp_path / ".plan.json.4711.tmp").touch()
    kept = {".lock", "a.tmp", ".mine.tmp", ".notes.txt.tmp"}
    for name in kept:
        (tmp_path / name).touch()
    clear_drafts(tmp_path)
    assert {one.name for one in tmp_path.iterdir()} == kept
    clear_drafts(tmp_path / "absent")


def test_discarding_removes_files_folders_and_links_but_not_their_targets(
    tmp_path: Path,
) -> None:
    (tmp_path / "kept" / "x").mkdir(parents=True)
    (tmp_path / "link").symlink_to("kept")
    (tmp_path / "folder" / "x").mkdir(parents=True)
    (tmp_path / "file").touch()
    for name in ("link", "folder", "file", "absent"):
        discard(tmp_path / name)
    assert [one.name for one in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept" / "x").exists()


def test_folders_are_made_with_those_above_and_stay(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_journal_reads_what_was_written_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert read_lines(path) == []
    append_lines(path, [])
    assert read_lines(path) == []
    append_lines(path, ["1", "a line\u2028of words\x85"])
    append_lines(path, ["3"], synced=False)
    with path.open("ab") as file:
        file.write(b'{"cut')
    lines = ["1", "a line\u2028of words\x85", "3"]
    assert [line.decode() for line in read_lines(path)] == lines
    assert path.read_bytes().endswith(b"3\n")
    keep_lines(path, 2)
    assert [line.decode() for line in read_lines(path)] == lines[:2]
    keep_lines(path, 0)
    assert path.read_bytes() == b""


def test_digests_are_those_of_the_bytes(tmp_path: Path) -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    path = tmp_path / "a"
    path.touch()
    assert sha256_of(path) == empty
    assert sha256_of_files([]) == empty
    path.write_bytes(b"x" * (1 << 20))
    (tmp_path / "ax").touch()
    both = [path, tmp_path / "ax"]
    assert sha256_of_files(both) != sha256_of_files(both[::-1])
    with pytest.raises(FileNotFoundError):
        sha256_of(tmp_path / "absent")


def test_a_changed_manifest_is_detected() -> None:
    manifest = seal({"step": 3, "files": {"b": "2", "a": "1"}, "name": "é"})
    assert is_sealed(manifest)
    assert is_sealed(dict(reversed(manifest.items())))
    assert list(manifest)[-1] == "digest"
    assert manifest["digest"] == json_digest(
        {"name": "é", "files": {"a": "1", "b": "2"}, "step": 3}
    )
    assert not is_sealed({**manifest, "step": 4})
    assert not is_sealed({**manifest, "more": None})
    assert not is_sealed({"step": 3})

"""Folders that are written completely or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deixis.storage.files import discard, draft_of, make_folder, storing, sync


@contextmanager
def whole_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a draft folder that is renamed to ``path`` when the block ends without an error.

    All files in it are forced to the disk before the rename. Missing parents of ``path`` are made.
    With ``replace``, an existing folder is moved aside first: a kill at that moment leaves no folder
    under the name, but never a partial one. Without ``replace``, only an empty folder is replaced.

    Raises:
        StorageError: The folder cannot be written, or the block raised OSError; an existing folder
            stays, and no draft is left.
    """
    make_folder(path.parent)
    draft = draft_of(path)
    with storing(path):
        try:
            draft.mkdir()
            yield draft
            publish(draft, path, replace=replace)
        finally:
            discard(draft)


def publish(draft: Path, path: Path, *, replace: bool = False) -> None:
    """Force a draft, a file or a folder with its content, to the disk and rename it to ``path``.

    ``replace`` is as in `whole_folder`.

    Raises:
        OSError: The fsync or the rename fails.
    """
    _sync_tree(draft)
    old = draft_of(path)
    moved = replace and path.exists()
    if moved:
        path.replace(old)
    try:
        draft.replace(path)
    except BaseException:
        if moved:
            old.replace(path)
        raise
    try:
        sync(path.parent)
    finally:
        discard(old)


def _sync_tree(path: Path) -> None:
    if path.is_dir():
        for one in path.iterdir():
            if not one.is_symlink():
                _sync_tree(one)
    sync(path)

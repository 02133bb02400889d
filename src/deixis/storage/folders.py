"""Folders that are whole under their name, or not there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deixis.storage.files import discard, draft_of, make_folder, storing, sync


@contextmanager
def whole_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give a draft folder that takes the name ``path`` when the block ends without an error.

    All files in it are forced to the disk first. Missing folders above ``path`` are made. With
    ``replace``, a folder of that name is moved aside first: a kill at that moment leaves none under
    the name, never a part of one. Without ``replace``, only an empty folder gives way.

    Raises:
        StorageError: The folder cannot be written, or the block raised OSError; what was there
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
    """Force a draft (a file, or a folder with all that is in it) to the disk and give it its name.

    ``replace`` is that of `whole_folder`.

    Raises:
        OSError: The disk refuses it.
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

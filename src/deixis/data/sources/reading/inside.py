"""The check that a file lies inside its folder after all links are followed.

Pictures, videos, masks and depth maps of a data set lie in its folder. The file or a folder on the
way to it may be a link to another place in the folder, but not out of it: otherwise the author of a
data set could choose which files of a user's machine are read. The folder itself may be a link. For
pictures in another folder, the option ``images`` of a source names it.
"""

from functools import lru_cache
from pathlib import Path, PurePosixPath

from deixis.data.sources.base import BadRecord
from deixis.errors import AnnotationError
from deixis.geometry.checks import shown

_FOLDERS_KEPT = 2**14


def check_inside(path: Path, folder: Path) -> None:
    """Check that a path lies in a folder after all links are followed.

    The file need not exist. Results for folders are cached, so a file costs one system call; a
    folder that a link replaces while the process runs is not noticed.

    Raises:
        BadRecord: A link leads out of the folder, or in a circle.
    """
    known = _leads_inside(path.parent.absolute(), folder.absolute())
    if not known or (path.is_symlink() and not _resolves_inside(path, folder)):
        raise BadRecord("path_escape", f"{path.name}: a link that leads out of the image folder")


@lru_cache(maxsize=_FOLDERS_KEPT)
def _leads_inside(path: Path, folder: Path) -> bool:
    return _resolves_inside(path, folder)


def _resolves_inside(path: Path, folder: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        return False


def stored_path(name: str, folder: Path) -> Path:
    """Return the path of a picture or video from its name in a shard.

    Raises:
        AnnotationError: The name is absolute, or leads out of the folder directly or by a link.
    """
    pieces = PurePosixPath(name).parts
    if not pieces or name.startswith("/") or ".." in pieces or "\x00" in name:
        raise AnnotationError(f"path_escape: {shown(name)} is not a name inside {folder}")
    path: Path = folder / name
    check_inside(path, folder)
    return path

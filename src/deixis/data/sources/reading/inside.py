"""The one place that says whether a file lies in its folder, however many links lead to it.

Pictures, videos, masks and depth maps of a data set lie in its folder. A link there, the file itself
or any folder on the way to it, may lead elsewhere in the folder, never out of it: whoever made the
data set would choose what is read on the machine that builds or trains with it. The folder itself
may be a link, and the option ``images`` of a source names the folder where pictures lie elsewhere.
"""

from functools import lru_cache
from pathlib import Path, PurePosixPath

from deixis.data.sources.base import BadRecord
from deixis.errors import AnnotationError
from deixis.geometry.checks import shown

_FOLDERS_KEPT = 2**14


def check_inside(path: Path, folder: Path) -> None:
    """Check that a path lies in a folder once every link is followed.

    The file need not be there. What is known of folders is kept, so a file costs one call to the
    system; a folder that is exchanged for a link while the process runs is not noticed.

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
    """The path of a picture or video that a shard names from a folder.

    Raises:
        AnnotationError: The name is absolute or leads out of the folder, itself or by a link.
    """
    pieces = PurePosixPath(name).parts
    if not pieces or name.startswith("/") or ".." in pieces or "\x00" in name:
        raise AnnotationError(f"path_escape: {shown(name)} is not a name inside {folder}")
    path: Path = folder / name
    check_inside(path, folder)
    return path

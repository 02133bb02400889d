"""Names the pictures of an export, and copies them into its folder if needed."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from deixis.data.build.stored_images import image_bytes
from deixis.data.export.files import copy_file, created
from deixis.data.sources.base import BadRecord
from deixis.data.sources.registry import OpenedSource
from deixis.errors import RecipeError
from deixis.media.picture_files import SUFFIXES
from deixis.storage import make_folder
from deixis.structures import ImageSource


class Pictures:
    """Names pictures, and copies or links them into the folder of the export.

    Args:
        sources: The sources of the pictures.
        folder: The folder of the export.
        mode: ``reference``, ``copy``, or ``link`` (a hard link if the file system supports it, else a
            copy).
        near: With ``reference``, names are relative to this folder if it contains all pictures.
        flat: Names of copied pictures have no folders.
    """

    def __init__(
        self,
        sources: Sequence[OpenedSource],
        folder: Path,
        *,
        mode: str,
        near: Path | None = None,
        flat: bool = False,
    ) -> None:
        self.folder = folder
        self.mode = mode
        self.flat = flat
        self._several = len(sources) > 1
        self._roots = {one.source.name: Path(os.path.abspath(one.root)) for one in sources}  # noqa: PTH100  # links stay as they are
        self.root = _common(list(self._roots.values()), near)
        self._added: Path | None = None

    def place(self, image: ImageSource, source: str, key: str, place: str) -> str:
        """Copy or link a picture if needed, and return its name.

        Args:
            image: The picture.
            source: The name of its source.
            key: The key of the picture in its source.
            place: The folder in the export for ``copy`` and ``link``.

        Raises:
            BadRecord: The picture is not in its source's folder, or cannot be read.
            RecipeError: The picture is drawn and has no file for ``reference``.
            StorageError: The copy cannot be written.
        """
        self._added = None
        if self.mode == "reference":
            if not isinstance(image, Path):
                raise RecipeError(
                    f"source {source}: its images have no files, so the export must write them\n"
                    "hint: use deixis data export FORMAT --copy-images"
                )
            return _inside(image, self.root)
        name = _inside(image, self._roots[source]) if isinstance(image, Path) else f"{key}.png"
        if self._several:
            name = f"{source}/{name}"
        if self.flat:
            name = name.replace("/", "_")
        target = self.folder / place / name
        number = 1
        while _taken(target, flat=self.flat):
            number += 1
            target = self.folder / place / _numbered(name, number)
        self._bring(image, target)
        self._added = target
        return target.relative_to(self.folder / place).as_posix()

    def take_back(self) -> None:
        """Remove the last copied picture, because its item was not written."""
        if self._added is not None:
            with suppress(OSError):
                self._added.unlink()

    def _bring(self, image: ImageSource, target: Path) -> None:
        if not isinstance(image, Path):
            with created(target) as file:
                file.write(image_bytes(image))
            return
        if self.mode == "link":
            make_folder(target.parent)
            with suppress(OSError):
                # link the target of a symbolic link, so that no link leaves the export
                target.hardlink_to(image.resolve(strict=True))
                return
        try:
            copy_file(image, target)
        except OSError as error:
            raise BadRecord("image_unreadable", f"{image.name}: {error.strerror}") from None


def _common(roots: list[Path], near: Path | None) -> Path:
    if near is not None:
        here = Path(os.path.abspath(near))  # noqa: PTH100  # links stay as they are
        if all(root.is_relative_to(here) for root in roots):
            return here
    return Path(os.path.commonpath(roots))


def _inside(image: Path, root: Path) -> str:
    path = Path(os.path.abspath(image))  # noqa: PTH100  # links stay as they are
    try:
        name = path.relative_to(root).as_posix()
    except ValueError:
        raise BadRecord("path_escape", f"{image.name} is not in the image folder") from None
    try:
        name.encode()
    except UnicodeEncodeError:
        raise BadRecord("bad_encoding", "the image's name is not UTF-8") from None
    return name


def _taken(path: Path, *, flat: bool) -> bool:
    # label files of flat pictures have the name without the suffix, which must be free, too
    if flat and path.parent.is_dir():
        stem = PurePosixPath(path.name).stem
        suffixes = (*SUFFIXES, path.suffix)
        return any((path.parent / f"{stem}{suffix}").exists() for suffix in suffixes)
    return path.exists()


def _numbered(name: str, number: int) -> str:
    stem, dot, suffix = re.sub(r"-\d+$", "", name).rpartition(".")
    return f"{stem}-{number}{dot}{suffix}" if stem else f"{name}-{number}"

"""Data sets whose records are files: listing file names and matching files that belong together."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from deixis.data.sources.base import BadRecord, Part, RecordProblem
from deixis.data.sources.reading.fields import as_text, image_path
from deixis.data.sources.reading.streaming import opened, parse_json
from deixis.errors import AnnotationError
from deixis.media.picture_files import SUFFIXES

IMAGE_SUFFIXES = SUFFIXES
_LINE_LIMIT = 4096


def listed(listing: Path | None, folder: Path, suffix: str) -> Iterator[tuple[str, str]]:
    """Yield place and name of each line of a list, or of each file of a folder in order.

    A name is the whole line and may contain blanks.

    Raises:
        AnnotationError: The list or folder is missing, or a line is longer than any name.
    """
    if listing is None:
        if not folder.is_dir():
            raise AnnotationError(f"{folder}: does not exist, expected a folder")
        for path in sorted(folder.glob(f"*{suffix}")):
            yield printable_name(path), path.name.removesuffix(suffix)
        return
    with opened(listing) as file:
        number = 0
        while line := file.readline(_LINE_LIMIT + 1):
            number += 1
            text = line.decode("utf-8", "surrogateescape").removeprefix("\ufeff").strip()
            if len(line) > _LINE_LIMIT:
                raise AnnotationError(f"{listing}: line {number}: expected one name a line")
            if text:
                yield f"{listing.name}: line {number}", text


def named_files(
    folder: Path, suffixes: tuple[str, ...], kind: str
) -> Iterator[Part | RecordProblem]:
    """Yield the file names of a folder with the given suffixes, each with its name without suffix."""
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in suffixes:
            place = printable_name(path)
            if place == path.name:
                yield Part(path.stem, kind, "", place, json.dumps(path.name))
            else:
                yield RecordProblem("bad_encoding", "a file name that is not UTF-8", place)


def first_folder(*places: Path) -> Path:
    """Return the first folder that exists, or the last one if none does."""
    return next((place for place in places if place.is_dir()), places[-1])


def image_named(folder: Path, stem: str, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> Path:
    """Return the existing image of a name without suffix, else the path with the first suffix.

    Raises:
        BadRecord: The name leads out of the folder.
    """
    paths = [image_path(folder, f"{stem}{suffix}") for suffix in suffixes]
    return next((path for path in paths if path.is_file()), paths[0])


def say_which(form: str, splits: Sequence[str]) -> str:
    """Return the end of a message about splits: how to select one of the given splits."""
    return f"; say which, as in {form}:PATH,split={splits[0]}" if splits else "; leave split out"


def printable_name(path: Path) -> str:
    """Return a file's name with question marks for bytes that are not UTF-8."""
    return path.name.encode("utf-8", "replace").decode("utf-8")


def one_name(parts: Sequence[Part], kind: str) -> str:
    """Return the name of the only file of a kind among the parts of an image.

    Raises:
        BadRecord: There is no such file, or several.
    """
    found = [part for part in parts if part.kind == kind]
    if not found:
        code = "image_missing" if kind == "image" else "unknown_annotation"
        raise BadRecord(code, f"no {kind} of the name of {parts[0].place}")
    if len(found) > 1:
        raise BadRecord(
            "duplicate_image", f"{len(found)} files: {found[0].place}, {found[1].place}"
        )
    return as_text(parse_json(found[0].payload), "file name")

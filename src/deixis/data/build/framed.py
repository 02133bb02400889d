"""Reads the parts of an image as a sample in the source frame, whatever frame they are stored in.

A record states an image size, but its boxes may be in the other frame. A source's ``orientation``
declares the frame of the boxes; the size may then be that of either frame. ``sizes`` decides about a
size that matches neither frame: ``declared`` refuses it, ``scaled`` treats it as the size of an
annotated copy and scales the geometry, and ``file`` uses the size of the file instead.
"""

from collections.abc import Sequence
from pathlib import Path

from deixis.data.build.upright import checked_sample, turned
from deixis.data.sources.base import BadRecord, Part, Reading
from deixis.data.sources.reading.frames import Frame, reading_frame
from deixis.data.sources.reading.image_header import ImageHeader, read_header
from deixis.data.sources.reading.inside import check_inside
from deixis.data.sources.registry import OpenedSource
from deixis.geometry import ImageSize, Resize

SWAPPED, REPLACED, SCALED = "size_of_other_frame", "size_of_file_taken", "scaled_to_file"
_FRAME_PROBLEMS = frozenset({"box_outside", "keypoints_damaged"})
"""Problem codes that geometry in the wrong frame causes."""


def read_framed(source: OpenedSource, key: str, parts: Sequence[Part]) -> Reading:
    """Read an image's parts and check its file.

    Raises:
        BadRecord: The file is missing, damaged, outside the source's folder or of another size, or
            the orientation of the annotations is ambiguous.
    """
    orientation = source.orientation
    with reading_frame(Frame(orientation=orientation)):
        reading = source.source.sample(key, parts)
    sample = reading.sample
    if sample is None:
        return reading
    notes: dict[str, int] = {}
    if isinstance(sample.image, Path):
        check_inside(sample.image, source.root)
        header = read_header(sample.image)
        size, note = _size(sample.size, header, orientation, source.sizes)
        if size != sample.size:
            reading = _again(source, key, parts, size)
        if note:
            notes[note] = 1
        if orientation == "auto" and size == sample.size:
            _check_frame(source, key, parts, reading, header)
        if reading.sample is None:
            return reading
        sample = reading.sample
        if note == SCALED:
            target = _frame_like(size, header)
            sample = turned(sample, Resize(size, target))
    sample = checked_sample(sample, root=source.root, orientation=orientation, notes=notes)
    return Reading(sample, reading.problems, (*reading.notes, *notes.items()))


def _again(source: OpenedSource, key: str, parts: Sequence[Part], size: ImageSize) -> Reading:
    with reading_frame(Frame(size, source.orientation)):
        return source.source.sample(key, parts)


def _size(
    size: ImageSize, header: ImageHeader, orientation: str, sizes: str
) -> tuple[ImageSize, str]:
    """Return the size in which to read the geometry, and the note to count, or ``""``."""
    stored, upright = header.stored, header.upright
    wanted = stored if orientation == "raw" else upright
    if sizes == "file":
        return wanted, "" if size == wanted else REPLACED
    if size in {stored, upright}:
        if orientation == "auto" or size == wanted:
            return size, ""
        return wanted, SWAPPED
    like = _like(size, header)
    if sizes == "scaled" and like is not None:
        return size if like == wanted or orientation == "auto" else _transposed(size), SCALED
    hint = (
        "sizes=scaled if the boxes are of that size, sizes=file if they are of the file's"
        if like is not None
        else "sizes=file if the boxes are of the file's size"
    )
    raise BadRecord("size_mismatch", f"annotated as {size}, stored as {stored}; say {hint}")


def _like(size: ImageSize, header: ImageHeader) -> ImageSize | None:
    """Return the frame of the file that has the same aspect ratio, to the pixel, or None."""
    for frame in (header.upright, header.stored):
        across, down = size.width * frame.height, size.height * frame.width
        if abs(across - down) <= max(frame):
            return frame
    return None


def _frame_like(size: ImageSize, header: ImageHeader) -> ImageSize:
    found = _like(size, header)
    return header.upright if found is None else found


def _transposed(size: ImageSize) -> ImageSize:
    return ImageSize(size.width, size.height)


def _check_frame(
    source: OpenedSource,
    key: str,
    parts: Sequence[Part],
    reading: Reading,
    header: ImageHeader,
) -> None:
    """Check that geometry outside the stated frame does not fit the other frame better."""
    stored, upright = header.stored, header.upright
    outside = [problem for problem in reading.problems if problem.code in _FRAME_PROBLEMS]
    sample = reading.sample
    if not outside or stored == upright or sample is None or sample.size not in {stored, upright}:
        return
    kind, other = ("raw", upright) if sample.size == stored else ("upright", stored)
    left = _again(source, key, parts, other)
    still = sum(problem.code in _FRAME_PROBLEMS for problem in left.problems)
    if left.sample is None or still >= len(outside):
        return
    meant = "upright" if kind == "raw" else "raw"
    raise BadRecord(
        "orientation_ambiguous",
        f"of the {kind} size {sample.size}, but {outside[0].detail} and fits {other}; "
        f"say orientation={meant} if all boxes are of that frame",
    )

"""The protocol of annotation readers: files to image parts, and the parts of an image to a sample.

Reading has two steps, so that files of any size can be read on any number of machines. `parts` reads
the files once in constant memory and assigns each record to an image. The engine sorts the parts by
image. `sample` is a pure function of the parts of one image: it returns a sample of the valid records
and a list of the problems of the others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from deixis.errors import AnnotationError
from deixis.structures import Sample

REASONS: dict[str, str] = {
    "bad_json": "a line or record is not JSON",
    "bad_record": "a field is missing or of the wrong type",
    "bad_xml": "a file is not XML, is nested too deeply, or declares a document type",
    "bad_number": "a number is not finite, not a number, or too large",
    "bad_text": "a text is empty or cannot be written",
    "bad_encoding": "a text is not UTF-8, or holds half a surrogate pair",
    "box_degenerate": "a box has no width or no height",
    "box_outside": "a box lies outside its image by more than the tolerance",
    "box_layout": "a box is in fractions or in another layout than the source declares",
    "mask_damaged": "polygons or run lengths are invalid, or of another size",
    "mask_empty": "a mask has no pixels",
    "keypoints_damaged": "keypoints are not three numbers each, or of an unknown kind",
    "unknown_category": "an annotation's category is not in the file",
    "unknown_image": "annotations refer to an image that the file does not list",
    "unknown_annotation": "a record refers to a missing annotation",
    "duplicate_image": "an image is listed more than once",
    "duplicate_annotation": "an annotation id is used more than once in an image",
    "path_escape": "a file name leads out of the image folder",
    "image_missing": "the image file is missing",
    "image_empty": "the image file has no bytes",
    "image_unreadable": "the image cannot be read",
    "image_too_large": "the image is beyond the limits",
    "video_missing": "the video file is missing",
    "video_empty": "the video file has no bytes",
    "video_unreadable": "the video cannot be read",
    "video_too_large": "the video is beyond the limits",
    "not_regular_file": "the image is a folder, a device, or a link to nothing",
    "size_mismatch": "the annotated size differs from the size of the image",
    "orientation_ambiguous": "the image has an EXIF rotation and the frame of the annotation is unknown",
    "span_damaged": "a phrase does not lie in its sentence",
    "decode_timeout": "an image took too long to read",
    "decoder_crash": "reading an image ended the process that read it",
    "code_error": "an unexpected error of a reader; counted separately",
}
"""All codes of quarantined records, each with its meaning."""


class Part(NamedTuple):
    """One record of a file with the key of its image.

    The engine sorts the parts of an image by ``kind`` and ``order``, so ``order`` must not depend on
    the position of the record in its file. ``place`` is that position, for messages. ``payload`` is
    the record as the file has it, usually JSON.
    """

    key: str
    kind: str
    order: str
    place: str
    payload: str


@dataclass(frozen=True, slots=True)
class RecordProblem:
    """The reason why a record, or a piece of it, cannot be used; ``code`` is a key of `REASONS`."""

    code: str
    detail: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A valid record that is skipped, such as one without an image; counted under ``rule``."""

    rule: str


NO_IMAGE = PassedOver("about_no_image")


class BadRecord(AnnotationError):  # noqa: N818
    """Raised inside readers for a record that cannot be used; ``code`` is a key of `REASONS`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail

    def problem(self, place: str) -> RecordProblem:
        """Return this error as the problem of the record at ``place``."""
        return RecordProblem(self.code, self.detail, place)


@dataclass(frozen=True, slots=True)
class Reading:
    """The result of reading the parts of one image.

    ``sample`` is None if the whole image cannot be used. Otherwise it lacks the records of
    ``problems``, and is not exhaustive if there are any. ``notes`` counts the normalisations by the
    name of their rule.
    """

    sample: Sample | None
    problems: tuple[RecordProblem, ...] = ()
    notes: tuple[tuple[str, int], ...] = ()


@runtime_checkable
class Source(Protocol):
    """One data set in one format. Sources travel to worker processes."""

    @property
    def name(self) -> str:
        """Prefix of the sample names; unique in a build."""

    @property
    def files(self) -> tuple[str, ...]:
        """The annotation files that `parts` reads, for the manifest."""

    def parts(self) -> Iterator[Part | RecordProblem | PassedOver]:
        """Read the files once, in order, in constant memory.

        Yields a `RecordProblem` for each record that cannot be assigned to an image. Records of
        other splits are skipped without a count.

        Raises:
            AnnotationError: A file is missing, or so damaged that its records cannot be separated.
        """

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Return the sample of one image from all of its parts, sorted; bad records never raise."""

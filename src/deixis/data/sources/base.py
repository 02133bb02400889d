"""What a reader of annotations is: records of files to parts, parts of an image to a sample.

Reading is cut in two, so that a file of any size can be read on any number of machines. `parts`
goes through the files once, knows nothing but which image each record belongs to, and keeps nothing.
The engine sorts the parts by image. `sample` is pure: it takes the parts of one image and gives what
is sound, and says of the rest what is wrong with it.
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
    "mask_damaged": "polygons or run lengths are not sound, or of another size",
    "mask_empty": "a mask has no pixels",
    "keypoints_damaged": "keypoints are not three numbers each, or of an unknown kind",
    "unknown_category": "an annotation's category is not in the file",
    "unknown_image": "annotations belong to an image that the file does not have",
    "unknown_annotation": "a record refers to an annotation that is not there",
    "duplicate_image": "an image is listed more than once",
    "duplicate_annotation": "an annotation id is used more than once in an image",
    "path_escape": "a file name leads out of the image folder",
    "image_missing": "the image file is not there",
    "image_empty": "the image file has no bytes",
    "image_unreadable": "the image cannot be read",
    "image_too_large": "the image is beyond the limits",
    "video_missing": "the video file is not there",
    "video_empty": "the video file has no bytes",
    "video_unreadable": "the video cannot be read",
    "video_too_large": "the video is beyond the limits",
    "not_regular_file": "the image is a folder, a device, or a link to nothing",
    "size_mismatch": "the annotated size is not that of the image",
    "orientation_ambiguous": "the image is stored turned, and the annotation does not say for which way",
    "span_damaged": "a phrase does not lie in its sentence",
    "decode_timeout": "an image took too long to read",
    "decoder_crash": "reading an image ended the process that read it",
    "code_error": "an error that no reader expected; it counts apart",
}
"""Why something was quarantined: every code that there is."""


class Part(NamedTuple):
    """One record of a file, on its way to its image.

    ``key`` names the image. Parts of an image are sorted by ``kind`` and ``order``, so ``order``
    must not depend on where in a file a record stands; ``place`` says that, for people. ``payload``
    is the record as it was written, mostly JSON.
    """

    key: str
    kind: str
    order: str
    place: str
    payload: str


@dataclass(frozen=True, slots=True)
class RecordProblem:
    """Something in a record that cannot be used; ``code`` is a key of `REASONS`."""

    code: str
    detail: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A sound record that is of no use here, such as one about no image; it is counted by ``rule``."""

    rule: str


NO_IMAGE = PassedOver("about_no_image")


class BadRecord(AnnotationError):  # noqa: N818
    """Raised inside readers: this record cannot be used, for this reason."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail

    def problem(self, place: str) -> RecordProblem:
        """What is wrong with a record that stands somewhere."""
        return RecordProblem(self.code, self.detail, place)


@dataclass(frozen=True, slots=True)
class Reading:
    """What became of the parts of one image.

    Without a sample the whole image cannot be used. With one, ``faults`` were left out of it, and it
    is not exhaustive any more. ``notes`` counts what was normalised by a documented rule.
    """

    sample: Sample | None
    problems: tuple[RecordProblem, ...] = ()
    notes: tuple[tuple[str, int], ...] = ()


@runtime_checkable
class Source(Protocol):
    """One data set in one format. Sources travel to worker processes."""

    @property
    def name(self) -> str:
        """What its samples are called after; unique in a build."""

    @property
    def files(self) -> tuple[str, ...]:
        """The annotation files that `parts` reads, for the manifest."""

    def parts(self) -> Iterator[Part | RecordProblem | PassedOver]:
        """Go through the files once, in their order, in constant memory.

        A fault is a record that cannot be given to any image. Records of another split than was asked
        for are not mentioned.

        Raises:
            AnnotationError: A file is missing, or damaged in a way that hides where records end.
        """

    def sample(self, key: str, parts: Sequence[Part]) -> Reading:
        """Make a sample of all parts of one image, sorted; pure, and never raises for bad records."""

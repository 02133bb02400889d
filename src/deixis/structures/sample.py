"""One annotated image, as every source gives it and every task takes it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from jaxtyping import UInt8
from numpy import ndarray

from deixis.errors import AnnotationError, GeometryError
from deixis.geometry import Box, DepthMap, ImageSize, Keypoints, Mask, OrientedBox
from deixis.structures.left_out import NOTHING, LeftOut
from deixis.structures.units import GroundedPhrase, GroundedText, Region
from deixis.structures.video import Video

ImageArray = UInt8[ndarray, "height width 3"]
ImageSource = Path | ImageArray | Callable[[], ImageArray]
"""Where the pixels of a sample come from: a file, an array, or a call that draws them."""


MARKERS = ("stuff", "difficult", "truncated", "occluded")
"""Attributes of instances that describe the annotation, not the appearance.

``stuff`` is a region of a material or ground, not a single instance; the others are flags of Pascal
VOC.
"""


@dataclass(frozen=True, slots=True)
class Instance:
    """One annotated instance: geometry of its visible part, in source pixels.

    ``box`` is axis-aligned. If the annotation is a rotated box, ``oriented`` keeps its corners, which
    may lie outside the image, and ``box`` is the axis-aligned box around them. ``score`` is the
    confidence of the model that found the instance; None for annotations by people.
    """

    category: str
    box: Box
    mask: Mask | None = None
    keypoints: Keypoints | None = None
    attributes: tuple[str, ...] = ()
    visibility: float = 1.0
    crowd: bool = False
    oriented: OrientedBox | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Relation:
    """``subject predicate object``; both are indices into the sample's instances."""

    subject: int
    predicate: str
    object: int


@dataclass(frozen=True, slots=True)
class Expression:
    """Words that mean exactly these instances; none where nothing in the image fits.

    ``family`` names the kind of expression: ``location`` (may use location words, RefCOCO's
    rule), ``appearance`` (no location words, RefCOCO+), ``long`` (whole sentences, RefCOCOg).
    """

    text: str
    instances: tuple[int, ...]
    family: str = "location"


DIALOGUE = "dialogue"
"""The kind of questions that are the turns of one conversation."""


@dataclass(frozen=True, slots=True)
class QuestionAnswer:
    """A question about the whole image, or about a region where ``instance`` or ``region`` is set.

    ``options`` are those of a multiple choice, the answer among them; ``rationale`` says why.
    ``phrases`` are those of the answer's words that point. Questions of kind ``dialogue`` are the turns
    of one conversation in their order: later ones may speak of earlier ones.
    """

    question: str
    answer: str
    instance: int | None = None
    region: Region | None = None
    kind: str = "vqa"
    options: tuple[str, ...] = ()
    rationale: str = ""
    phrases: tuple[GroundedPhrase, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """One image, or one video, with everything that is known about it.

    Indices (of relations, expressions, questions, salient) point into ``instances``. Captions
    are short or long texts whose phrases own units. ``exhaustive`` says that everything of the
    named categories is annotated, so that counting and finding all of a class have one answer.
    ``left_out`` says it class by class: where it lacks anything the sample is not exhaustive, and
    a sample that is made with ``exhaustive=False`` alone lacks anything. `covers` is the question
    to ask about one class.
    A `Video` holds words and nothing that would need a time: captions without phrases, and
    questions about the whole of it; ``size`` is that of its upright frames.

    Raises:
        AnnotationError: An index points at no instance, a box leaves the image, a mask or depth map
            is of another size, an absent class is present or was left out, or a video has geometry.
    """

    id: str
    image: ImageSource | Video
    size: ImageSize
    instances: tuple[Instance, ...] = ()
    relations: tuple[Relation, ...] = ()
    expressions: tuple[Expression, ...] = ()
    captions: tuple[GroundedText, ...] = ()
    questions: tuple[QuestionAnswer, ...] = ()
    depth: DepthMap | None = None
    salient: int | None = None
    absent_categories: tuple[str, ...] = ()
    source: str = ""
    split: str = ""
    exhaustive: bool = True
    left_out: LeftOut = NOTHING

    def __post_init__(self) -> None:
        if self.left_out.is_nothing and not self.exhaustive:
            object.__setattr__(self, "left_out", replace(self.left_out, unknown=True))
        object.__setattr__(self, "exhaustive", self.left_out.is_nothing)
        self._check_absent()
        count = len(self.instances)
        used = [
            index for relation in self.relations for index in (relation.subject, relation.object)
        ]
        used += [index for expression in self.expressions for index in expression.instances]
        used += [question.instance for question in self.questions if question.instance is not None]
        used += [] if self.salient is None else [self.salient]
        wrong = [index for index in used if not 0 <= index < count]
        if wrong:
            raise AnnotationError(
                f"sample {self.id}: instance {wrong[0]} of {count} does not exist"
            )
        for index, instance in enumerate(self.instances):
            try:
                instance.box.check_inside(self.size)
            except GeometryError as error:
                raise AnnotationError(f"sample {self.id}: instance {index}: {error}") from error
            self._check_size(f"the mask of instance {index}", instance.mask)
        self._check_size("the depth map", self.depth)
        if isinstance(self.image, Video):
            self._check_words_only()

    def covers(self, category: str) -> bool:
        """Whether the instances of a class are complete, so that they can be counted."""
        return self.left_out.covers(category)

    def _check_absent(self) -> None:
        if not self.absent_categories:
            return
        doubtful = {one.category for one in self.instances}
        doubtful |= self.left_out.categories | self.left_out.broader
        for name in self.absent_categories:
            if name in doubtful:
                raise AnnotationError(
                    f"sample {self.id}: class {name!r} is said to be absent, but it is present, was "
                    "left out, or is broader than one that is present"
                )

    def _check_words_only(self) -> None:
        pointing = [caption for caption in self.captions if caption.phrases]
        placed = [one for one in self.questions if one.region is not None or one.phrases]
        known = (self.instances, self.expressions, self.absent_categories, pointing, placed)
        if any(known) or self.depth is not None:
            raise AnnotationError(
                f"sample {self.id}: is of a video, expected captions without phrases and questions "
                "without regions, and no geometry"
            )

    def _check_size(self, name: str, dense: Mask | DepthMap | None) -> None:
        if dense is not None and dense.size != self.size:
            raise AnnotationError(
                f"sample {self.id}: {name} is of {dense.size}, the image of {self.size}"
            )

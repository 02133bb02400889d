"""An answer together with the image it is about and the sources of its boxes."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal, get_args

from PIL.Image import Image

from deixis.errors import GeometryError, PromptError
from deixis.geometry import Box, DepthMap, Keypoints, Mask, Point
from deixis.overlay import draw_answer
from deixis.structures import Answer, GroundedPhrase, ImageArray, Reference, Unit, UnitGroup

BoxSource = Literal["decoder", "mask", "detector"]
"""The source of a box."""

FusionStrategy = Literal["agreement", "decoder", "mask", "mean", "iou_vote", "score"]
"""A way to fuse boxes; see `deixis.inference.fusion.fuse_boxes`."""

SOURCES: tuple[BoxSource, ...] = get_args(BoxSource)
STRATEGIES: tuple[FusionStrategy, ...] = get_args(FusionStrategy)


@dataclass(frozen=True, slots=True)
class ScoredBox:
    """A box and its score in [0, 1]; the score is None if the source has none.

    Raises:
        GeometryError: The score is not in [0, 1].
    """

    box: Box
    score: float | None = None

    def __post_init__(self) -> None:
        if self.score is not None and not 0.0 <= self.score <= 1.0:
            raise GeometryError(f"score {self.score} of box {self.box} is not in [0, 1]")


@dataclass(frozen=True, slots=True)
class FusedBox:
    """A fused box, the sources that it was made of, and the strategy."""

    box: Box
    sources: tuple[BoxSource, ...]
    strategy: FusionStrategy


@dataclass(frozen=True, slots=True)
class FusedReference:
    """The sources of the box of one reference of an answer.

    The reference is ``answer.phrases[phrase].references[reference]``. ``found`` has the box of
    every source that gave one. ``fused`` is None if no source that the strategy uses has a box; the
    reference has no box then.
    """

    phrase: int
    reference: int
    found: Mapping[BoxSource, ScoredBox]
    strategy: FusionStrategy
    fused: FusedBox | None


@dataclass(frozen=True, slots=True)
class PointingAnswer(Answer):
    """The answer of `Predictor.ask`: words, units in the image's pixels, and the image.

    ``fusion`` records the sources of each fused box; see `fused`.
    """

    image: ImageArray | None = None
    fusion: tuple[FusedReference, ...] = ()

    def fused(self, phrase: int, reference: int) -> FusedReference | None:
        """The sources of the box of ``phrases[phrase].references[reference]``, if it was fused."""
        for one in self.fusion:
            if (one.phrase, one.reference) == (phrase, reference):
                return one
        return None

    def draw(self) -> Image:
        """Draw the answer over the image.

        Raises:
            PromptError: The answer was made without an image.
        """
        if self.image is None:
            raise PromptError("this answer has no image to draw on")
        return draw_answer(self.image, self)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; boxes are xyxy in pixels, masks compressed COCO RLE.

        A reference whose box was fused has ``fusion``: the strategy, the sources of its box, and
        the box and score of every source.
        """
        return {
            "text": self.text,
            "size": {"height": self.size.height, "width": self.size.width},
            "phrases": [
                self._phrase_dict(index, phrase) for index, phrase in enumerate(self.phrases)
            ],
            "problems": [
                {"code": p.code, "message": p.message, "position": p.position}
                for p in self.problems
            ],
            "finish_reason": self.finish_reason,
            "raw": self.raw,
        }

    def _phrase_dict(self, index: int, phrase: GroundedPhrase) -> dict[str, Any]:
        numbers = count()
        return {
            "text": phrase.text,
            "start": phrase.start,
            "end": phrase.end,
            "groups": [
                {
                    "unit_types": list(group.unit_types),
                    "references": [
                        _reference_dict(group, reference, self.fused(index, next(numbers)))
                        for reference in group.references
                    ],
                }
                for group in phrase.groups
            ],
        }

    def to_coco(
        self, *, image_id: int = 1, categories: dict[str, int] | None = None
    ) -> list[dict[str, Any]]:
        """COCO results: one row a reference, ``bbox`` xywh, with the phrase as ``caption``.

        ``categories`` maps phrases to category ids; phrases that it lacks get id 0.
        """
        ids = categories or {}
        rows: list[dict[str, Any]] = []
        for phrase in self.phrases:
            for reference in phrase.references:
                row: dict[str, Any] = {
                    "image_id": image_id,
                    "category_id": ids.get(phrase.text, 0),
                    "caption": phrase.text,
                    "score": 1.0 if reference.score is None else reference.score,
                }
                for unit in reference.units:
                    if isinstance(unit, Box):
                        row["bbox"] = list(unit.to_xywh())
                    elif isinstance(unit, Keypoints):
                        row["keypoints"] = unit.to_annotation()
                    elif isinstance(unit, Mask):
                        row["segmentation"] = unit.to_coco()
                        if "bbox" not in row and not unit.is_empty:
                            row["bbox"] = list(unit.to_box().to_xywh())
                if row.keys() & {"bbox", "segmentation", "keypoints"}:
                    rows.append(row)
        return rows


def _reference_dict(
    group: UnitGroup, reference: Reference, fused: FusedReference | None
) -> dict[str, Any]:
    units = {
        name: None if unit is None else _unit_data(unit)
        for name, unit in zip(group.unit_types, reference.units, strict=True)
    }
    row = {"score": reference.score, **units}
    if fused is not None:
        row["fusion"] = {
            "strategy": fused.strategy,
            "made_of": [] if fused.fused is None else list(fused.fused.sources),
            "sources": {
                name: {"box": _unit_data(found.box), "score": found.score}
                for name, found in fused.found.items()
            },
        }
    return row


def _unit_data(unit: Unit) -> Any:
    match unit:
        case Box():
            return [unit.x1, unit.y1, unit.x2, unit.y2]
        case Mask():
            return unit.to_coco()
        case Point():
            return [unit.x, unit.y]
        case Keypoints():
            return {
                "names": list(unit.names),
                "positions": unit.positions.tolist(),
                "visibility": unit.visibility.tolist(),
            }
        case DepthMap():
            return {"kind": unit.kind, "values": unit.values.tolist()}

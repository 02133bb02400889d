"""Fusion of boxes from several sources (u-LLaVA 4.5, figure 2), and keypoints in these boxes.

A reference of an answer has up to three boxes: from the location decoder, from its mask, and from a
detector that is asked for the generated tag. The paper fuses them into the final box but does not
say how, so each strategy has a name here, and `deixis.evaluation.fusion_comparison` compares all
sources and strategies. A pose model finds keypoints in the box of a reference if the model has no
decoder for them (REF-VLM, figure 1a, "agent tools"). All boxes are in pixels of the source image.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Protocol, runtime_checkable

import numpy as np
from scipy.optimize import linear_sum_assignment

from deixis.errors import GeometryError, PromptError
from deixis.geometry import Box, Keypoints, Mask, overlap_of_boxes, stack_boxes
from deixis.inference.pointing_answer import (
    SOURCES,
    STRATEGIES,
    BoxSource,
    FusedBox,
    FusedReference,
    FusionStrategy,
    PointingAnswer,
    ScoredBox,
)
from deixis.models.decoders.grounding import Found
from deixis.notation import ReferenceSlot
from deixis.structures import (
    GroundedText,
    ImageArray,
    Problem,
    Reference,
    Unit,
    UnitGroup,
    UnitType,
)

_Key = tuple[int, int, int]
Place = tuple[int, int]
"""Index of a phrase, and index of a reference among all references of that phrase."""

OwnBoxes = Mapping[BoxSource, ScoredBox]


@runtime_checkable
class Detector(Protocol):
    """Finds boxes for a phrase, such as `deixis.models.decoders.grounding.GroundingDetector`."""

    def detect(self, image: ImageArray, phrase: str) -> Sequence[Found[Box]]:
        """Find boxes in pixels of the image; raises PromptError if ``phrase`` is not one phrase."""


@runtime_checkable
class BodyModel(Protocol):
    """Finds bodies in boxes, such as `deixis.models.decoders.grounding.PoseEstimator`."""

    def estimate(self, image: ImageArray, boxes: Sequence[Box]) -> Sequence[Found[Keypoints]]:
        """Find the body in each box, in order, in pixels of the image."""


@runtime_checkable
class LatentUnits(Protocol):
    """Decoded units of the references of one answer, by the position of the reference."""

    def attempt(self, reference: int, name: str) -> Unit | None:
        """A unit in source pixels; None without a decoder or if the unit is invalid."""

    def chance(self, reference: int, name: str) -> float | None:
        """The decoder's score of a box or a mask; None without one."""


def read_strategy(name: str) -> FusionStrategy:
    """Check the name of a strategy.

    Raises:
        PromptError: The strategy is unknown.
    """
    for strategy in STRATEGIES:
        if name == strategy:
            return strategy
    raise PromptError(f"fusion strategy {name[:80]!r}: expected one of {', '.join(STRATEGIES)}")


def gather_sources(
    *,
    decoder: ScoredBox | None = None,
    mask: Mask | None = None,
    mask_score: float | None = None,
    detections: Sequence[ScoredBox] = (),
) -> dict[BoxSource, ScoredBox]:
    """Return the box of every source that has one.

    Args:
        decoder: The box of the location decoder.
        mask: The mask of the mask decoder; an empty mask gives no box.
        mask_score: Score of the mask.
        detections: Boxes that a detector found for the tag; the one with the highest score is
            taken, the first among equals.
    """
    found: dict[BoxSource, ScoredBox] = {}
    if decoder is not None:
        found["decoder"] = decoder
    if mask is not None and not mask.is_empty:
        found["mask"] = ScoredBox(mask.to_box(), mask_score)
    if detections:
        found["detector"] = max(detections, key=_sureness)
    return found


def share_detections(
    own: Sequence[Mapping[BoxSource, ScoredBox]], detections: Sequence[ScoredBox]
) -> list[list[ScoredBox]]:
    """Assign detections to the references that share a tag.

    A single reference gets all of them. Several references get at most one each: the assignment
    with the largest total IoU to their own boxes; a detection that overlaps none of a reference's
    boxes is not assigned to it.

    Args:
        own: The boxes that each reference has without a detector.
        detections: Boxes that a detector found for the tag.
    """
    if len(own) == 1:
        return [list(detections)]
    near = np.array(
        [
            [
                max((overlap_of_boxes(box.box, each.box) for box in boxes.values()), default=0.0)
                for each in detections
            ]
            for boxes in own
        ]
    ).reshape(len(own), len(detections))
    shared: list[list[ScoredBox]] = [[] for _ in own]
    for row, column in zip(*linear_sum_assignment(near, maximize=True), strict=True):
        if near[row, column] > 0:
            shared[row] = [detections[column]]
    return shared


def fuse_boxes(
    found: Mapping[BoxSource, ScoredBox],
    strategy: FusionStrategy = "agreement",
    *,
    threshold: float = 0.5,
    weights: Mapping[BoxSource, float] | None = None,
) -> FusedBox | None:
    """Fuse the boxes of all sources into one.

    * ``agreement``: the mean of decoder and mask if their IoU is at least ``threshold``; else the
      one that overlaps the detector's box more, or the mask's without a detector. A single source
      is taken as it is.
    * ``decoder``, ``mask``: the box of this source alone.
    * ``mean``: the weighted mean of all corners.
    * ``iou_vote``: the weighted mean of the sources that agree: of all sets in which every two
      boxes have an IoU of at least ``threshold``, the one with the largest sum of weights, then
      with the largest sum of IoU.
    * ``score``: the source with the highest score; sources without a score come last.

    Ties are broken in the order decoder, mask, detector.

    Args:
        found: Boxes by source, as from `gather_sources`.
        strategy: One of the strategies above.
        threshold: Least IoU of two boxes of the same instance.
        weights: Weight of each source for ``mean`` and ``iou_vote``; 1 by default.

    Returns:
        The box; None if no source that the strategy uses has one.

    Raises:
        GeometryError: A weight is not positive.
    """
    shares = {name: 1.0 if weights is None else weights.get(name, 1.0) for name in SOURCES}
    wrong = {name: share for name, share in shares.items() if not 0 < share < float("inf")}
    if wrong:
        raise GeometryError(f"fusion weights: expected positive numbers, got {wrong}")
    boxes = {name: found[name].box for name in SOURCES if name in found}
    if not boxes:
        return None
    chosen: tuple[BoxSource, ...]
    match strategy:
        case "decoder" | "mask":
            chosen = tuple(name for name in boxes if name == strategy)
        case "mean":
            chosen = tuple(boxes)
        case "score":
            chosen = (max(boxes, key=lambda name: _sureness(found[name])),)
        case "iou_vote":
            chosen = _largest_agreement(boxes, threshold, shares)
        case "agreement":
            chosen = _agreement(boxes, threshold)
            shares = dict.fromkeys(SOURCES, 1.0)
    if not chosen:
        return None
    corners = stack_boxes([boxes[name] for name in chosen])
    middle = np.average(corners, axis=0, weights=[shares[name] for name in chosen])
    box = boxes[chosen[0]] if len(chosen) == 1 else Box.from_array(middle)
    return FusedBox(box, chosen, strategy)


def own_boxes(
    text: GroundedText, slots: Sequence[ReferenceSlot], latent: LatentUnits, unit_type: str
) -> dict[Place, OwnBoxes]:
    """Boxes from the model's own decoders, for the references of groups with a unit type.

    A reference with only one of box and mask is decoded to the other too. A box that the model
    wrote as numbers counts as the decoder's, without a score.
    """
    positions: dict[_Key, dict[str, int]] = {}
    for slot in slots:
        known = positions.setdefault(
            (slot.phrase_index, slot.group_index, slot.reference_index), {}
        )
        known |= dict.fromkeys(slot.unit_types, slot.position)
    found: dict[Place, OwnBoxes] = {}
    for place, (group, reference), key in _references(text):
        if unit_type in group.unit_types:
            found[place] = _sources(group, reference, positions.get(key, {}), latent)
    return found


def _sources(
    group: UnitGroup, reference: Reference, positions: Mapping[str, int], latent: LatentUnits
) -> OwnBoxes:
    units = dict(zip(group.unit_types, reference.units, strict=True))
    somewhere = next(iter(positions.values()), None)
    scores: dict[str, float | None] = {}
    for name in (UnitType.BOX, UnitType.MASK):
        position = positions.get(name, somewhere)
        if position is not None:
            scores[name] = latent.chance(position, name)
            if name not in units:
                units[name] = latent.attempt(position, name)
    box, mask = units.get(UnitType.BOX), units.get(UnitType.MASK)
    return gather_sources(
        decoder=ScoredBox(box, scores.get(UnitType.BOX)) if isinstance(box, Box) else None,
        mask=mask if isinstance(mask, Mask) else None,
        mask_score=scores.get(UnitType.MASK),
    )


def fuse_answer(
    answer: PointingAnswer,
    own: Mapping[Place, OwnBoxes],
    strategy: FusionStrategy,
    detector: Detector | None = None,
) -> PointingAnswer:
    """Replace the boxes of references by fused ones; unit types, masks and scores stay.

    Args:
        answer: References with the units of the decoders.
        own: Their boxes, as from `own_boxes`; other references are left unchanged.
        strategy: As for `fuse_boxes`.
        detector: Asked once for the words of each phrase.

    Raises:
        PromptError: A detector is given, and the answer has no image.
    """
    problems: list[Problem] = []
    detected = {} if detector is None else _detect(answer, own, detector, problems)
    records: list[FusedReference] = []
    for place, boxes in own.items():
        found = {**boxes, **gather_sources(detections=detected.get(place, ()))}
        fused = fuse_boxes(found, strategy)
        if fused is None:
            problems.append(
                Problem("no_fused_box", f"{_named(answer, place)}: no box for strategy {strategy}")
            )
        records.append(FusedReference(*place, found, strategy, fused))
    boxes_of = {(one.phrase, one.reference): one.fused for one in records}

    def fuse(place: Place, group: UnitGroup, reference: Reference) -> Reference:
        if place not in boxes_of:
            return reference
        fused = boxes_of[place]
        return _with_unit(group, reference, UnitType.BOX, None if fused is None else fused.box)

    return replace(
        answer,
        grounded=_change(answer.grounded, fuse),
        problems=(*answer.problems, *problems),
        fusion=tuple(records),
    )


def add_bodies(
    answer: PointingAnswer, own: Mapping[Place, OwnBoxes], model: BodyModel
) -> PointingAnswer:
    """Add the keypoints of a pose model to the references that ask for keypoints.

    The pose model gets the reference's box unit, fused or not, if it has one; else the box of the
    box decoder, else that of the mask. A reference's score is the lowest of its known scores.

    Args:
        answer: References with the units of the decoders.
        own: Boxes of the references that ask for keypoints, as from `own_boxes`.
        model: Called once for all bodies of the answer.

    Raises:
        PromptError: The answer has no image.
    """
    boxes: dict[Place, Box] = {}
    problems: list[Problem] = []
    for place, (group, reference), _ in _references(answer.grounded):
        if place not in own:
            continue
        asked = [unit for unit in reference.units if isinstance(unit, Box)]
        others = [own[place][name].box for name in ("decoder", "mask") if name in own[place]]
        if asked or (others and UnitType.BOX not in group.unit_types):
            boxes[place] = [*asked, *others][0]
        else:
            words = f"{_named(answer, place)}: no box to look for a body in"
            problems.append(Problem("no_body_box", words))
    bodies = dict(zip(boxes, model.estimate(_image(answer), list(boxes.values())), strict=True))

    def add(place: Place, group: UnitGroup, reference: Reference) -> Reference:
        if place not in bodies:
            return reference
        body = bodies[place]
        with_body = _with_unit(group, reference, UnitType.KEYPOINT, body.unit)
        known = [score for score in (reference.score, body.score) if score is not None]
        return replace(with_body, score=min(known))

    return replace(
        answer,
        grounded=_change(answer.grounded, add),
        problems=(*answer.problems, *problems),
    )


def _sureness(found: ScoredBox) -> float:
    return -1.0 if found.score is None else found.score


def _agreement(boxes: Mapping[BoxSource, Box], threshold: float) -> tuple[BoxSource, ...]:
    own = tuple(name for name in boxes if name != "detector")
    if len(own) < 2:
        return own or tuple(boxes)
    if overlap_of_boxes(boxes["decoder"], boxes["mask"]) >= threshold:
        return own
    if "detector" not in boxes:
        return ("mask",)
    near = {name: overlap_of_boxes(boxes[name], boxes["detector"]) for name in own}
    return ("decoder",) if near["decoder"] > near["mask"] else ("mask",)


def _largest_agreement(
    boxes: Mapping[BoxSource, Box], threshold: float, weights: Mapping[BoxSource, float]
) -> tuple[BoxSource, ...]:
    pairs = {
        pair: overlap_of_boxes(boxes[pair[0]], boxes[pair[1]]) for pair in combinations(boxes, 2)
    }
    sets = [some for count in range(1, len(boxes) + 1) for some in combinations(boxes, count)]

    def worth(some: tuple[BoxSource, ...]) -> tuple[float, float]:
        return sum(weights[name] for name in some), sum(
            pairs[pair] for pair in combinations(some, 2)
        )

    agreeing = [
        some for some in sets if all(pairs[pair] >= threshold for pair in combinations(some, 2))
    ]
    return max(agreeing, key=worth)


def _detect(
    answer: PointingAnswer,
    own: Mapping[Place, OwnBoxes],
    detector: Detector,
    problems: list[Problem],
) -> dict[Place, list[ScoredBox]]:
    """Ask for the words of every phrase, once for phrases with equal words."""
    asked: dict[str, list[Place]] = defaultdict(list)
    for place in own:
        asked[" ".join(answer.phrases[place[0]].text.lower().split())].append(place)
    found: dict[Place, list[ScoredBox]] = {}
    image = _image(answer)
    for tag, places in asked.items():
        try:
            detections = detector.detect(image, tag)
        except PromptError as error:
            problems.append(Problem("tag_not_asked", f"{_named(answer, places[0])}: {error}"))
            continue
        scored = [ScoredBox(one.unit, one.score) for one in detections]
        found |= zip(
            places, share_detections([own[place] for place in places], scored), strict=True
        )
    return found


def _image(answer: PointingAnswer) -> ImageArray:
    if answer.image is None:
        raise PromptError("this answer has no image to look at again")
    return answer.image


def _named(answer: PointingAnswer, place: Place) -> str:
    return f"reference {place[1]} of phrase {answer.phrases[place[0]].text!r}"


def _references(text: GroundedText) -> Iterator[tuple[Place, tuple[UnitGroup, Reference], _Key]]:
    """Yield each reference with its place and its key: indices of phrase, group and reference."""
    for phrase_index, phrase in enumerate(text.phrases):
        count = 0
        for group_index, group in enumerate(phrase.groups):
            for number, reference in enumerate(group.references):
                key = (phrase_index, group_index, number)
                yield (phrase_index, count), (group, reference), key
                count += 1


def _change(
    text: GroundedText, change: Callable[[Place, UnitGroup, Reference], Reference]
) -> GroundedText:
    changed = {
        key: change(place, group, reference) for place, (group, reference), key in _references(text)
    }
    phrases = []
    for at, phrase in enumerate(text.phrases):
        groups = tuple(
            replace(
                group,
                references=tuple(
                    changed[at, number, index] for index in range(len(group.references))
                ),
            )
            for number, group in enumerate(phrase.groups)
        )
        phrases.append(replace(phrase, groups=groups))
    return replace(text, phrases=tuple(phrases))


def _with_unit(group: UnitGroup, reference: Reference, name: str, unit: Unit | None) -> Reference:
    units = [
        unit if kind == name else known
        for kind, known in zip(group.unit_types, reference.units, strict=True)
    ]
    return replace(reference, units=tuple(units))

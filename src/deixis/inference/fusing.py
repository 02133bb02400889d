"""Other models beside the decoders: fused boxes and bodies for the references of an answer.

An answer comes here when its references have their units. Each reference has up to two boxes of
its own, that of the box decoder and that of its mask. A detector that is asked for the words of
its phrase may give a third (u-LLaVA, figure 2), and a pose model that is asked with its box gives
the keypoints that no decoder gave (REF-VLM, figure 1a, "agent tools").
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from deixis.errors import PromptError
from deixis.geometry import Box, Keypoints, Mask
from deixis.inference.answer import PointingAnswer
from deixis.inference.fusion import (
    BoxSource,
    FusedReference,
    FusionStrategy,
    ScoredBox,
    fuse_boxes,
    gather_sources,
    share_detections,
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
"""A phrase of an answer and a reference among all of its own."""

OwnBoxes = Mapping[BoxSource, ScoredBox]


@runtime_checkable
class Detector(Protocol):
    """Finds boxes for a phrase, such as `deixis.models.decoders.grounding.GroundingDetector`."""

    def detect(self, image: ImageArray, phrase: str) -> Sequence[Found[Box]]:
        """Boxes in pixels of the image, maybe none; PromptError where it is no phrase."""


@runtime_checkable
class BodyModel(Protocol):
    """Finds bodies in boxes, such as `deixis.models.decoders.grounding.PoseEstimator`."""

    def estimate(self, image: ImageArray, boxes: Sequence[Box]) -> Sequence[Found[Keypoints]]:
        """The body in each box, in order, in pixels of the image."""


@runtime_checkable
class LatentUnits(Protocol):
    """What the decoders make of the references of one answer, by their position."""

    def attempt(self, reference: int, name: str) -> Unit | None:
        """A unit in source pixels; None where there is no decoder or it gives nothing sound."""

    def chance(self, reference: int, name: str) -> float | None:
        """How sure the decoder is of a box or a mask; None where there is none."""


def own_boxes(
    text: GroundedText, slots: Sequence[ReferenceSlot], latent: LatentUnits, unit_type: str
) -> dict[Place, OwnBoxes]:
    """The boxes that references have by themselves, for those that were asked for a unit type.

    A reference that was asked for only one of box and mask is decoded to the other too. A box
    that the model wrote in its words counts as the decoder's, and nothing says how sure it is.
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
    """Give references one box of all sources; their unit types, masks and scores stay.

    Args:
        answer: References with the units of the decoders.
        own: Their boxes, as from `own_boxes`; a reference that is not there is left alone.
        strategy: As for `fuse_boxes`.
        detector: Asked once for the words of each phrase.

    Raises:
        PromptError: There is a detector, and the answer has no image.
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
    """Give references that were asked for keypoints the body in their box.

    The box is the reference's own unit, fused or not, where it was asked for one; else what the
    box decoder makes of it, else its mask's. A reference's score is the lowest that is known.

    Args:
        answer: References with the units of the decoders.
        own: Boxes of those that were asked for keypoints, as from `own_boxes`.
        model: Asked once for all bodies of the answer.

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


def _detect(
    answer: PointingAnswer,
    own: Mapping[Place, OwnBoxes],
    detector: Detector,
    problems: list[Problem],
) -> dict[Place, list[ScoredBox]]:
    """Ask for the words of every phrase, once for phrases of the same words."""
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
    """Every reference with its place and its phrase's, group's and own number in the group."""
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

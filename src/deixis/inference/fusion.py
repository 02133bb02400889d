"""One box from several sources (u-LLaVA 4.5 and figure 2).

For one reference, the location decoder gives a box, the mask decoder a mask that has a box, and a
detector that was asked for the generated tag may give a third. The paper says that all of them
make the final box, and not how; here each way has a name, and `compare_fusion` says how good every
source and every way was, so that the fused figure never stands alone. All boxes are in pixels of
the source image.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Literal, get_args

import numpy as np
from scipy.optimize import linear_sum_assignment

from deixis.errors import GeometryError, PromptError
from deixis.geometry import Box, Mask, box_iou, stack_boxes
from deixis.metrics.bootstrap import Interval, bootstrap_interval
from deixis.metrics.comprehension import ComprehensionAccuracy, ComprehensionScore
from deixis.metrics.thresholds import Inequality, passes

BoxSource = Literal["decoder", "mask", "detector"]
"""Where a box comes from."""

FusionStrategy = Literal["agreement", "decoder", "mask", "mean", "iou_vote", "score"]
"""How boxes become one; see `fuse_boxes`."""

SOURCES: tuple[BoxSource, ...] = get_args(BoxSource)
STRATEGIES: tuple[FusionStrategy, ...] = get_args(FusionStrategy)


@dataclass(frozen=True, slots=True)
class ScoredBox:
    """A box and how sure its source is, in [0, 1]; None where the source does not say.

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
    """A box, the sources it was made of, and the strategy that made it."""

    box: Box
    sources: tuple[BoxSource, ...]
    strategy: FusionStrategy


@dataclass(frozen=True, slots=True)
class FusedReference:
    """Where the box of one reference of an answer comes from.

    The reference is ``answer.phrases[phrase].references[reference]``. ``found`` has the box of
    every source that gave one; ``fused`` is None where the strategy had none to go by, and the
    reference has no box then.
    """

    phrase: int
    reference: int
    found: Mapping[BoxSource, ScoredBox]
    strategy: FusionStrategy
    fused: FusedBox | None


@dataclass(frozen=True, slots=True)
class Gain:
    """What a strategy changes against the box decoder alone, sample by sample.

    ``accuracy`` and ``mean_iou`` are differences with their 95 % intervals, the samples drawn in
    pairs. ``num_won`` samples are right with the strategy alone, ``num_lost`` with the decoder
    alone.
    """

    accuracy: float
    accuracy_interval: Interval
    mean_iou: float
    mean_iou_interval: Interval
    num_won: int
    num_lost: int


@dataclass(frozen=True, slots=True)
class FusionReport:
    """How good each source and each strategy was on the same samples.

    A sample without a box counts as wrong; ``num_unparsed`` of a score says how many there were.
    ``gains`` sets each strategy beside the box decoder, which answers without fusion.
    ``any_right`` is the share of samples where at least one source was right: no strategy that
    picks a source can pass it.
    """

    sources: Mapping[BoxSource, ComprehensionScore]
    fused: Mapping[FusionStrategy, ComprehensionScore]
    gains: Mapping[FusionStrategy, Gain]
    any_right: float
    num_examples: int

    def to_dict(self) -> dict[str, object]:
        """Return the report as JSON can hold it."""
        return {
            "sources": {name: asdict(score) for name, score in self.sources.items()},
            "fused": {name: asdict(score) for name, score in self.fused.items()},
            "gains": {name: asdict(gain) for name, gain in self.gains.items()},
            "any_right": self.any_right,
            "num_examples": self.num_examples,
        }


def read_strategy(name: str) -> FusionStrategy:
    """Check the name of a strategy.

    Raises:
        PromptError: There is none of that name.
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
    """Give the sources that have a box.

    Args:
        decoder: What the location decoder says.
        mask: What the mask decoder says; an empty mask is no box.
        mask_score: How sure the mask decoder is.
        detections: What a detector found for the tag; the one with the highest score is taken,
            the first among equals.
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
    """Give each of the references that share a tag its detections.

    A reference that is alone gets them all. Several get one each at most: together, the ones that
    overlap their own boxes most; a detection that overlaps none of a reference's boxes is not
    its.

    Args:
        own: The boxes that each reference has without a detector.
        detections: What a detector found for the tag.
    """
    if len(own) == 1:
        return [list(detections)]
    near = np.array(
        [
            [
                max((_overlap(box.box, each.box) for box in boxes.values()), default=0.0)
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
    """Make one box of the sources that have one.

    * ``agreement``: the mean of decoder and mask where their IoU reaches ``threshold``; else the
      one that overlaps the detector's box more, or the mask's without a detector. A source that is
      alone is taken.
    * ``decoder``, ``mask``: that source and no other.
    * ``mean``: the weighted mean of all corners.
    * ``iou_vote``: the weighted mean of the sources that agree: of all sets in which every two
      boxes have an IoU of at least ``threshold``, the one with the largest sum of weights, then
      with the largest sum of IoU.
    * ``score``: the source that is surest; one that does not say how sure it is comes last.

    What is still equal goes in the order decoder, mask, detector.

    Args:
        found: Boxes by source, as from `gather_sources`.
        strategy: One of those above.
        threshold: Least IoU at which two boxes are the same thing.
        weights: How much each source counts for ``mean`` and ``iou_vote``; 1 by default.

    Returns:
        The box; None where no source that the strategy uses has one.

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


def compare_fusion(
    samples: Iterable[tuple[Mapping[BoxSource, ScoredBox], Box]],
    *,
    strategies: Sequence[FusionStrategy] = STRATEGIES,
    threshold: float = 0.5,
    weights: Mapping[BoxSource, float] | None = None,
    inequality: Inequality = ">",
    seed: int = 0,
) -> FusionReport:
    """Say how good every source and every strategy is against the truth.

    Args:
        samples: For each, the boxes by source and the true box.
        strategies: Which to try.
        threshold: As for `fuse_boxes`.
        weights: As for `fuse_boxes`.
        inequality: How an IoU meets 0.5 to be right.
        seed: Draws the intervals.

    Raises:
        BenchmarkError: There is no sample.
        GeometryError: A weight is not positive.
    """
    of_sources = {name: ComprehensionAccuracy(inequality=inequality) for name in SOURCES}
    of_fused = {name: ComprehensionAccuracy(inequality=inequality) for name in strategies}
    decoded: list[float] = []
    made: dict[FusionStrategy, list[float]] = {name: [] for name in strategies}
    any_right: list[bool] = []
    for found, target in samples:
        overlaps = {
            name: counter.update(found[name].box if name in found else None, target)
            for name, counter in of_sources.items()
        }
        decoded.append(overlaps["decoder"])
        any_right.append(any(passes(each, 0.5, inequality) for each in overlaps.values()))
        for name, fused_counter in of_fused.items():
            fused = fuse_boxes(found, name, threshold=threshold, weights=weights)
            made[name].append(fused_counter.update(None if fused is None else fused.box, target))
    return FusionReport(
        {name: counter.compute(seed=seed) for name, counter in of_sources.items()},
        {name: counter.compute(seed=seed) for name, counter in of_fused.items()},
        {name: _gain(found, decoded, inequality, seed=seed) for name, found in made.items()},
        sum(any_right) / len(any_right),
        len(any_right),
    )


def _gain(
    made: Sequence[float], decoded: Sequence[float], inequality: Inequality, *, seed: int
) -> Gain:
    right, before = (
        np.array([passes(each, 0.5, inequality) for each in overlaps], dtype=np.float64)
        for overlaps in (made, decoded)
    )
    hits, overlaps = right - before, np.array(made) - np.array(decoded)
    return Gain(
        float(hits.mean()),
        bootstrap_interval(hits, seed=seed),
        float(overlaps.mean()),
        bootstrap_interval(overlaps, seed=seed),
        int((hits > 0).sum()),
        int((hits < 0).sum()),
    )


def _sureness(found: ScoredBox) -> float:
    return -1.0 if found.score is None else found.score


def _overlap(first: Box, second: Box) -> float:
    return float(box_iou(first.as_array()[None], second.as_array()[None])[0, 0])


def _agreement(boxes: Mapping[BoxSource, Box], threshold: float) -> tuple[BoxSource, ...]:
    own = tuple(name for name in boxes if name != "detector")
    if len(own) < 2:
        return own or tuple(boxes)
    if _overlap(boxes["decoder"], boxes["mask"]) >= threshold:
        return own
    if "detector" not in boxes:
        return ("mask",)
    near = {name: _overlap(boxes[name], boxes["detector"]) for name in own}
    return ("decoder",) if near["decoder"] > near["mask"] else ("mask",)


def _largest_agreement(
    boxes: Mapping[BoxSource, Box], threshold: float, weights: Mapping[BoxSource, float]
) -> tuple[BoxSource, ...]:
    pairs = {pair: _overlap(boxes[pair[0]], boxes[pair[1]]) for pair in combinations(boxes, 2)}
    sets = [some for count in range(1, len(boxes) + 1) for some in combinations(boxes, count)]

    def worth(some: tuple[BoxSource, ...]) -> tuple[float, float]:
        return sum(weights[name] for name in some), sum(
            pairs[pair] for pair in combinations(some, 2)
        )

    agreeing = [
        some for some in sets if all(pairs[pair] >= threshold for pair in combinations(some, 2))
    ]
    return max(agreeing, key=worth)

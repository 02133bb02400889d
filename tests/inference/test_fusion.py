"""Boxes of several sources fused by each strategy."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deixis.errors import GeometryError
from deixis.geometry import Box, Mask
from deixis.inference.fusion import fuse_boxes, gather_sources
from deixis.inference.pointing_answer import (
    SOURCES,
    STRATEGIES,
    BoxSource,
    FusionStrategy,
    ScoredBox,
)

LEFT, NEAR, RIGHT = Box(0, 0, 10, 10), Box(1, 0, 11, 10), Box(30, 0, 40, 10)


def fused_sources(
    found: dict[BoxSource, Box], strategy: FusionStrategy = "agreement"
) -> tuple[BoxSource, ...]:
    fused = fuse_boxes({name: ScoredBox(box) for name, box in found.items()}, strategy)
    assert fused is not None
    return fused.sources


def test_only_sources_with_a_box_count() -> None:
    pixels = np.zeros((20, 30), dtype=bool)
    pixels[3:7, 5:9] = True
    found = gather_sources(
        decoder=ScoredBox(LEFT, 0.5),
        mask=Mask(pixels),
        mask_score=0.25,
        detections=[ScoredBox(NEAR, 0.1), ScoredBox(RIGHT, 0.9), ScoredBox(LEFT)],
    )
    assert found == {
        "decoder": ScoredBox(LEFT, 0.5),
        "mask": ScoredBox(Box(5, 3, 9, 7), 0.25),
        "detector": ScoredBox(RIGHT, 0.9),
    }
    assert gather_sources(mask=Mask(np.zeros((4, 4), dtype=bool))) == {}


def test_agreement_is_the_mean_of_agreeing_sources() -> None:
    fused = fuse_boxes({"decoder": ScoredBox(LEFT), "mask": ScoredBox(NEAR)})
    assert fused is not None
    assert fused.box == Box(0.5, 0, 10.5, 10)
    assert fused.sources == ("decoder", "mask")


def test_agreement_follows_the_detector_if_the_others_disagree() -> None:
    apart: dict[BoxSource, Box] = {"decoder": LEFT, "mask": RIGHT}
    assert fused_sources(apart) == ("mask",)
    assert fused_sources({**apart, "detector": NEAR}) == ("decoder",)
    assert fused_sources({**apart, "detector": Box(31, 1, 40, 10)}) == ("mask",)
    # it overlaps neither
    assert fused_sources({**apart, "detector": Box(60, 60, 70, 70)}) == ("mask",)


@pytest.mark.parametrize("source", SOURCES)
def test_agreement_uses_a_single_source(source: BoxSource) -> None:
    assert fused_sources({source: LEFT}) == (source,)


def test_a_named_source_gives_its_box_or_none() -> None:
    found: dict[BoxSource, ScoredBox] = {"decoder": ScoredBox(LEFT), "detector": ScoredBox(NEAR)}
    decoder = fuse_boxes(found, "decoder")
    assert decoder is not None
    assert decoder.box == LEFT
    assert fuse_boxes(found, "mask") is None


def test_the_vote_excludes_sources_that_disagree() -> None:
    for places in permutations((LEFT, NEAR, RIGHT)):
        found = {name: ScoredBox(box) for name, box in zip(SOURCES, places, strict=True)}
        fused = fuse_boxes(found, "iou_vote")
        assert fused is not None
        assert fused.box == Box(0.5, 0, 10.5, 10)


def test_weights_decide_a_vote_and_shift_a_mean() -> None:
    found = {name: ScoredBox(box) for name, box in zip(SOURCES, (LEFT, NEAR, RIGHT), strict=True)}
    heavy = fuse_boxes(found, "iou_vote", weights={"detector": 3.0})
    assert heavy is not None
    assert heavy.box == RIGHT
    mean = fuse_boxes(
        {"decoder": found["decoder"], "mask": found["mask"]}, "mean", weights={"mask": 3}
    )
    assert mean is not None
    assert mean.box == Box(0.75, 0, 10.75, 10)


def test_the_source_with_the_highest_score_wins_and_one_without_a_score_is_last() -> None:
    found: dict[BoxSource, ScoredBox] = {
        "decoder": ScoredBox(LEFT),
        "mask": ScoredBox(NEAR, 0.0),
        "detector": ScoredBox(RIGHT, 0.0),
    }
    fused = fuse_boxes(found, "score")
    assert fused is not None
    assert fused.sources == ("mask",)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_without_sources_there_is_no_box(strategy: FusionStrategy) -> None:
    assert fuse_boxes({}, strategy) is None


def boxes() -> st.SearchStrategy[Box]:
    corner, side = st.floats(0, 50), st.floats(1, 50)
    return st.builds(lambda x, y, w, h: Box(x, y, x + w, y + h), corner, corner, side, side)


@given(
    st.dictionaries(st.sampled_from(SOURCES), boxes(), min_size=1),
    st.sampled_from(STRATEGIES),
    st.floats(0, 1),
)
def test_a_fused_box_lies_within_the_union_of_its_sources(
    found: dict[BoxSource, Box], strategy: FusionStrategy, threshold: float
) -> None:
    scored = {name: ScoredBox(box) for name, box in found.items()}
    fused = fuse_boxes(scored, strategy, threshold=threshold)
    if fused is None:
        assert strategy in {"decoder", "mask"}
        return
    used = [found[name].as_array() for name in fused.sources]
    assert (fused.box.as_array() >= np.min(used, axis=0) - 1e-9).all()
    assert (fused.box.as_array() <= np.max(used, axis=0) + 1e-9).all()
    backwards = dict(reversed(scored.items()))
    assert fuse_boxes(backwards, strategy, threshold=threshold) == fused


def test_invalid_weights_and_strategies_are_refused() -> None:
    found: dict[BoxSource, ScoredBox] = {"decoder": ScoredBox(LEFT)}
    for weight in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(GeometryError, match="fusion weights: expected positive numbers"):
            fuse_boxes(found, "mean", weights={"decoder": weight})
    with pytest.raises(GeometryError, match=r"score 1.5 of box .* is not in \[0, 1\]"):
        ScoredBox(LEFT, 1.5)

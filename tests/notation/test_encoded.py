import pytest

from deixis.errors import NotationError
from deixis.geometry import Box, ImageSize, Point
from deixis.notation import Decoded, Tokens, Triplets, fill, split_markers
from deixis.structures import Reference

SIZE = ImageSize(10, 10)
BOX = Box(1, 2, 3, 4)


@pytest.fixture
def decoded() -> Decoded:
    notation = Triplets()
    raw = "<Phrase>dogs</Phrase>(<Unit>box</Unit>[0]<REF>,<Unit>box,point</Unit>[0]<REF>)"
    return notation.decode(split_markers(raw, notation.spelling), SIZE)


def test_units_and_scores_go_into_their_slots(decoded: Decoded) -> None:
    filled = fill(decoded, [(None,), (BOX, Point(1, 1))], [None, 0.25])
    assert filled.phrases[0].references == (
        Reference((None,)),
        Reference((BOX, Point(1, 1)), 0.25),
    )


def test_a_reference_of_two_slots_has_their_lower_score() -> None:
    notation = Tokens()
    shared = notation.decode(split_markers("<tag>dog</tag><LOC><SEG>", notation.spelling), SIZE)
    (reference,) = fill(shared, [(BOX,), (None,)], [0.25, 0.75]).phrases[0].references
    assert reference == Reference((BOX, None), 0.25)


def test_counts_that_do_not_fit_the_slots_are_refused(decoded: Decoded) -> None:
    with pytest.raises(NotationError, match="expected units for 2 slots, got 1"):
        fill(decoded, [(None,)])
    with pytest.raises(NotationError, match="expected scores for 2 slots, got 1"):
        fill(decoded, [(None,), (None, None)], [0.5])
    with pytest.raises(
        NotationError, match=r"slot 1 has unit types \('box', 'point'\), got 1 units"
    ):
        fill(decoded, [(None,), (None,)])

import pytest

from deixis.errors import GeometryError, PromptError
from deixis.geometry import Box
from deixis.structures import GroundedPhrase, GroundedText, Reference, Turn, UnitGroup

TEXT = "The cat on the mat sleeps."
OUTER = GroundedPhrase("cat on the mat", 4, 18)
INNER = GroundedPhrase("mat", 15, 18)


def test_a_phrase_may_hold_another_outermost_first() -> None:
    assert GroundedText(TEXT, (OUTER, INNER)).phrases == (OUTER, INNER)


@pytest.mark.parametrize(
    ("phrases", "message"),
    [
        ((GroundedPhrase("cat", 5, 8),), "is not the text at"),
        ((GroundedPhrase("sleeps.x", 19, 27),), "lies outside a text of 26"),
        ((INNER, OUTER), "out of order"),
        ((GroundedPhrase("cat on", 4, 10), GroundedPhrase("on the", 8, 14)), "crosses"),
    ],
)
def test_phrases_that_do_not_fit_their_text_are_refused(
    phrases: tuple[GroundedPhrase, ...], message: str
) -> None:
    with pytest.raises(GeometryError, match=message):
        GroundedText(TEXT, phrases)


def test_references_have_a_unit_for_each_type_of_their_group() -> None:
    box = Box(0, 0, 1, 1)
    with pytest.raises(GeometryError, match="has 1 units"):
        UnitGroup(("box", "mask"), (Reference((box,)),))
    with pytest.raises(GeometryError, match="at least one unit type"):
        UnitGroup((), ())
    with pytest.raises(GeometryError, match="not in"):
        Reference((box,), score=1.5)


def test_a_phrase_lists_what_was_decoded_and_keeps_scores_of_what_was_not() -> None:
    box = Box(0, 0, 1, 1)
    group = UnitGroup(("box", "pose"), (Reference((box, None), 0.5), Reference((None, None))))
    phrase = GroundedPhrase("cat", 4, 7, (group,))
    assert phrase.boxes == (box,)
    assert phrase.masks == ()
    assert phrase.scores == (0.5, None)


@pytest.mark.parametrize("question", [(), ("",), ("  ", "\n")])
def test_a_question_without_text_or_region_is_refused(question: tuple[str, ...]) -> None:
    with pytest.raises(PromptError, match="a question is empty"):
        Turn(question)

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_model

import deixis
from deixis.data.scenes import draw_scene
from deixis.geometry import ImageSize
from deixis.inference import Predictor, generate
from deixis.inference.second_look import SecondLook, Seen
from deixis.notation import Decoded, Marker, Triplets
from deixis.processing.batch import collate
from deixis.structures import Conversation, Turn

REPOSITORY = Path(__file__).parents[2]
WORDS = {"circle": 0, "red": 1, "red shirt": 2, "A": 3, "box": 4, "a": 5}
CHANCE = st.floats(0, 1)


SEEN = st.builds(Seen, st.none() | CHANCE, st.tuples(CHANCE, CHANCE))
QUESTION = st.sampled_from(
    ["the red circle", "the circle on the left", "Find the lower right box."]
)


@given(
    question=QUESTION,
    points=st.booleans(),
    runner_up=st.floats(0, 0.49),
    seen=st.lists(SEEN, max_size=3),
)
def test_a_skipped_second_look_would_have_changed_nothing(
    *, question: str, points: bool, runner_up: float, seen: list[Seen]
) -> None:
    look = SecondLook(WORDS)
    pointing = 1 - runner_up if points else runner_up
    if not look.needed(points=points, runner_up=runner_up):
        assert look.believes(question, pointing=pointing, seen=seen) == points


@given(question=QUESTION, pointing=CHANCE, seen=st.lists(SEEN, min_size=1, max_size=4), more=SEEN)
def test_more_evidence_never_turns_an_answer_into_a_denial(
    question: str, pointing: float, seen: list[Seen], more: Seen
) -> None:
    look = SecondLook(WORDS)
    if look.believes(question, pointing=pointing, seen=seen):
        assert look.believes(question, pointing=pointing, seen=[*seen, more])


def test_evidence_decides_between_close_first_tokens() -> None:
    look = SecondLook(WORDS)
    left, right = (0.2, 0.5), (0.8, 0.5)
    assert look.believes("red circle", pointing=0.45, seen=[Seen(0.95, left)])
    assert not look.believes("red circle", pointing=0.9, seen=[Seen(0.01, left), Seen(0.02, right)])
    assert not look.believes("red circle", pointing=0.1, seen=[Seen(1.0, left)])
    assert look.believes("red circle", pointing=0.6, seen=[])
    there = "the circle on the left"
    assert look.believes(there, pointing=0.3, seen=[Seen(0.95, left)])
    assert not look.believes(there, pointing=0.6, seen=[Seen(0.95, right)])


def test_without_concepts_there_is_no_second_look() -> None:
    assert not SecondLook({}).needed(points=True, runner_up=0.5)


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("red circle", (0, 1)),
        ("circles", (0,)),
        ("boxes", (4,)),
        ("person in a red shirt", (1, 2)),
        ("letter A", (3,)),
        ("A circle", (0,)),
        ("shirt", ()),
        ("", ()),
    ],
)
def test_concepts_of_a_phrase(phrase: str, expected: tuple[int, ...]) -> None:
    assert SecondLook(WORDS).concepts(phrase) == expected


def test_an_answer_starts_with_the_given_token_and_records_its_runner_up() -> None:
    model, processor = tiny_model()
    tokenizer = processor.tokenizer
    image = np.zeros((40, 40, 3), np.uint8)
    row = processor.row(
        Conversation("q", image, ImageSize(40, 40), (Turn(("Segment every star.",)),))
    )
    batch = collate([row], pad_id=tokenizer.pad_id, left=True)
    (plain,), _ = generate(model, batch, end_id=tokenizer.end_id, max_new_tokens=6)
    other, chance = plain.runner_up
    assert 0 < chance <= 0.5
    assert plain.ids[0] != other
    (told,), _ = generate(
        model, batch, end_id=tokenizer.end_id, max_new_tokens=6, begin=torch.tensor([other])
    )
    assert told.ids[0] == other
    assert told.runner_up == plain.runner_up


@pytest.fixture(scope="module")
def shipped() -> Predictor:
    return deixis.load("scenes-tiny")


def test_recognised_instances_are_not_denied(shipped: Predictor) -> None:
    """The language model alone denies this circle in every image."""
    alone = deixis.load("scenes-tiny", second_look=False)
    question = (REPOSITORY / "examples" / "scene-1.png", "Where is the red circle?")
    assert alone.ask(*question).phrases == ()
    (phrase,) = shipped.ask(*question).phrases
    (box,) = phrase.boxes
    assert np.allclose([box.x1, box.y1, box.x2, box.y2], [2, 94, 68, 160], atol=6)
    # an absent circle stays denied
    assert (
        shipped.ask(REPOSITORY / "examples" / "scene-4.png", "Where is the red circle?").phrases
        == ()
    )
    assert "presence" in shipped.decoding
    assert "presence" not in alone.decoding


def test_answers_of_a_second_look_do_not_depend_on_their_neighbours(shipped: Predictor) -> None:
    scenes = [draw_scene(77, index, level="plain") for index in range(3)]
    asked = [(scene.image, f"the {color} circle") for scene in scenes for color in ("red", "blue")]
    together = shipped.ask_many(asked)
    alone = [shipped.ask(*question) for question in asked]
    assert [one.raw for one in together] == [one.raw for one in alone]


class CountedParses(Triplets):
    """Triplets that count the calls that parse an answer."""

    parses: ClassVar[int] = 0

    def decode(self, pieces: Sequence[Marker | str], size: ImageSize) -> Decoded:
        CountedParses.parses += 1
        return super().decode(pieces, size)


def test_an_answer_is_parsed_once(shipped: Predictor) -> None:
    predictor = Predictor(shipped.model, shipped.processor.tokenizer, second_look=False)
    predictor.processor.notation = CountedParses()
    predictor.ask_many([(np.zeros((64, 64, 3), np.uint8), "Segment every star.")] * 3)
    assert CountedParses.parses == 3

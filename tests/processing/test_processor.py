import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_model

from deixis.data.scenes import draw_scene
from deixis.data.scenes.scene_sample import scene_sample
from deixis.data.tasks import sample_turns
from deixis.errors import DeixisError, ImageError, PromptError
from deixis.geometry import Box, ImageSize, Letterbox, Mask, Point, Scribble
from deixis.notation import Marker
from deixis.processing.batch import collate
from deixis.processing.processor import sample_mask
from deixis.structures import (
    IGNORE_INDEX,
    Conversation,
    GroundedPhrase,
    GroundedText,
    Instance,
    QuestionPart,
    Reference,
    Turn,
    UnitGroup,
    Video,
)

IMAGE = np.zeros((40, 80, 3), np.uint8)


def ask(*parts: QuestionPart, answer: GroundedText | None = None) -> Conversation:
    return Conversation("test", IMAGE, ImageSize(40, 80), (Turn(parts, answer),))


def test_only_answers_and_their_end_tokens_have_a_loss() -> None:
    _, processor = tiny_model()
    row = processor.row(ask("Where is it?", answer=GroundedText("There.")))
    labelled = row.labels != IGNORE_INDEX
    tokenizer = processor.tokenizer
    expected = [*tokenizer.encode_text("There."), tokenizer.end_id]
    assert row.labels[labelled].tolist() == expected
    assert row.input_ids[labelled].tolist() == expected


def test_boxes_and_masks_are_placed_on_the_canvas() -> None:
    _, processor = tiny_model()
    box = Box(20, 10, 40, 20)
    mask = Mask.from_box(box, ImageSize(40, 80))
    phrase = GroundedPhrase("it", 0, 2, (UnitGroup(("box", "mask"), (Reference((box, mask)),)),))
    row = processor.row(ask("Where?", answer=GroundedText("it", (phrase,))))
    # 40x80 on a 64 canvas: scale 0.8, 16 px of padding above
    assert row.boxes[0] * 64 == pytest.approx([24, 28, 16, 8])
    rows, columns = np.nonzero(row.masks[0])
    assert (rows.min() * 2, rows.max() * 2 + 2) == (24, 32)
    assert (columns.min() * 2, columns.max() * 2 + 2) == (16, 32)
    references = (row.input_ids == processor.tokenizer.marker_ids[Marker.REFERENCE]).sum()
    assert references == len(row.boxes) == 1


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    seed=st.integers(0, 100),
    grid=st.sampled_from([4, 8, 16]),
)
def test_sampled_masks_keep_their_area(height: int, width: int, seed: int, grid: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) > 0.5
    letterbox = Letterbox(ImageSize(height, width), 64)
    share = sample_mask(mask, letterbox, grid)
    cell = 64 / grid / letterbox.scale
    assert share.sum() * cell**2 == pytest.approx(mask.sum(), rel=1e-4, abs=1e-3)
    assert share.min() >= 0
    assert share.max() <= 1 + 1e-5


def test_the_mask_of_a_thin_instance_is_not_empty() -> None:
    _, processor = tiny_model()
    array = np.zeros((40, 80), bool)
    array[20, 10:70] = True
    group = UnitGroup(("mask",), (Reference((Mask(array),)),))
    answer = GroundedText("The wire.", (GroundedPhrase("wire", 4, 8, (group,)),))
    image = np.zeros((40, 80, 3), np.uint8)
    turn = Turn(("What is thin?",), answer)
    row = processor.row(Conversation("one", image, ImageSize(40, 80), (turn,)))
    rows, columns = np.nonzero(row.masks[0])
    assert set(rows) == {16}
    assert (columns.min(), columns.max()) == (4, 27)


def test_a_thin_region_covers_every_cell_that_it_crosses() -> None:
    _, processor = tiny_model()
    # 80 x 40 on 64 x 64, seen as 32 x 32 cells of 2.5 pixels
    row = processor.row(ask("What is ", Scribble(((0.0, 20.5), (80.0, 20.5)), 1.0), "?"))
    (covered,) = row.regions
    assert (covered.any(0)).all()
    assert covered.max() < 0.5
    assert covered.sum() * 2.5**2 == pytest.approx(80.0, rel=0.02)


@pytest.mark.parametrize(
    "region",
    [
        Box(79.5, 39.5, 80, 40),
        Point(0, 0),
        Scribble(((1.0, 1.0), (2.0, 30.0)), 0.1),
        Mask.from_box(Box(3, 3, 4, 4), ImageSize(40, 80)),
    ],
)
def test_small_regions_cover_at_least_one_cell(region: Box | Point | Scribble | Mask) -> None:
    _, processor = tiny_model()
    row = processor.row(ask("What is ", region, "?"))
    assert row.regions.shape == (1, 32, 32)
    assert row.regions[0].sum() > 0


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (Box(70, 10, 90, 20), "80"),
        (Point(200, 3), "outside"),
        (Mask.from_box(Box(0, 0, 5, 5), ImageSize(10, 10)), "does not fit"),
        (Scribble(((500.0, 500.0),), 3.0), "outside"),
    ],
)
def test_regions_off_the_image_are_refused(
    region: Box | Point | Scribble | Mask, message: str
) -> None:
    _, processor = tiny_model()
    with pytest.raises(DeixisError, match=message):
        processor.row(ask("What is ", region))


def test_empty_mask_prompt_is_refused() -> None:
    _, processor = tiny_model()
    with pytest.raises(PromptError, match="covers no pixel"):
        processor.row(ask("What is ", Mask(np.zeros((40, 80), bool))))


def eight_turns() -> Conversation:
    sample = scene_sample(draw_scene(3, 1, level="standard", split="train", long_side=64))
    turns = sample_turns(sample, np.random.default_rng(1), count=8)
    return Conversation("x", sample.image, sample.size, turns, independent=True)


def test_independent_turns_start_at_the_same_position_and_a_limit_leaves_turns_out() -> None:
    _, processor = tiny_model()
    conversation = eight_turns()
    row = processor.row(conversation)
    assert (row.num_turns, row.left_out) == (8, 0)
    starts = {int(row.positions[row.turns == turn][0]) for turn in range(1, 9)}
    assert len(starts) == 1
    text = len(row.input_ids) - processor.image_tokens
    short = processor.row(conversation, row_tokens=text // 2)
    assert 0 < short.num_turns < 8
    assert short.num_turns + short.left_out == 8
    assert len(short.input_ids) - processor.image_tokens <= text // 2
    # a limit equal to the length keeps all turns; one token less omits one
    assert processor.row(conversation, row_tokens=text).left_out == 0
    assert processor.row(conversation, row_tokens=text - 1).left_out > 0


@pytest.mark.parametrize("image_tokens", [1, 576])
def test_a_limit_counts_text_tokens_only(image_tokens: int) -> None:
    _, processor = tiny_model()
    few = processor.row(eight_turns(), row_tokens=60)
    processor.image_tokens = image_tokens
    row = processor.row(eight_turns(), row_tokens=60)
    assert row.left_out == few.left_out
    image = processor.tokenizer.marker_ids[Marker.IMAGE]
    assert (row.input_ids == image).sum() == image_tokens
    assert row.input_ids[row.turns > 0].tolist() == few.input_ids[few.turns > 0].tolist()


def test_a_row_that_no_turn_fits_into_is_refused_by_name() -> None:
    _, processor = tiny_model()
    message = r"conversation x: none of its 8 turns fits into row_tokens 3; expected at least (\d+)"
    with pytest.raises(PromptError, match=message) as raised:
        processor.row(eight_turns(), row_tokens=3)
    found = re.search(message, str(raised.value))
    assert found is not None
    needed = int(found[1])
    assert processor.row(eight_turns(), row_tokens=needed).num_turns == 1
    with pytest.raises(PromptError, match=f"row_tokens {needed - 1}"):
        processor.row(eight_turns(), row_tokens=needed - 1)


def test_left_padding_keeps_rows_whole() -> None:
    _, processor = tiny_model()
    rows = [processor.row(ask(text)) for text in ("a", "a much longer question about it")]
    batch = collate(rows, pad_id=processor.tokenizer.pad_id, left=True)
    for index, row in enumerate(rows):
        assert batch.input_ids[index][batch.turns[index] >= 0].tolist() == row.input_ids.tolist()
        assert batch.turns[index][-1] == 1


def test_a_question_with_regions_needs_an_image() -> None:
    _, processor = tiny_model()
    with pytest.raises(PromptError, match="has no image"):
        processor.row(Conversation("x", None, None, (Turn(("a", Box(0, 0, 1, 1))),)))
    # text without regions needs no image
    row = processor.row(Conversation("x", None, None, (Turn(("a",)),)))
    assert processor.tokenizer.marker_ids[Marker.IMAGE] not in row.input_ids


def test_a_conversation_about_a_video_is_refused() -> None:
    _, processor = tiny_model()
    video = Video(lambda: np.zeros((3, 4, 6, 3), np.uint8))
    with pytest.raises(
        ImageError, match="conversation c is about a video, which this model does not"
    ):
        processor.row(Conversation("c", video, ImageSize(4, 6), ()))


def test_cells_show_the_instances_at_their_centres_and_no_instance_is_lost() -> None:
    _, processor = tiny_model()
    sample = scene_sample(draw_scene(3, 1, level="standard", split="train", long_side=256))
    assert sample.size is not None
    row = processor.row(
        Conversation(sample.id, sample.image, sample.size, ()), instances=sample.instances
    )
    letterbox = processor.letterbox(sample.size)
    grid = processor.cell_grid
    cells = row.instances.cells.reshape(grid, grid)
    found = set()
    for y, x in np.ndindex(grid, grid):
        column = ((x + 0.5) * 64 / grid - letterbox.offset[0]) / letterbox.scale
        line = ((y + 0.5) * 64 / grid - letterbox.offset[1]) / letterbox.scale
        inside = 0 <= line < sample.size.height and 0 <= column < sample.size.width
        shown = {
            index
            for index, instance in enumerate(sample.instances)
            if inside and instance.mask is not None and instance.mask.array[int(line), int(column)]
        }
        assert shown <= {int(cells[y, x])}
        found |= shown
    assert len(found) > 1
    assert row.instances.concepts.shape == (len(sample.instances), 2)
    for index, instance in enumerate(sample.instances):
        assert row.instances.concepts[index, 1] == ("red" in instance.attributes)


def test_an_instance_between_the_centres_of_cells_takes_the_cell_it_covers_best() -> None:
    _, processor = tiny_model()
    size = ImageSize(64, 64)
    mask = np.zeros((64, 64), bool)
    mask[17:20, 8:11] = True  # centres lie at 4, 12, 20, ...
    instance = Instance("circle", Box(8, 17, 11, 20), mask=Mask(mask))
    row = processor.row(
        Conversation("x", np.zeros((64, 64, 3), np.uint8), size, ()), instances=[instance]
    )
    assert np.flatnonzero(row.instances.cells[0] == 0).tolist() == [2 * 8 + 1]
    assert row.instances.boxes[0].tolist() == pytest.approx([9.5 / 64, 18.5 / 64, 3 / 64, 3 / 64])
    assert row.instances.masks[0].sum() > 0
